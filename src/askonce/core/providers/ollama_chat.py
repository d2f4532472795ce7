"""Ollama's chat. Behind HTTP it passes, but a plain `fetch` may well bring its answers."""

from __future__ import annotations

from askonce.core.providers.answers import Answer, a_dict, dicts, single_parts
from askonce.core.providers.api import Api, Stream
from askonce.core.providers.streamed import Read

__all__ = ["API"]


def _ours(value: Answer) -> bool:
    return {"model", "done"} <= value.keys()


def _shape(value: Answer) -> bool:
    return isinstance(value.get("message"), dict) and _ours(value)


def _shows(value: Answer) -> bool:
    return _ours(value) and not {"message", "response"}.isdisjoint(value)


def _gist(found: Read) -> Answer | None:
    """Of its lines: a piece of the message each, or of the response, and the last one done."""
    last = next((value for value in reversed(found.values) if value.get("done")), None)
    if last is None:
        return None
    said = [a_dict(value.get("message")) for value in found.values]
    texts = [value.get("response", message.get("content")) for value, message in zip(found.values, said, strict=True)]
    calls = [call for message in said for call in dicts(message.get("tool_calls"))]
    message = {"content": "".join(text for text in texts if isinstance(text, str)), "tool_calls": calls}
    ended = last.get("done_reason", "stop")
    return {"model": "", "done": True, "done_reason": ended, "message": message}


API = Api(
    "ollama",
    _shape,
    single_parts,
    (("usage", "tokens"), ("input_tokens",), ("output_tokens",)),
    ("message",),
    stream=Stream(_gist, (), _ours, _shows, http=False, signs=("done",)),
)
