"""A tape: the recorded body of one flight, as frames appended to one log.

The log is private to its flight: its name holds id and order, so only followers of that flight find it. A frame is a
type, a length and that many bytes. The last frame is an END, which says how the flight ended, so that a reader tells a
whole answer from one that merely stopped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from askonce.core.providers.named_tuples import NamedTuple

_FRAME = struct.Struct(">BI")
_DATA = struct.Struct(">BII")  # of a DATA frame, with its time

DATA = 1  # u32 ms since the flight began, then bytes of the body
META = 2  # what precedes the body: status and headers, JSON
CODED_FRAME = 3  # an envelope around one of the other frames (core.codec); only in logs
END = 127  # one byte of outcome, then the whole body if no DATA came before

KINDS_OF_FRAMES = (DATA, META, END)
STORED, SHARED, FAILED = b"s", b"t", b"f"
OUTCOMES = (STORED, SHARED, FAILED)


class Ending(NamedTuple):
    """How a flight ended: `outcome` STORED (read the entry), SHARED (read `body`), FAILED (nothing to read).

    `detail`: why it was not stored, as a status word for those who read it.
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


def data_frame(at: int, data: bytes) -> bytes:
    """A DATA frame: bytes that arrived `at` ms after the flight began."""
    return frame(DATA, at.to_bytes(4, "big") + data)


def data_frames(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """A DATA frame for each part."""
    pack = _DATA.pack  # this runs for every part of every stream: each is copied once
    return b"".join([piece for at, data in parts for piece in (pack(DATA, 4 + len(data), at), data)])


def frames(log: bytes) -> list[tuple[int, bytes]]:
    """The whole frames of a log; a frame cut at the end is left out, because more may come."""
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


def whole_frames(log: bytes) -> list[tuple[int, bytes]]:
    """The frames of a log that is over; ValueError if it is not made of whole frames of this format."""
    found = []
    at, end = 0, len(log)
    # Does not use frames() and check the result: this runs for every part of every replayed stream.
    while at + _FRAME.size <= end:
        kind, size = _FRAME.unpack_from(log, at)
        at += _FRAME.size + size
        if at > end or kind not in KINDS_OF_FRAMES or (size < 4 and kind == DATA):
            raise ValueError("no log of ours")
        found.append((kind, log[at - size : at]))
    if at != end:
        raise ValueError("no log of ours")
    return found


def read_ending(log: bytes) -> Ending | None:
    """The END of a log; None if there is none yet, or none that can be read."""
    for kind, payload in frames(log):
        if kind == END:
            return ended_by(payload)
    return None


def ended_by(payload: bytes) -> Ending | None:
    """What the payload of an END frame says; None if it cannot be read."""
    body = 2 + (payload[1] if len(payload) > 1 else len(payload))
    if payload[:1] not in OUTCOMES or len(payload) < body:
        return None
    try:
        detail = payload[2:body].decode()
    except UnicodeDecodeError:
        return None
    # One printable word, because it goes into statuses, and from there into headers and logs.
    return Ending(payload[:1], detail, payload[body:]) if detail.isprintable() else None


_WORD = struct.Struct(">c16sQ")


class Notice(NamedTuple):
    """A message about a flight: ENDED (with its `outcome`), ALIVE, WANTED, or SAID; `order` in us.

    The outcome of SAID is what was appended to the flight's log: the offset (u64), then the bytes.
    """

    kind: bytes
    flight: bytes
    order: int
    outcome: bytes = b""

    def packed(self) -> bytes:
        """25 bytes, then the outcome."""
        return _WORD.pack(self.kind, self.flight, self.order) + self.outcome


ENDED, ALIVE, WANTED, SAID = b"E", b"A", b"W", b"D"
KINDS = (ENDED, ALIVE, WANTED, SAID)


def read_notice(data: bytes) -> Notice | None:
    """The reverse of Notice.packed; None for any other message on the channel."""
    if len(data) < _WORD.size or data[:1] not in KINDS:
        return None
    kind, flight, order = _WORD.unpack_from(data)
    return Notice(kind, flight, order, data[_WORD.size :])
