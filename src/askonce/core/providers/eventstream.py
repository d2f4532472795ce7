"""AWS event streams (application/vnd.amazon.eventstream), split into frames: how Bedrock streams over HTTP.

    4 total length | 4 length of the headers | 4 CRC-32 of these eight | headers | payload | 4 CRC-32 of all before

Two checks make certain what a frame is, so nothing is guessed: reading stops at the first invalid frame. A header is a
name, a type and a value; only texts are used. An event of Converse is its payload under its name. InvokeModel's `chunk`
holds the event of the model's own API in base64.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Iterator

import orjson

from askonce.core.providers.named_tuples import NamedTuple

__all__ = ["CONTENT_TYPE", "Event", "Frame", "events", "frames", "is_one"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"
LARGEST = 24 * 1024 * 1024  # bytes of a frame; AWS's own readers allow no more
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_HEAD = _PRELUDE.size + _CRC.size  # before the headers
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # bytes of a header's value, by its type
_BYTES, _TEXT = 6, 7


class Frame(NamedTuple):
    """One frame: its text headers and its payload."""

    headers: dict[str, str]
    payload: bytes


class Event(NamedTuple):
    """One event: its JSON; its name, "" if the JSON names it; `failed` if it is an error."""

    name: str
    data: bytes
    failed: bool = False


def is_one(content_type: str, start: bytes) -> bool:
    """Whether a body is such a stream, by its content type or its first bytes."""
    if content_type.partition(";")[0].strip().lower() == CONTENT_TYPE:
        return True
    return len(start) >= _HEAD and zlib.crc32(start[: _PRELUDE.size]) == _CRC.unpack_from(start, _PRELUDE.size)[0]


def frames(body: bytes) -> Iterator[Frame | None]:
    """The frames of a body, in order; the last is None if the rest is not a whole frame."""
    view, at = memoryview(body), 0
    while at < len(body):
        size = _size(view[at:])
        frame = _frame(view[at : at + size]) if 0 < size <= len(body) - at else None
        yield frame
        if frame is None:
            return
        at += size


def events(body: bytes) -> Iterator[Event | None]:
    """The events of a body; the last is None if a frame is cut or is no event."""
    for frame in frames(body):
        event = _event(frame) if frame is not None else None
        yield event
        if event is None:
            return


def _size(start: memoryview) -> int:
    if len(start) < _HEAD or zlib.crc32(start[: _PRELUDE.size]) != _CRC.unpack_from(start, _PRELUDE.size)[0]:
        return 0
    size, headers = _PRELUDE.unpack_from(start)
    return int(size) if headers + _HEAD + _CRC.size <= size <= LARGEST else 0


def _frame(data: memoryview) -> Frame | None:
    end = len(data) - _CRC.size
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        return None
    start = _HEAD + _PRELUDE.unpack_from(data)[1]
    headers = _headers(bytes(data[_HEAD:start]))
    return Frame(headers, bytes(data[start:end])) if headers is not None else None


def _headers(data: bytes) -> dict[str, str] | None:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            kind, name = data[name_end], data[at + 1 : name_end].decode()
            at = name_end + 1
            if kind in (_BYTES, _TEXT):
                size, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            else:
                size = _SIZES[kind]
            if kind == _TEXT:
                found[name] = data[at : at + size].decode()
            at += size
    except (IndexError, KeyError, UnicodeDecodeError):
        return None
    return found if at == len(data) else None


def _event(frame: Frame) -> Event | None:
    kind = frame.headers.get(":message-type", "")
    if kind != "event":  # "exception", "error", or an unknown type
        name = frame.headers.get(":exception-type") or frame.headers.get(":error-code") or kind
        return Event(name, frame.payload or b"{}", failed=True)
    name = frame.headers.get(":event-type", "")
    if name != "chunk":
        return Event(name, frame.payload or b"{}")
    inner = _chunk(frame.payload)
    return Event("", inner) if inner is not None else None


def _chunk(payload: bytes) -> bytes | None:
    """The event in a chunk of InvokeModel."""
    try:
        found = orjson.loads(payload)
        return binascii.a2b_base64(found["bytes"], strict_mode=True)
    except (ValueError, TypeError, KeyError):
        return None
