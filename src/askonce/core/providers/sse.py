"""Streams split into events, and events written: server-sent events, and sequences of JSON objects.

The rules are the living standard's (html.spec.whatwg.org, 9.2): lines end in CRLF, LF or CR; a line that begins with a
colon is a comment; a blank line closes an event; an event without data is ignored; an unclosed one did not arrive. Two
rules are easy to break in a stream that is cut anywhere. A CR ends its line at once, and an LF that follows, perhaps
much later, belongs to it. A BOM is skipped only at the very start, where it may come in pieces.

Data stays bytes, because the JSON reader wants bytes and must refuse invalid UTF-8, which a replacement character would
hide. Neither parser has a limit: its caller bounds the input.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern

__all__ = ["Event", "Objects", "Parser", "begins", "data_event", "named_event", "parser_for", "plain_data", "typed"]

_BOM = b"\xef\xbb\xbf"
_ENDS = (b"\n", b"\r")


class Event(NamedTuple):
    """One event: its name ("" if unsaid), its data with lines joined by LF, the last id of the stream."""

    name: str
    data: bytes
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text, invalid UTF-8 replaced."""
        return self.data.decode("utf-8", "replace")


class Parser:
    """Server-sent events from bytes; the events do not depend on where the bytes are cut."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the unfinished line, as a list: 1 MB in pieces takes linear time
        self._begun = self._cr = False  # past the BOM; the last byte was a CR, and its LF may follow
        self._data: list[bytes] = []
        self._name = self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` closes."""
        events = []
        for line in self._lines(data if self._begun else self._begin(data)):
            if line:
                self._field(line)
                continue
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data), self._id))
            self._data, self._name = [], ""
        return events

    def _begin(self, data: bytes) -> bytes:
        start = b"".join(self._line) + data
        self._begun = not _BOM.startswith(start)
        self._line = [] if self._begun else [start]
        return start.removeprefix(_BOM) if self._begun else b""

    def _lines(self, data: bytes) -> list[bytes]:
        if self._cr and data:
            self._cr, data = False, data.removeprefix(b"\n")
        # Not str.splitlines, which also breaks at form feeds and U+2028, and JSON may hold these.
        lines = data.splitlines()
        ended = data.endswith(_ENDS)
        if self._line and (ended or len(lines) > 1):
            lines[0] = b"".join((*self._line, lines[0]))
            self._line = []
        if not ended:
            self._line += lines[-1:]
            return lines[:-1]
        self._cr = data.endswith(b"\r")
        return lines

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")


class Objects:
    """JSON objects in sequence, each an event: lines of JSON, or the elements of one array.

    The first bracket tells them apart: objects open at its depth. Only brackets and strings are read here; the reader
    of an object checks the rest.
    """

    def __init__(self) -> None:
        self._object: list[bytes] = []
        self._depth = 0
        self._base: int | None = None  # the depth at which objects open; None before the first bracket
        self._string = self._escape = False

    @property
    def closed(self) -> bool:
        """Whether there was a bracket, and every one was closed."""
        return self._base is not None and self._depth == 0

    def feed(self, data: bytes) -> list[Event]:
        """The objects that `data` closes."""
        events: list[Event] = []
        start = at = 0  # of the object, or its rest, in `data`; of the unread rest
        while token := self._next(data, at):
            at = token.end()
            if token[0] in b"{[":
                start = self._open(token, start)
            elif token[0] in b"}]" and self._close():
                events.append(Event("", b"".join((*self._object, data[start:at]))))
                self._object = []
        if self._inside:
            self._object.append(data[start:])
        return events

    @property
    def _inside(self) -> bool:
        return self._base is not None and self._depth > self._base

    def _next(self, data: bytes, at: int) -> re.Match[bytes] | None:
        """The next bracket, past the strings before it."""
        at += self._escape
        while at <= len(data):
            self._escape = False
            token = (_IN_STRING if self._string else _OUTSIDE).search(data, at)
            if token is None or token[0] in _BRACKETS:
                return token
            at = token.end()
            if token[0] == b'"':
                self._string = not self._string
            else:
                self._escape = at == len(data)
                at += 1
        return None

    def _open(self, token: re.Match[bytes], start: int) -> int:
        self._base = int(token[0] == b"[") if self._base is None else self._base
        self._depth += 1
        return token.start() if self._depth == self._base + 1 else start

    def _close(self) -> bool:
        self._depth -= 1
        return self._depth == self._base


_BRACKETS = (b"{", b"}", b"[", b"]")
_OUTSIDE = pattern(rb'["{}\[\]]')
_IN_STRING = pattern(rb'["\\]')


def plain_data(body: bytes) -> list[bytes] | None:
    """The data of each event, if each is a single line of data, as most providers send them; else None.

    It finds what Parser finds, in a tenth of the time: a finished stream is read while its last reader waits.
    """
    # As many line ends as these events need: none is inside an event. Counted before what may be large is copied.
    apart = body.startswith(_NEXT[2:]) and body.endswith(_NEXT[:2]) and b"\r" not in body
    if not apart or body.count(b"\n") != 2 * (body.count(_NEXT) + 1):
        return None
    return body[6:-2].split(_NEXT)


_NEXT = b"\n\ndata: "


def parser_for(content_type: str, start: bytes) -> Parser | Objects:
    """The parser of a body, by its content type or its first bytes."""
    claims = content_type.partition(";")[0].strip().lower() == "text/event-stream"
    return Parser() if claims or start.lstrip()[:1] not in (b"{", b"[") else Objects()


# --- events, written, and how their lines begin ------------------------------------------------------------------


def data_event(value: dict[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named_event(value: dict[str, Any]) -> bytes:
    """An event named after its type."""
    return f"event: {value['type']}\n".encode() + data_event(value)


def begins(field: str, *words: str) -> tuple[bytes, ...]:
    """How a line of this field begins if its value is, or begins with, one of these words."""
    return tuple(f"{field}:{blank}{word}".encode() for blank in (" ", "") for word in words)


def typed(*kinds: str) -> tuple[bytes, ...]:
    """How the events of these types begin, named or not."""
    return begins("event", *kinds) + begins(
        "data", *(f'{{"type":{blank}"{kind}"' for kind in kinds for blank in ("", " "))
    )
