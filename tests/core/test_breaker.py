"""Breakers: what opens one; and no direction hides the trouble of another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.breaker import SILENT, UNSURE, Breakers

ANSWERS = ["store-refused", "store-denied", "store-readonly", "store-full", "store-loading", "store-foreign"]
KINDS = [*ANSWERS, *sorted(UNSURE)]
DIRECTIONS = ["read", "write"]

events = st.lists(
    st.one_of(
        st.tuples(st.just("worked"), st.sampled_from(DIRECTIONS), st.just("")),
        st.tuples(st.sampled_from(["failed", "connecting"]), st.sampled_from(DIRECTIONS), st.sampled_from(KINDS)),
        st.tuples(st.just("closed"), st.sampled_from(["read", "write", "connect"]), st.just("")),
    ),
    max_size=30,
)


def test_a_refusal_opens_at_once_and_silence_at_the_second_in_a_row():
    for kind in KINDS:
        breakers = Breakers()
        assert bool(breakers.failed("write", kind)) is (kind not in UNSURE)
        breakers.failed("write", kind)
        assert breakers.write.open
        assert not breakers.read.open
        assert breakers.kinds() == {"connect": "closed", "read": "closed", "write": kind}
        assert (breakers.kind(), breakers.shut) == (kind, True)


def test_reads_that_work_hide_no_writes_that_do_not():
    breakers = Breakers()
    assert not breakers.failed("write", "store-timeout")
    breakers.read.worked()
    assert breakers.failed("write", "store-timeout") == [breakers.write]
    assert not breakers.read.open


def test_where_reads_meet_silence_writes_are_not_tried_either_and_where_they_are_refused_they_are():
    breakers = Breakers()
    breakers.failed("read", "store-timeout")
    assert breakers.failed("read", "store-timeout") == [breakers.read, breakers.write]
    breakers = Breakers()
    assert breakers.failed("read", "store-denied") == [breakers.read]


def test_silence_while_connecting_is_silence_of_what_was_asked_too():
    breakers = Breakers()
    breakers.failed("read", "store-timeout")  # on an existing connection
    opened = breakers.failed("read", "store-timeout", connecting=True)  # no connection could be made then
    assert opened == [breakers.read, breakers.write]
    breakers = Breakers()
    assert breakers.failed("read", "store-denied", connecting=True) == [breakers.connect]


@given(events)
def test_a_breaker_is_open_from_what_opened_it_until_it_is_closed_whatever_happens_to_the_others(said):
    breakers, open_now = Breakers(), {}
    for what, direction, kind in said:
        if what == "worked":
            getattr(breakers, direction).worked()
        elif what == "closed":
            breakers.close(getattr(breakers, direction))
            open_now.pop(direction, None)
        else:
            opened = breakers.failed(direction, kind, connecting=what == "connecting")
            assert all(one.direction not in open_now for one in opened), "told of once"
            open_now |= {one.direction: kind for one in opened}
            if kind not in UNSURE:
                assert ("connect" if what == "connecting" else direction) in open_now
        assert {one.direction: one.kind for one in breakers.all() if one.open} == open_now
        assert breakers.shut is bool(open_now)
    assert UNSURE >= SILENT
