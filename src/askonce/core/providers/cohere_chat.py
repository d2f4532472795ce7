"""Cohere's chat, version 2. Its streams are read as items, not as bytes of HTTP."""

from __future__ import annotations

from askonce.core.providers.answers import Answer, a_dict, single_parts
from askonce.core.providers.api import STREAM, Api, Path, Stream
from askonce.core.providers.routes import names_model, turns, typed
from askonce.core.providers.streamed import Read


def _gist(found: Read) -> Answer | None:
    ends = [a_dict(value.get("delta")) for value in found.values if value.get("type") == "message-end"]
    if not ends:
        return None
    messages = [a_dict(a_dict(value.get("delta")).get("message")) for value in found.values]
    texts = [a_dict(message.get("content")).get("text") for message in messages]
    calls = sum(value.get("type") == "tool-call-start" for value in found.values)
    message = {"content": "".join(text for text in texts if isinstance(text, str)), "tool_calls": [{}] * calls}
    return {"message": message, "finish_reason": "error" if ends[-1].get("error") else ends[-1].get("finish_reason")}


API = Api(
    "message",
    paths=(Path("/v2/chat"),),
    asks=lambda body, named: turns(body, typed) and (named or names_model(body)),
    left_out=(STREAM,),
    shape=lambda v: isinstance(v.get("message"), dict) and "finish_reason" in v,
    signs=("message", "type"),
    parts=single_parts,
    tokens=(("usage", "tokens"), ("input_tokens",), ("output_tokens",)),
    stream=Stream(
        _gist,
        (),
        opens=lambda v: str(v.get("type")).startswith(("message-start", "content-delta")),
        shows=lambda v: str(v.get("type")).startswith(("message-", "content-")),
        http=False,
    ),
)
