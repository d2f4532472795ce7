"""A tape's frames and notices survive both ways; cut or foreign bytes are no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.tape import (
    ALIVE,
    DATA,
    END,
    ENDED,
    FAILED,
    META,
    SHARED,
    STORED,
    WANTED,
    Ending,
    Notice,
    end_frame,
    frame,
    frames,
    read_ending,
    read_notice,
)

FLIGHT = b"f" * 16
KINDS = st.sampled_from([DATA, META])
FRAMES = st.lists(st.tuples(KINDS, st.binary(max_size=40)), max_size=6)
ENDINGS = st.builds(
    Ending, st.sampled_from([STORED, SHARED, FAILED]), st.text("abcdefghij-", max_size=40), st.binary(max_size=200)
)


@given(FRAMES)
def test_the_frames_of_a_log_come_back_in_order(parts):
    assert frames(b"".join(frame(kind, payload) for kind, payload in parts)) == parts


@given(FRAMES, st.data())
def test_a_log_that_is_cut_anywhere_gives_the_frames_that_are_whole(parts, data):
    log = b"".join(frame(kind, payload) for kind, payload in parts)
    cut = data.draw(st.integers(0, len(log)))
    found = frames(log[:cut])
    assert found == parts[: len(found)]
    assert found == parts or cut < len(log)


@given(FRAMES, ENDINGS)
def test_an_ending_is_found_behind_whatever_went_before(parts, ending):
    log = b"".join(frame(kind, payload) for kind, payload in parts)
    assert read_ending(log) is None
    assert read_ending(log + end_frame(ending)) == ending


@given(ENDINGS, st.data())
def test_an_ending_that_is_cut_has_not_been_said(ending, data):
    log = end_frame(ending)
    assert read_ending(log[: data.draw(st.integers(0, len(log) - 1))]) is None


def test_a_detail_that_is_not_ascii_comes_back():
    assert read_ending(end_frame(Ending(SHARED, "höchstens", b"x"))) == Ending(SHARED, "höchstens", b"x")


def test_the_bytes_of_an_ending_are_these():
    assert end_frame(Ending(SHARED, "moved", b"{}")) == b"\x7f\x00\x00\x00\x09t\x05moved{}"


@pytest.mark.parametrize("log", [b"", b"\x7f\x00\x00\x00", b"another program's value", b"\x7f\xff\xff\xff\xffs"])
def test_what_is_no_tape_says_nothing(log):
    assert read_ending(log) is None


@pytest.mark.parametrize("payload", [b"", b"t", b"t\x05mo", b"t\x01\xff"])
def test_an_ending_that_lies_about_itself_says_nothing(payload):
    assert read_ending(frame(END, payload)) is None


@given(st.sampled_from([ENDED, ALIVE, WANTED]), st.binary(min_size=16, max_size=16), st.integers(1, 2**53))
def test_words_come_back(kind, flight, order):
    for notice in (Notice(kind, flight, order), Notice(kind, flight, order, STORED)):
        assert read_notice(notice.packed()) == notice


def test_the_bytes_of_a_word_are_these():
    assert Notice(ENDED, FLIGHT, 258, SHARED).packed() == b"E" + FLIGHT + b"\x00\x00\x00\x00\x00\x00\x01\x02t"


@pytest.mark.parametrize("data", [b"", b"E", b"E" + FLIGHT + b"\x00" * 7])
def test_what_is_too_short_for_a_word_is_none(data):
    assert read_notice(data) is None


def test_a_strangers_message_on_our_channel_is_none():
    assert read_notice(b"a stranger's message on our own channel") is None
