"""AWS frames: read exactly, from any bytes, and nothing after the first invalid one."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers.eventstream import CONTENT_TYPE, Event, events, frames, is_one
from tests.core.aws import chunk, claude, converse, event, failure, frame, header

values = st.text(max_size=9) | st.binary(max_size=9) | st.booleans() | st.integers(-(2**63), 2**63 - 1)
names = st.from_regex("[a-z_]{1,9}", fullmatch=True)


@given(st.lists(st.tuples(st.binary(max_size=40), st.dictionaries(names, values, max_size=4)), max_size=5))
def test_frames_are_read_as_they_were_written(written):
    body = b"".join(frame(payload, **headers) for payload, headers in written)
    read = list(frames(body))
    assert None not in read
    for (payload, headers), found in zip(written, read, strict=True):
        texts = {":" + name.replace("_", "-"): value for name, value in headers.items() if isinstance(value, str)}
        assert found == (texts, payload)


@given(st.data())
def test_a_stream_cut_anywhere_ends_with_what_was_whole_and_says_that_more_was_to_come(data):
    parts = converse("a b c")
    body = b"".join(parts)
    cut = data.draw(st.integers(0, len(body)))
    ends = [len(b"".join(parts[:number])) for number in range(len(parts) + 1)]
    whole = max(number for number, end in enumerate(ends) if end <= cut)
    expected: list[Any] = list(frames(body))[:whole] + ([] if cut in ends else [None])
    assert list(frames(body[:cut])) == expected


@given(st.data())
def test_a_byte_that_changed_on_the_way_is_noticed(data):
    body = b"".join(claude())
    at = data.draw(st.integers(0, len(body) - 1))
    spoiled = bytearray(body)
    spoiled[at] ^= data.draw(st.integers(1, 255))
    read, sound = list(frames(bytes(spoiled))), list(frames(body))
    assert read[-1] is None
    assert read[:-1] == sound[: len(read) - 1]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reading_raise(body):
    list(events(body))
    is_one("", body)


def sealed(head: bytes, rest: bytes) -> bytes:
    """Bytes with both checks right, whatever they say of themselves."""
    start = head + struct.pack(">I", zlib.crc32(head)) + rest
    return start + struct.pack(">I", zlib.crc32(start))


@pytest.mark.parametrize(
    "body",
    [
        sealed(struct.pack(">II", 0, 0), b""),
        sealed(struct.pack(">II", 15, 0), b""),
        sealed(struct.pack(">II", 16, 1), b""),
        sealed(struct.pack(">II", 16, 2**32 - 1), b""),
        sealed(struct.pack(">II", 2**32 - 1, 0), b"x" * 100),
        sealed(struct.pack(">II", 30 * 1024 * 1024, 0), b"x" * 100),
        *(sealed(struct.pack(">II", 16 + len(odd), len(odd)), odd) for odd in (b"\xff", b"\x01a", b"\x01a\x63")),
        *(sealed(struct.pack(">II", 16 + len(odd), len(odd)), odd) for odd in (b"\x01a\x07\xff\xffx", b"\x01\xff\x00")),
    ],
)
def test_what_lies_about_its_lengths_is_no_frame(body):
    assert list(frames(body)) == [None]


def test_headers_of_every_type_are_stepped_over():
    packed = b"".join(
        bytes([1, 97 + kind, kind]) + b"\0" * size
        for kind, size in ((0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16))
    )
    packed += header("bytes", b"b") + header(":text", "t")
    head = struct.pack(">II", 16 + len(packed), len(packed))
    assert list(frames(sealed(head, packed))) == [({":text": "t"}, b"")]


def test_an_event_is_its_payload_and_a_chunk_what_it_holds():
    body = event("messageStop", {"stopReason": "end_turn"}) + chunk({"type": "message_stop"})
    assert list(events(body)) == [
        Event("messageStop", b'{"stopReason": "end_turn"}'),
        Event("", b'{"type": "message_stop"}'),
    ]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (failure("throttlingException", "slow down"), "throttlingException"),
        (frame(b"", message_type="error", error_code="InternalError", error_message="oh"), "InternalError"),
        (frame(b"", message_type="of-tomorrow"), "of-tomorrow"),
        (frame(b"{}"), ""),
    ],
)
def test_what_is_no_event_is_a_failure(body, name):
    (found,) = events(body)
    assert found is not None
    assert (found.name, found.failed) == (name, True)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"bytes":1}', b'{"bytes":"?"}', b'{"bytes":"YQ"}', b"junk"])
def test_a_chunk_that_holds_nothing_ends_the_reading(payload):
    body = frame(payload, message_type="event", event_type="chunk") + chunk({"a": 1})
    assert list(events(body)) == [None]


def test_a_stream_is_told_by_its_type_and_by_its_first_bytes():
    body = b"".join(converse())
    assert is_one(f"{CONTENT_TYPE}; charset=utf-8", b"")
    assert is_one("Application/Vnd.Amazon.EventStream", b"data: ")
    assert is_one("", body[:12])
    assert not is_one("", body[:11])
    assert not is_one("text/event-stream", b'data: {"a":1}\n\n')
    assert not is_one("application/json", b'{"messages":[]}')


def test_every_recorded_stream_is_read_to_its_end(corpus_dir: Path):
    read = 0
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if packed := record.get("response_body_b64"):
                body = base64.b64decode(packed)
                found = list(events(body))
                assert all(one is not None and not one.failed and json.loads(one.data) for one in found), record["id"]
                assert is_one("", body)
                read += len(found)
    assert read > 700
