"""The events of a stream that are read in one go say what they say one by one."""

from __future__ import annotations

from itertools import repeat

import orjson
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers import streamed
from askonce.core.providers.streamed import read

# Whole objects, and pieces that are whole only together with others.
words = st.sampled_from(["error", "type", "choices", "x", "é"])
plain = st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab\\"\u2028', max_size=3) | words
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2), max_leaves=4
)
objects = st.dictionaries(words, values, max_size=3).map(orjson.dumps)
pieces = st.sampled_from(
    [
        b'{"x":[1',
        b"2]}",
        b'{"x":',
        b"1}",
        b'{"a":1},{"b":2',
        b'"c":3}',
        b"{",
        b"}",
        b"[",
        b"]",
        b"1",
        b'"x"',
        b"",
        b" ",
        b"[DONE]",
        b'{"x":1}]',
        b"[{}",
    ]
)
streams = st.lists(objects | pieces, max_size=6)


def alone(data):
    return streamed._values(zip(repeat(""), data))


@given(streams)
def test_events_read_in_one_go_say_what_they_say_one_by_one(data):
    at_once = streamed._at_once(data)
    assert at_once is None or at_once == alone(data)
    assert read(b"".join(b"data: " + one + b"\n\n" for one in data)) == alone(data) if data else True


@given(
    st.lists(st.dictionaries(st.just("x"), values, max_size=1).map(orjson.dumps), min_size=1, max_size=6), st.booleans()
)
def test_a_usual_stream_is_read_in_one_go(data, ends):
    data = [*data, *[b"[DONE]"] * ends]
    assert streamed._at_once(data) == alone(data)


@given(st.lists(objects, min_size=2, max_size=4), st.integers(0, 3), st.text("ab", max_size=3))
def test_an_event_that_guesses_another_word_is_not_two(data, at, word):
    forged = [*data[: at % len(data)], b'{"x":1},"%b",{"x":2}' % word.encode(), *data[at % len(data) :]]
    found = streamed._at_once(forged)
    assert found is None
    assert alone(forged).garbled


def test_two_events_that_make_one_object_are_garbled():
    assert read(b'data: {"x":[1\n\ndata: 2]}\n\n').garbled
    assert read(b'data: {"a":1},{"b":2\n\ndata: "c":3}\n\n').garbled
