"""OpenAI's old completions: a text, and what comes after it."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.core.providers.answers import Answer, Part, dicts, first, has_text
from askonce.core.providers.api import STREAM, STREAM_OPTIONS, Api, Left, Path, Stream
from askonce.core.providers.bodies import Body, names_model, said
from askonce.core.providers.openai_chat import HOSTS, chat_gist
from askonce.core.providers.paths import DEPLOYED, MODEL, based
from askonce.core.providers.sse import begins

__all__ = ["API"]

_COMPLETIONS = "/completions"
_PATHS = (
    Path("/v1" + _COMPLETIONS, "openai"),
    Path(f"/openai/(?:deployments/{MODEL}|v1){_COMPLETIONS}", "azure"),
    Path(DEPLOYED + _COMPLETIONS, fits=based),  # not Mistral's /v1/fim/completions, of another shape
)


def _asks(body: Body, named: bool) -> bool:
    return said(body.get("prompt")) and (named or names_model(body))


def _opens(value: Answer) -> bool:
    return value.get("object") == "text_completion"


def _shape(value: Answer) -> bool:
    return _opens(value) or {"text", "finish_reason"} <= first(value.get("choices")).keys()


def _parts(value: Answer) -> Iterator[Part]:
    for choice in dicts(value.get("choices")):
        text = choice.get("text")
        yield Part(choice.get("finish_reason"), has_text(text), failed=bool(choice.get("error")), said=text)


API = Api(
    "completions",
    _shape,
    _parts,
    (("usage",), ("prompt_tokens",), ("completion_tokens",)),
    ("object", "choices"),
    _PATHS,
    _asks,
    (STREAM, STREAM_OPTIONS, Left("user", HOSTS, "an end user's id for abuse reports; not repeated")),
    stream=Stream(chat_gist, begins("data", "[DONE]"), _opens),
)
