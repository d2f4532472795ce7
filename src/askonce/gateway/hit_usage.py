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
    """A stream of lines: server-sent events, or JSON lines."""

    def __init__(self) -> None:
        self._held = b""

    def fed(self, part: bytes) -> bytes:
        """What can be passed on after this part."""
        *whole, self._held = (self._held + part).split(b"\n")
        return b"".join([self._line(line) + b"\n" for line in whole])

    def rest(self) -> bytes:
        """What is left at the end."""
        return self._line(self._held)

    @staticmethod
    def _line(line: bytes) -> bytes:
        if _HINT.search(line) is None:
            return line
        at = line.find(b"{")
        return line[:at] + without_usage(line[at:]) if at >= 0 and line[:at].strip() in {b"", b"data:"} else line


class Frames:
    """An AWS event stream."""

    def __init__(self) -> None:
        self._held = b""
        self._odd = False  # it is none: everything passes

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

    def rest(self) -> bytes:
        """What is left at the end."""
        held, self._held = self._held, b""
        return held


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
