"""Judges of streamed answers: was that the end, and may it be kept.

A judge sees the bytes go by and touches none of them: on its way to the reader a part costs an append. Everything is
worked out when it is asked. `whole` looks for the protocol's last event, which ends an answer although upstream may
hold the connection: SDKs leave at that event, before their iterator ends. `verdict` takes the stream apart once, folds
its events into the gist of the answer that they make up, and leaves the rest to the protocol's row in core.providers:
so a stream and its twin in one piece are refused for the same reasons, in the same words.

A gist is not the answer: its text only shows that something was said. core.assemble makes answers.

The rules lean one way, as those of providers do. A stream without its last event is incomplete, whatever it held. Chat
has hosts that never send [DONE]: there the end has to show twice, in a finish reason for every choice and in the usage
that comes last, or else a stream that was cut before its [DONE] would pass for whole. Gemini has no last event; its
finish reasons come in the last chunk, so the end is upstream's own, and is never seen before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, NamedTuple

import orjson

from askonce.core import bounded
from askonce.core.providers import PROTOCOLS, Protocol, failed
from askonce.core.sse import Objects, Parser, parser_for, plain_data

__all__ = ["Judge", "Read", "read", "scan_for", "stream_variant"]

Answer = dict[str, Any]
LIMIT = 64 * 1024 * 1024  # bytes that a judge keeps hold of; the engine's own cap comes long before


# --- a body taken apart ------------------------------------------------------------------------------------------


class Read(NamedTuple):
    """A body taken apart: the JSON objects in it, in order, and what else was there."""

    values: list[Answer]
    done: bool = False  # [DONE]
    failed: bool = False  # an error among the events
    garbled: bool = False  # not what it says it is
    framed: bool = True  # as server-sent events, which can say [DONE]


def read(body: bytes, content_type: str = "") -> Read:
    """What a whole body says."""
    if bounded.flooded(body):
        return Read([], garbled=True)
    data = plain_data(body)
    if data is not None:
        return _values(zip(repeat(""), data))
    parser = parser_for(content_type, body[:64])
    events = [event[:2] for event in parser.feed(body)]
    if isinstance(parser, Objects):
        found = _values(events)
        return found._replace(garbled=found.garbled or not parser.closed, framed=False)
    if events:
        return _values(events)
    # Headers that promise a stream may stand before a plain error.
    return Read([], failed=_plain_error(body), garbled=bool(body.strip()))


def _values(events: Iterable[tuple[str, bytes]]) -> Read:
    """Of events' names and data."""
    values: list[Answer] = []
    done = error = garbled = False
    for name, data in events:
        value = _object(data)
        if value is not None:
            values.append(value)
            error = error or name == "error" or bool(value.get("error")) or value.get("type") == "error"
        elif data.lstrip().startswith(b"[DONE]"):
            done = True
        elif data or name:  # else it keeps a connection alive
            garbled = True
            error = error or name == "error"
    return Read(values, done, error, garbled)


def _object(data: bytes) -> Answer | None:
    try:
        value = orjson.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain_error(body: bytes) -> bool:
    return failed(_object(body))


# --- the judge ---------------------------------------------------------------------------------------------------


class Judge:
    """The Scan of one stream (askonce.tape); made by `scan_for`."""

    def __init__(self, protocol: Protocol | None, tool_calls: str, content_type: str, limit: int) -> None:
        self._protocol = protocol
        self._tool_calls = tool_calls
        self._content_type = content_type
        self._room = limit
        self._parts: list[bytes] = []
        self._found: tuple[int, Read] | None = None  # and of how many parts

    def feed(self, data: bytes) -> None:
        """More bytes, their content-encoding undone."""
        self._room -= len(data)
        if self._room >= 0:
            self._parts.append(data)

    def whole(self) -> bool:
        """Whether the protocol's last event was seen."""
        kind = self._kind()
        return self._room >= 0 and kind is not None and _ended(b"".join(self._parts), kind.last)

    def verdict(self) -> str:
        """Why it may not be stored, "" if it may; what was fed is taken for all that upstream had to say."""
        if self._room < 0:
            return "too-large"
        found, kind = self._read(), self._kind()
        if kind is None:
            return self._unknown(found)
        if found.failed:
            return "error"
        if found.garbled:
            return "not-sse" if found.framed else "incomplete"
        if not any(self._parts):
            return "empty"
        return self._judged(found, kind)

    def usage(self) -> tuple[int, int] | None:
        """Tokens in and out; None if the stream does not say."""
        found, kind = self._read(), self._kind()
        if kind is None:
            return None
        return kind.protocol.usage(self._plain(found, kind) or kind.gist(found))

    def _judged(self, found: Read, kind: Kind) -> str:
        gist = self._plain(found, kind) or kind.gist(found)
        return kind.protocol.verdict(gist, self._tool_calls) if gist else "incomplete"

    def _plain(self, found: Read, kind: Kind) -> Answer | None:
        """The answer of a host that was asked for a stream and gave it in one piece."""
        if found.framed or len(found.values) != 1:
            return None
        return found.values[0] if kind.protocol.recognises(found.values[0]) else None

    def _unknown(self, found: Read) -> str:
        if self._protocol:
            return "unrecognised"
        if any(map(failed, found.values)):
            return "error"
        return "" if any(self._parts) else "empty"

    def _read(self) -> Read:
        if self._found is None or self._found[0] != len(self._parts):
            self._found = len(self._parts), read(b"".join(self._parts), self._content_type)
        return self._found[1]

    def _kind(self) -> Kind | None:
        if self._protocol:
            return _KINDS.get(self._protocol.name)
        # Not the first alone: Azure's tells of its filters, in no shape.
        start = self._read().values[:2]
        return next((kind for value in start for kind in _KINDS.values() if kind.opens(value)), None)


def scan_for(protocol: Protocol | None, tool_calls: str = "pass", content_type: str = "", limit: int = LIMIT) -> Judge:
    """The judge of a stream; `tool_calls` as in Policy, `limit` the bytes that it keeps hold of.

    Without a protocol, as in a plain fetch, a stream is recognised by what it says, and what is no protocol's passes.
    """
    return Judge(protocol, tool_calls, content_type, limit)


def _ended(body: bytes, last: tuple[bytes, ...]) -> bool:
    """Whether one of `last` begins a line, and the event there was closed."""
    places = [at for mark in last if (at := body.rfind(mark)) >= 0]
    # Where it does not begin a line, an answer only speaks of it: strings in JSON hold no line ends.
    return any(Parser().feed(body[at:]) for at in places if at == 0 or body[at - 1] in b"\r\n")


# --- gists: one a kind of stream; nothing here may raise, whatever it is given -----------------------------------


def _dicts(value: object) -> list[Answer]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: object) -> Answer:
    return value if isinstance(value, dict) else {}


def _chat(found: Read) -> Answer | None:
    """Also of the old completions, whose choices have a text in place of a delta."""
    choices: dict[str, Answer] = {}
    for chunk in found.values:
        for choice in _dicts(chunk.get("choices")):
            into = choices.get(index := str(choice.get("index")))
            if into is None:
                into = choices[index] = {"finish_reason": None, "error": None, "message": {}, "text": ""}
            _hear(choice, into)
    answer = {
        "object": "chat.completion",
        "choices": [_said(choice) for choice in choices.values()],
        "usage": next(filter(None, map(_usage, reversed(found.values))), None),
    }
    finished = all(choice["finish_reason"] is not None for choice in choices.values())
    sure = found.done or not found.framed or bool(found.values and _usage(found.values[-1]))
    return answer if sure and finished else None


def _usage(chunk: Answer) -> Answer:
    usage = chunk.get("usage") or ("x_groq" in chunk and _dict(chunk["x_groq"]).get("usage"))
    return usage if isinstance(usage, dict) else {}


def _hear(choice: Answer, into: Answer) -> None:
    # Once for each part of an answer: what is not there costs one look.
    if ended := choice.get("finish_reason"):
        into["finish_reason"] = ended
    if error := choice.get("error"):
        into["error"] = error
    if text := choice.get("text"):
        into["text"] = into["text"] or _inked(text)
    message = into["message"]
    for name, piece in _dict(choice.get("delta") or choice.get("message")).items():
        if piece:
            if name not in message:
                message[name] = []
            message[name].append(piece)


def _said(choice: Answer) -> Answer:
    message = choice["message"]
    content = [
        block for piece in message.get("content", ()) for block in (piece if isinstance(piece, list) else [piece])
    ]
    pieces = [call for piece in message.get("tool_calls", ()) for call in _dicts(piece)]
    # Some hosts give every call the index 0, others none: then ids tell calls apart.
    ids, indices = ({str(call.get(name)) for call in pieces if call.get(name) is not None} for name in ("id", "index"))
    calls: list[Answer] = [{}] * max(len(ids), len(indices), bool(pieces))
    return {**choice, "message": {**message, "content": content, "tool_calls": calls}}


def _responses(found: Read) -> Answer | None:
    last = next((value for value in reversed(found.values) if str(value.get("type")) in _CLOSING), None)
    if last is None:
        return None
    items = [value.get("item") for value in found.values if value.get("type") == "response.output_item.done"]
    response = _dict(last.get("response"))
    # Some hosts close with a response that holds nothing, having said it all before.
    return {**response, "output": response.get("output") or items}


_CLOSING = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def _messages(found: Read) -> Answer | None:
    message: Answer = {}
    blocks: dict[object, Answer] = {}
    closed: set[object] = set()
    ended = False
    for event in found.values:
        kind, index = event.get("type"), str(event.get("index"))
        if kind == "content_block_delta":
            block = blocks.setdefault(index, {})
            block["text"] = block.get("text") or _inked(_dict(event.get("delta")).get("text"))
        elif kind == "content_block_start":
            blocks[index] = dict(_dict(event.get("content_block")))
        elif kind == "content_block_stop":
            closed.add(index)
        elif kind == "message_start":
            message = dict(_dict(event.get("message")))
        elif kind == "message_delta":
            usage = _dict(message.get("usage")) | _dict(event.get("usage"))
            message |= _dict(event.get("delta")) | {"usage": usage}
        ended = ended or kind == "message_stop"
    sound = closed >= blocks.keys() and all("type" in block for block in (message, *blocks.values()))
    return message | {"content": list(blocks.values())} if ended and sound else None


def _inked(text: object) -> str:
    return text if isinstance(text, str) and not text.isspace() else ""


def _gemini(found: Read) -> Answer:
    answer: Answer = {}
    candidates: dict[str, Answer] = {}
    for chunk in found.values:
        answer |= {name: chunk[name] for name in ("promptFeedback", "usageMetadata", "modelVersion") if chunk.get(name)}
        for candidate in _dicts(chunk.get("candidates")):
            into = candidates.setdefault(str(candidate.get("index", 0)), {"finishReason": None, "parts": []})
            into |= {name: candidate[name] for name in ("finishReason", "groundingMetadata") if candidate.get(name)}
            into["parts"] += _dicts(_dict(candidate.get("content")).get("parts"))
    return answer | {"candidates": [{**one, "content": {"parts": one["parts"]}} for one in candidates.values()]}


class Kind(NamedTuple):
    """How a protocol streams: the gist of its events (None without the last), its last event, its first."""

    protocol: Protocol
    gist: Callable[[Read], Answer | None]
    last: tuple[bytes, ...]
    opens: Callable[[Answer], bool]


def _begins(field: str, *words: str) -> tuple[bytes, ...]:
    return tuple(f"{field}:{blank}{word}".encode() for blank in (" ", "") for word in words)


def _typed(*kinds: str) -> tuple[bytes, ...]:
    """Events of these types, named or not."""
    return _begins("event", *kinds) + _begins(
        "data", *(f'{{"type":{blank}"{kind}"' for kind in kinds for blank in ("", " "))
    )


_ROWS = {protocol.name: protocol for protocol in PROTOCOLS}
_DONE = _begins("data", "[DONE]")
_KINDS = {
    kind.protocol.name: kind
    for kind in (
        Kind(
            _ROWS["chat"],
            _chat,
            _DONE,
            lambda v: v.get("object") == "chat.completion.chunk" or "delta" in next(iter(_dicts(v.get("choices"))), {}),
        ),
        Kind(_ROWS["completions"], _chat, _DONE, lambda v: v.get("object") == "text_completion"),
        Kind(_ROWS["responses"], _responses, _typed(*sorted(_CLOSING)), lambda v: v.get("type") == "response.created"),
        Kind(_ROWS["messages"], _messages, _typed("message_stop"), lambda v: v.get("type") == "message_start"),
        Kind(_ROWS["gemini"], _gemini, (), _ROWS["gemini"].recognises),
    )
}


def streams_read(protocol: Protocol) -> bool:
    """Whether a stream of this protocol can be told from a part of one."""
    return protocol.name in _KINDS


# --- the bytes of a stream that its question does not settle -----------------------------------------------------

_DEFAULTS = {"include_usage": False, "include_obfuscation": True}
_PLAIN = re.compile(r"[\w=,.-]{0,64}", re.ASCII)


def stream_variant(body: Answer, protocol: Protocol | None = None, query: str = "") -> str:
    """What of a streamed request is not in the key, and changes the stream's bytes; "" for the plain stream.

    Such as ``include_usage=true``, or ``array`` for Gemini without alt=sse; up to 64 of ``[A-Za-z0-9_=,.-]``.
    """
    options = _dict(body.get("stream_options"))
    said = [f"{name}={_short(value)}" for name, value in sorted(options.items()) if _counts(name, value)]
    if protocol and protocol.name == "gemini" and "alt=sse" not in query.split("&"):
        said.append("array")
    variant = ",".join(said)
    # Options nobody knows yet: a name for them, whatever they hold.
    return variant if _PLAIN.fullmatch(variant) else hashlib.sha256(variant.encode()).hexdigest()


def _counts(name: str, value: object) -> bool:
    return value is not None and value is not _DEFAULTS.get(name)


def _short(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
