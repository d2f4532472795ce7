"""OpenAI's old completions: a text and its continuation."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.core.providers.answers import Answer, Part, dicts, first, has_text
from askonce.core.providers.api import STREAM, STREAM_OPTIONS, Api, Left, Path, Stream
from askonce.core.providers.openai_chat import HOSTS, chat_gist
from askonce.core.providers.routes import DEPLOYED, MODEL, based, names_model, said
from askonce.core.providers.sse import begins

_PATHS = (
    Path("/v1/completions", "openai"),
    Path(f"/openai/(?:deployments/{MODEL}|v1)/completions", "azure"),
    Path(DEPLOYED + "/completions", fits=based),  # not Mistral's /v1/fim/completions, which has another shape
)


def _parts(value: Answer) -> Iterator[Part]:
    for choice in dicts(value.get("choices")):
        text = choice.get("text")
        yield Part(choice.get("finish_reason"), has_text(text), failed=bool(choice.get("error")), said=text)


API = Api(
    "completions",
    paths=_PATHS,
    asks=lambda body, named: said(body.get("prompt")) and (named or names_model(body)),
    left_out=(STREAM, STREAM_OPTIONS, Left("user", HOSTS, "an end user's id for abuse reports; not repeated")),
    shape=lambda v: v.get("object") == "text_completion" or {"text", "finish_reason"} <= first(v.get("choices")).keys(),
    signs=("object", "choices"),
    parts=_parts,
    tokens=(("usage",), ("prompt_tokens",), ("completion_tokens",)),
    stream=Stream(chat_gist, begins("data", "[DONE]"), lambda v: v.get("object") == "text_completion"),
)
