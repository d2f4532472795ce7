"""A tape: the recorded body of one flight, as frames appended to one log.

The log of a flight is private to it (its name carries id and order), so whoever was told to follow that flight, and
nobody else, finds what it said. Each frame is a type, a length and so many bytes; the last one is an END, which says
how the flight ended, so that a reader knows a whole answer from one that merely stopped.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_FRAME = struct.Struct(">BI")

DATA = 1  # u32 ms since the flight began, then bytes of the body
META = 2  # what goes before the body: status and headers, JSON
END = 127  # one byte of outcome, then the whole body where no DATA went before

STORED, SHARED, FAILED = b"s", b"t", b"f"
OUTCOMES = (STORED, SHARED, FAILED)


class Ending(NamedTuple):
    """How a flight ended: `outcome` STORED (read the entry), SHARED (read `body`), FAILED (there is nothing to read).

    `detail` is the status word for those who take it: why it was not stored.
    """

    outcome: bytes
    detail: str = ""
    body: bytes = b""


def end_frame(ending: Ending) -> bytes:
    """The END frame: outcome, length of the detail, detail, body."""
    detail = ending.detail.encode()
    return frame(END, ending.outcome + bytes([len(detail)]) + detail + ending.body)


def frame(kind: int, payload: bytes) -> bytes:
    """One frame of a tape."""
    return _FRAME.pack(kind, len(payload)) + payload


def frames(log: bytes) -> list[tuple[int, bytes]]:
    """The whole frames of a log; a frame that is cut at the end is left out, for more may come."""
    found = []
    at = 0
    while at + _FRAME.size <= len(log):
        kind, size = _FRAME.unpack_from(log, at)
        at += _FRAME.size
        if at + size > len(log):
            break
        found.append((kind, log[at : at + size]))
        at += size
    return found


def read_ending(log: bytes) -> Ending | None:
    """The END of a log, or None when the flight has not said how it ended, or says it in no way of ours."""
    for kind, payload in frames(log):
        if kind == END:
            return _ending(payload)
    return None


def _ending(payload: bytes) -> Ending | None:
    body = 2 + (payload[1] if len(payload) > 1 else len(payload))
    if payload[:1] not in OUTCOMES or len(payload) < body:
        return None
    try:
        return Ending(payload[:1], payload[2:body].decode(), payload[body:])
    except UnicodeDecodeError:
        return None


_WORD = struct.Struct(">c16sQ")


class Word(NamedTuple):
    """A message to those who wait for a flight: `kind` END (with its `outcome`), ALIVE or WANT; `order` in us."""

    kind: bytes
    flight: bytes
    order: int
    outcome: bytes = b""

    def packed(self) -> bytes:
        """25 bytes, and one more for the outcome of an end."""
        return _WORD.pack(self.kind, self.flight, self.order) + self.outcome


ENDED, ALIVE, WANTED = b"E", b"A", b"W"
KINDS = (ENDED, ALIVE, WANTED)


def read_word(data: bytes) -> Word | None:
    """The reverse of Word.packed; None for anything else (a foreign message on our channel)."""
    if len(data) < _WORD.size or data[:1] not in KINDS:
        return None
    kind, flight, order = _WORD.unpack_from(data)
    return Word(kind, flight, order, data[_WORD.size :])
