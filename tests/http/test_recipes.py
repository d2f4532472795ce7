"""The pages of docs/recipes, run unchanged: the second time, nothing is paid.

Two of these SDKs need versions of OpenAI's that the others cannot have. Their pages are skipped in this environment,
and run by `make recipes`, which makes an environment for each. There (``$ASKONCE_RECIPE``) a skipped page is a failure.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from askonce.testing.answers import PATHS, answer

PAGES = Path(__file__).parents[2] / "docs" / "recipes"
NEEDED = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google-genai": "google.genai",
    "mistralai": "mistralai.client",
    "groq": "groq",
    "cohere": "cohere",
    "langchain-openai": "langchain_openai",
    "langchain-anthropic": "langchain_anthropic",
    "langchain-google-genai": "langchain_google_genai",
    "pydantic-ai": "pydantic_ai",
    "openai-agents": "agents",
    "instructor": "instructor",
    "litellm": "litellm",
}
KEYS = ("OPENAI", "ANTHROPIC", "GOOGLE", "MISTRAL", "GROQ", "CO", "GEMINI")
BLOCKS = [
    pytest.param(page.stem, code, id=f"{page.stem}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


class Internet:
    """Every provider there is: whatever host a request is for, it is answered here, and counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def answer(self, module: Any, request: Any) -> Any:
        path = request.url.path
        body = json.loads(request.read())
        self.calls[path] += 1
        return module.Response(200, json=self.said(path, body), headers={"x-request-id": f"req_{self.calls.total()}"})

    def said(self, path: str, body: Any) -> Any:
        if path.endswith(":generateContent"):
            part = {"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}
            return {"candidates": [part], "modelVersion": "gemini", "usageMetadata": {"promptTokenCount": 1}}
        if path.endswith("/v2/chat"):
            message = {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}
            return {"id": "c", "finish_reason": "COMPLETE", "message": message}
        protocol = next(protocol for end, protocol in PATHS.items() if path.endswith(end))
        made = answer(body, protocol)
        if body.get("tools"):
            function = body["tools"][0]["function"]
            filled = {name: 36 if kind["type"] == "integer" else "Ada" for name, kind in forms(function).items()}
            call = {"name": function["name"], "arguments": json.dumps(filled)}
            made["choices"][0]["message"] |= {
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": call}],
            }
            made["choices"][0]["finish_reason"] = "tool_calls"
        return made


def forms(function: Any) -> dict[str, Any]:
    return dict(function["parameters"]["properties"])


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Internet:
    """No request leaves this process; keys are there, and an empty store."""
    made = Internet()
    for module in (httpx2, httpx):

        def handle(_: Any, request: Any, module: Any = module) -> Any:
            return made.answer(module, request)

        async def handle_async(_: Any, request: Any, module: Any = module) -> Any:
            return made.answer(module, request)

        monkeypatch.setattr(module.HTTPTransport, "handle_request", handle)
        monkeypatch.setattr(module.AsyncHTTPTransport, "handle_async_request", handle_async)
    for name in KEYS:
        monkeypatch.setenv(f"{name}_API_KEY", "key-of-a-test")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("ASKONCE_URL", f"sqlite:///{tmp_path}/answers.db")
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "code"), BLOCKS)
def test_a_recipe_pays_the_first_time_and_never_again(page, code, internet, capsys):
    with warnings.catch_warnings(), suppress(DeprecationWarning):
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(NEEDED[page])
        except ImportError:
            if page == os.environ.get("ASKONCE_RECIPE"):
                raise
            pytest.skip(f"{page} is not installed here: make recipes")
    shown = []
    for paid in (True, False):
        before = internet.calls.total()
        exec(compile(code, f"{page}.md", "exec"), {"__name__": "__main__"})
        assert (internet.calls.total() > before) == paid, internet.calls
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert len(shown[0]) > 4


def test_every_recipe_has_a_page_and_every_page_a_recipe():
    assert {page.stem for page in PAGES.glob("*.md")} == NEEDED.keys() | {"index"}
    assert {str(param.values[0]) for param in BLOCKS} == NEEDED.keys()


@pytest.mark.parametrize("page", NEEDED)
def test_a_page_is_short(page):
    assert len((PAGES / f"{page}.md").read_text().splitlines()) <= 50
