"""Ollama's chat. It passes over HTTP, because it streams by default. A plain `fetch` may bring its answers."""

from __future__ import annotations

from askonce.core.providers.answers import Answer, a_dict, dicts, single_parts
from askonce.core.providers.api import Api, Stream
from askonce.core.providers.streamed import Read


def _gist(found: Read) -> Answer | None:
    """The gist of its lines: each holds a piece of the message or of the response, and the last one says done."""
    last = next((value for value in reversed(found.values) if value.get("done")), None)
    if last is None:
        return None
    pieces = [a_dict(value.get("message")) for value in found.values]
    texts = [value.get("response", message.get("content")) for value, message in zip(found.values, pieces, strict=True)]
    calls = [call for message in pieces for call in dicts(message.get("tool_calls"))]
    message = {"content": "".join(text for text in texts if isinstance(text, str)), "tool_calls": calls}
    ended = last.get("done_reason", "stop")
    return {"model": "", "done": True, "done_reason": ended, "message": message}


API = Api(
    "ollama",
    shape=lambda v: isinstance(v.get("message"), dict) and {"model", "done"} <= v.keys(),
    signs=("message",),
    parts=single_parts,
    tokens=((), ("prompt_eval_count",), ("eval_count",)),
    stream=Stream(
        _gist,
        (),
        opens=lambda v: {"model", "done"} <= v.keys(),
        shows=lambda v: {"model", "done"} <= v.keys() and not {"message", "response"}.isdisjoint(v),
        http=False,
        signs=("done",),
    ),
)
