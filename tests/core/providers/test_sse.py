"""A stream has the same events wherever it is cut, and they are those of the standard.

The judges are the splitting itself, an oracle that reads whole bodies more simply, and the decoder of an SDK.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from askonce.core.providers.sse import Event, Objects, Parser, parser_for, plain_data
from tests.took import Took

CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"h\xc3\xa9"}}]}\n\ndata: [DONE]\n\n'
ODD = (
    b"\xef\xbb\xbf: OPENROUTER PROCESSING\r\n\r\n \n\n: ping\r"
    b"event: one\r\nid: 7\r\ndata:  a\r\ndata\r\ndata:b: c\r\n\r\n"
    b"retry: 10\ndata: two\r\rdata:\n\nevent: unsaid\n\nid: 8\0\ndata: \xff\xfe\n\nid\ndata: end\r\n\nnot closed: \ndata: x\n"
)
ODD_EVENTS = [
    Event("one", b" a\n\nb: c", "7"),
    Event("", b"two", "7"),
    Event("", b"", "7"),
    Event("", b"\xff\xfe", "7"),
    Event("", b"end"),
]
ARRAY = b'[{"a":"}]\\"\\\\"}\r\n,\n{"b":[1,{"c":2}],"d":"[{"},{}\n]\n'
LINES = b'{"a":"}]\\"\\\\"}\n{"b":[1,{"c":2}],"d":"[{"}\r\n{}\n'
THREE = [b'{"a":"}]\\"\\\\"}', b'{"b":[1,{"c":2}],"d":"[{"}', b"{}"]


def parsed(parser: Parser | Objects, *parts: bytes) -> list[Event]:
    return [event for part in parts for event in parser.feed(part)]


def split(body: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(ends)]


# --- server-sent events ---


def test_events_are_what_the_standard_says():
    assert parsed(Parser(), ODD) == ODD_EVENTS
    assert [event.data for event in parsed(Parser(), CHAT)] == [CHAT[6:-16], b"[DONE]"]


@pytest.mark.parametrize("body", [CHAT, ODD], ids=["chat", "odd"])
def test_a_body_split_at_any_two_places_has_the_same_events(body):
    whole = parsed(Parser(), body)
    for places in itertools.combinations_with_replacement(range(len(body) + 1), 2):
        assert parsed(Parser(), *split(body, list(places))) == whole, places


@pytest.mark.parametrize("body", [CHAT, ODD], ids=["chat", "odd"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_body_fed_one_byte_at_a_time_has_the_same_events_whatever_ends_its_lines(body, end):
    body = b"".join(line + end for line in body.splitlines())
    parts = [bytes([byte]) for byte in body]
    assert parsed(Parser(), *parts) == parsed(Parser(), body)
    assert len(parsed(Parser(), body)) == (5 if b"two" in body else 2)


PIECES = st.sampled_from(
    [
        *(b"data: ", b"data:", b"data", b"event: ", b"id: ", b"retry: 1", b":", b"\n", b"\r", b"\r\n", b"\n\n", b" "),
        *(b"\xef\xbb\xbf", b"\xef", b"\xff", b"\0", b"\x0c", "\u2028".encode(), b'{"a":1}', b"[DONE]", b"x"),
    ]
)


@given(st.lists(PIECES, max_size=30).map(b"".join), st.data())
def test_any_bytes_at_any_split_have_the_same_events_as_an_oracle_finds_in_the_whole(body, data):
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert parsed(Parser(), *split(body, places)) == oracle(body)


@given(st.lists(st.sampled_from([b"data: a\n\n", b"data: {}\n\n", b"data:  \n\n"]) | PIECES, max_size=12).map(b"".join))
def test_a_body_taken_for_plain_has_the_events_that_the_parser_finds(body):
    data = plain_data(body)
    assert data is None or [Event("", one) for one in data] == parsed(Parser(), body)


def test_what_most_providers_send_is_taken_for_plain_and_little_else():
    assert plain_data(CHAT) == [b'{"choices":[{"index":0,"delta":{"content":"h\xc3\xa9"}}]}', b"[DONE]"]
    for other in (
        ODD,
        CHAT[:-1],
        CHAT.replace(b"\n", b"\r\n"),
        b": ping\n\n" + CHAT,
        b"event: a\n" + CHAT,
        b"\n" + CHAT,
    ):
        assert plain_data(other) is None


def oracle(body: bytes) -> list[Event]:
    """The standard's text, followed word for word on a whole body; latin-1 keeps every byte one character."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    events, data, name, last = [], "", "", ""
    for line in re.split(r"\r\n|\n|\r", text)[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(Event(utf8(name), data.removesuffix("\n").encode("latin-1"), utf8(last)))
            data = name = ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last = value
    return events


def utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")


def test_an_event_of_a_megabyte_takes_linear_time_in_small_pieces():
    body = b'data: "' + b"x" * (1 << 20) + b'"\n\n'
    took = Took()
    (event,) = parsed(Parser(), *(body[at : at + 64] for at in range(0, len(body), 64)))
    assert event.data == body[6:-2]
    assert took.seconds < 2


def test_what_is_no_stream_has_no_events():
    assert parsed(Parser(), b'{"error": {"message": "no"}}\n\n') == []
    assert parsed(Parser(), b"<html>\n\n<p>data: no</p>\n\n") == []


def test_invalid_utf_8_stays_in_the_data_and_is_replaced_in_the_text():
    (event,) = parsed(Parser(), b"data: a\xffb\n\n")
    assert (event.data, event.text) == (b"a\xffb", "a\ufffdb")


# --- JSON objects ---


@pytest.mark.parametrize("body", [ARRAY, LINES], ids=["array", "lines"])
def test_objects_one_after_the_other_are_found_at_any_split(body):
    for places in itertools.combinations_with_replacement(range(len(body) + 1), 2):
        parser = Objects()
        assert [event.data for event in parsed(parser, *split(body, list(places)))] == THREE, places
        assert parser.closed
    assert [event.data for event in parsed(Objects(), *(bytes([byte]) for byte in body))] == THREE


JSON = st.recursive(
    st.none() | st.integers() | st.text('ab"\\{}[]\n', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"]\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text("ab}", max_size=2), JSON, max_size=3), min_size=1, max_size=4)


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans(), st.data())
def test_objects_come_back_from_lines_and_from_arrays(values, indent, array, data):
    texts = [json.dumps(value, indent=indent) for value in values]
    body = ("[" + "\n,".join(texts) + "]" if array else "\r\n".join(texts)).encode()
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=5))
    parser = Objects()
    assert [json.loads(event.data) for event in parsed(parser, *split(body, places))] == values
    assert parser.closed


def test_an_array_that_is_cut_is_not_closed():
    for cut in range(len(ARRAY.rstrip())):
        parser = Objects()
        parser.feed(ARRAY[:cut])
        assert not parser.closed


# --- which of the two ---


@pytest.mark.parametrize(
    ("content_type", "start", "kind"),
    [
        ("text/event-stream; charset=utf-8", b"data: {", Parser),
        ("Text/Event-Stream", b'{"error"', Parser),
        ("application/json", b'[{"a"', Objects),
        ("application/x-ndjson", b'\n{"a"', Objects),
        ("", b": comment", Parser),
        ("", b"  [", Objects),
        ("text/plain", b"data: ", Parser),
        ("application/json", b"", Parser),
    ],
)
def test_a_body_is_taken_for_what_it_says_it_is_and_else_for_what_it_looks_like(content_type, start, kind):
    assert type(parser_for(content_type, start)) is kind


# --- recorded traffic ---


def test_recorded_streams_have_the_events_that_an_sdk_finds_in_them(corpus_dir):
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        bodies = [r["response_body"].encode() for r in map(json.loads, lines) if r["sse_events"] and r["status"] == 200]
    assert len(bodies) > 600
    for number, body in enumerate(bodies):
        size = 1 + number % 211
        events = parsed(Parser(), *(body[at : at + size] for at in range(0, len(body), size)))
        theirs = [(one.event or "", one.data) for one in SSEDecoder().iter_bytes(iter([body])) if one.data]
        assert [(event.name, event.text) for event in events] == theirs
