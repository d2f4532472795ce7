"""The pages of docs/recipes/gateway, run unchanged through `askonce serve`: the second time, nothing is paid.

Node's packages are not Python's: `make recipes` installs them beside the environments of other recipes, and says where
they are (``$ASKONCE_NODE``), as it does for LiteLLM's environment (``$ASKONCE_LITELLM``). Elsewhere, their pages are
skipped.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from askonce.testing.provider import Provider
from tests.gateway.served import served

PAGES = Path(__file__).parents[3] / "docs" / "recipes" / "gateway"
URL = "http://127.0.0.1:8181"
BLOCKS = [
    pytest.param(page.stem, language, code, id=f"{page.stem}-{number}")
    for page in sorted(PAGES.glob("*.md"))
    for number, (language, code) in enumerate(
        re.findall(r"```(sh|js|python)\n(.*?)```", page.read_text("utf-8"), re.DOTALL), 1
    )
]
NEEDED = {"langchain": ("langchain_openai", "langchain_anthropic"), "litellm": ("litellm",)}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `askonce serve`."""
    store = f"sqlite:///{tmp_path_factory.mktemp('gateway')}/answers.db"
    upstreams = [f"--upstream=/{name}={provider.url}" for name in ("openai", "anthropic")]
    with served("--url", store, *upstreams) as url:
        yield url


def program_of(language: str, code: str, tmp_path: Path) -> list[str]:
    """The command that runs a block."""
    if language == "sh":
        return ["bash", "-euc", code]
    if language == "python":
        return [os.environ.get("ASKONCE_LITELLM", sys.executable) if "litellm" in code else sys.executable, "-c", code]
    modules = Path(os.environ["ASKONCE_NODE"])
    file = modules / f"{tmp_path.name}.mjs"  # beside the packages, where an import looks for them
    file.write_text(code, "utf-8")
    return ["node", str(file)]


def reason_to_skip(page: str, language: str) -> str:
    """Why a block cannot run here, or ""."""
    if language == "sh":
        return "" if shutil.which("curl") else "curl is not installed"
    if language == "js":
        there = bool(shutil.which("node")) and (Path(os.environ.get("ASKONCE_NODE", "")) / "node_modules").is_dir()
        return "" if there else "Node or its packages are not installed here: make recipes"
    if page == "litellm" and "ASKONCE_LITELLM" in os.environ:
        return ""
    missing = [name for name in NEEDED.get(page, ()) if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed here: make recipes" if missing else ""


def shown(program: list[str], key: str) -> str:
    """What a program prints. The key is the page's own: answers go only to the credential that paid for them."""
    keys = {f"{name}_API_KEY": key for name in ("OPENAI", "ANTHROPIC")}
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "AI_SDK_LOG_WARNINGS": "false", "LANGSMITH_TRACING": "false"}
    done = subprocess.run(
        program, env={**os.environ, **keys, **local}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("page", "language", "code"), BLOCKS)
def test_a_recipe_pays_the_first_time_and_never_again(page, language, code, gateway, provider, tmp_path):
    if reason := reason_to_skip(page, language):
        pytest.skip(reason)
    assert URL in code
    program = program_of(language, code.replace(URL, gateway), tmp_path)
    with contextlib.ExitStack() as after:
        if language == "js":
            after.callback(Path(program[1]).unlink)
        before = provider.calls
        first = shown(program, tmp_path.name)
        paid = provider.calls
        assert paid > before
        assert shown(program, tmp_path.name) == first
        assert provider.calls == paid
    assert len(first) > 4


def test_every_page_but_the_table_of_agents_has_a_program_and_is_short():
    pages = {page.stem: page.read_text("utf-8") for page in PAGES.glob("*.md")}
    assert {str(param.values[0]) for param in BLOCKS} == pages.keys() - {"agents"}
    assert all(len(text.splitlines()) <= 50 for text in pages.values())
