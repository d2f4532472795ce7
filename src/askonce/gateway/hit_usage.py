"""Usage in stored answers, set to zero: for callers whose budgets count what every answer says that it used.

Only the numbers are replaced, at the places where the APIs have them; every other byte stays. What is no JSON, no
stream of events with JSON, and no AWS event stream stays as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]
from typing import Any

from askonce.core.providers.eventstream import LARGEST
from askonce.gateway.wire import AsyncByteStream

# Where the answers and events of the APIs say what was used, by the names on the way there.
PLACES = {
    ("usage",),  # chat, messages, responses, embeddings, Converse, Cohere
    ("response", "usage"),  # events of responses
    ("message", "usage"),  # the first event of messages
    ("delta", "usage"),  # the last event of Cohere
    ("usageMetadata",),  # Gemini
    ("meta", "billed_units"),
    ("meta", "tokens"),
    ("usage_breakdown",),
    ("x_groq", "usage"),
    ("x_groq", "usage_breakdown"),
    ("amazon-bedrock-invocationMetrics",),
    ("prompt_eval_count",),
    ("eval_count",),
}
_WAYS = {place[:depth] for place in PLACES for depth in range(1, len(place))}
_HINT = re.compile(rb"[uU]sage|_count|billed_units|Metrics|tokens")
_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
_PRELUDE = struct.Struct(">III")
_decode = json.JSONDecoder().raw_decode
Span = tuple[int, int]


def without_usage(body: bytes) -> bytes:
    """A JSON document with its usage set to zero."""
    if _HINT.search(body) is None:
        return body
    try:
        text = body.decode()
        spans = sorted(_spans(text, _skip(text, 0), ()))
    except (ValueError, RecursionError, IndexError):
        return body
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], _PARTS.sub(_zero, text[start:end])]
        at = end
    return "".join([*parts, text[at:]]).encode()


def _zero(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else "0"


def _spans(text: str, at: int, way: tuple[str, ...]) -> Iterator[Span]:
    """The spans of the values at PLACES, in the object that begins at `at`."""
    if text[at] == "[" and not way:  # Gemini's answers as a list
        yield from _spans_of_list(text, at)
    if text[at] != "{":
        return
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1, True)
        at = _skip(text, _skip(text, at) + 1)
        end = _decode(text, at)[1]
        here = (*way, name)
        if here in PLACES:
            yield at, end
        elif here in _WAYS:
            yield from _spans(text, at, here)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _spans_of_list(text: str, at: int) -> Iterator[Span]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        if text[at] == "{":
            yield from _spans(text, at, ())
        at = _skip(text, _decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    end: int = WHITESPACE.match(text, at).end()
    return end


# --- streams -----------------------------------------------------------------------------------------------------


class Lines:
    """A stream of text: server-sent events, JSON lines, or the items of a JSON list."""

    def __init__(self) -> None:
        self._held = b""  # of a line
        self._event: list[bytes] = []  # the lines of an event, until its empty line
        self._items: Items | None = None
        self._begun = False

    def fed(self, part: bytes) -> bytes:
        """What can be passed on after this part."""
        if not self._begun:
            part, self._held = self._held + part, b""
            self._begun = bool(part.strip())
            self._items = Items() if part.lstrip()[:1] == b"[" else None
        if self._items is not None:
            return self._items.fed(part)
        self._held += part
        made, at = [], 0
        for end in _END.finditer(self._held):
            made.append(self._line(self._held[at : end.end()]))
            at = end.end()
        self._held = self._held[at:]
        return b"".join(made)

    def rest(self) -> bytes:
        """What is left at the end."""
        if self._items is not None:
            return self._items.rest()
        held, self._held = self._held, b""
        return self._line(held) + self._ended()

    def _line(self, line: bytes) -> bytes:
        """What can be passed on after this line, which has its end."""
        if line.lstrip()[:1] == b"{":
            return self._ended() + without_usage(line)
        self._event.append(line)
        return b"" if line.strip() else self._ended()

    def _ended(self) -> bytes:
        lines, self._event = self._event, []
        data = [(at, found.end()) for at, line in enumerate(lines) if (found := _DATA.match(line))]
        if data and any(map(_HINT.search, lines)):
            values = [lines[at][start:].rstrip(b"\r\n") for at, start in data]
            for (at, start), value, made in zip(data, values, _without(values), strict=True):
                lines[at] = lines[at][:start] + made + lines[at][start + len(value) :]
        return b"".join(lines)


_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)  # of a line; \r\n may be cut
_DATA = re.compile(rb"(?:\xef\xbb\xbf)?data:")


def _without(values: list[bytes]) -> list[bytes]:
    """The data of an event, in lines, with its usage set to zero. Some servers put a document into each line."""
    whole = b"\n".join(values)
    try:
        json.loads(whole)
    except (ValueError, RecursionError):
        return [without_usage(value) for value in values]
    return without_usage(whole).split(b"\n")


class _Framed:
    """A stream whose objects are passed on one by one, each when it is whole."""

    def __init__(self) -> None:
        self._held = b""
        self._odd = False  # not in this framing: everything passes unchanged

    def rest(self) -> bytes:
        """What is left at the end."""
        held, self._held = self._held, b""
        return held


class Items(_Framed):
    """A stream that is one JSON list of objects: Gemini's without `alt=sse`."""

    def fed(self, part: bytes) -> bytes:
        """What can be passed on after this part."""
        self._held += part
        made = []
        while b"}" in part and not self._odd and (end := self._end()):
            made.append(self._zeroed(end))
        if len(self._held) > LARGEST:
            self._odd = True
        return b"".join(made) + (self.rest() if self._odd else b"")

    def _end(self) -> int:
        """Where the first item ends, in characters; 0: not here yet."""
        try:
            text = self._held.decode()
            return _decode(text, text.index("{"))[1]
        except (ValueError, RecursionError):
            return 0

    def _zeroed(self, end: int) -> bytes:
        text = self._held.decode()
        start = text.index("{")
        self._held = text[end:].encode()
        return text[:start].encode() + without_usage(text[start:end].encode())


class Frames(_Framed):
    """An AWS event stream."""

    def fed(self, part: bytes) -> bytes:
        """What can be passed on after this part."""
        self._held += part
        made = []
        while not self._odd and len(self._held) >= _PRELUDE.size:
            size, headers, _ = _PRELUDE.unpack_from(self._held)
            self._odd = not _PRELUDE.size + headers + 4 <= size <= LARGEST
            if self._odd or len(self._held) < size:
                break
            made.append(_frame(self._held[:size], _PRELUDE.size + headers))
            self._held = self._held[size:]
        return b"".join(made) + (self.rest() if self._odd else b"")


def _frame(frame: bytes, start: int) -> bytes:
    """A frame with the usage in its payload set to zero."""
    payload = frame[start:-4]
    made = _payload(payload)
    if made == payload:
        return frame
    head = struct.pack(">II", start + len(made) + 4, start - _PRELUDE.size)
    data = head + struct.pack(">I", zlib.crc32(head)) + frame[_PRELUDE.size : start] + made
    return data + struct.pack(">I", zlib.crc32(data))


def _payload(payload: bytes) -> bytes:
    """InvokeModel's chunks hold the event of another API in base64."""
    try:
        found = json.loads(payload)
        inner = base64.b64decode(found["bytes"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return without_usage(payload)
    made = without_usage(inner)
    return payload if made == inner else json.dumps({**found, "bytes": base64.b64encode(made).decode()}).encode()


class WithoutUsage(AsyncByteStream):
    """A stored stream as its reader gets it."""

    __slots__ = ("_inner", "_steps")

    def __init__(self, inner: Any, content_type: bytes) -> None:
        self._inner = inner
        self._steps: Lines | Frames = Frames() if b"amazon.eventstream" in content_type.lower() else Lines()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            if made := self._steps.fed(part):
                yield made
        if made := self._steps.rest():
            yield made

    async def aclose(self) -> None:
        """Leave it."""
        await self._inner.aclose()
