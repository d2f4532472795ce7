"""A header that is new whenever the same request comes again is reported once; one with a few values never is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.fresh_headers import AGAIN, NAMES, REQUESTS, TOLD, VALUES, FreshHeaders


def note(fresh: FreshHeaders, request: Hashable, headers: list[tuple[str, Any]]) -> list[str]:
    return fresh.note(request, tuple(headers), lambda: headers)


Header = tuple[str, Callable[[int], Hashable]]  # a name, and a function from the number of the call to its value


def told(fresh: FreshHeaders, times: int, *headers: Header) -> list[str]:
    """What is told in so many calls of one request."""
    found: list[str] = []
    for number in range(times):
        found += note(fresh, "q", [(name, value(number)) for name, value in headers])
    return found


def new(name: str) -> Header:
    return name, lambda number: f"{name}-{number}"


def steady(name: str, values: int = 1) -> Header:
    return name, lambda number: number % values


def test_a_header_that_is_always_new_is_told_once_after_it_was_new_so_many_times_in_a_row():
    fresh = FreshHeaders()
    assert told(fresh, AGAIN, new("x")) == []
    assert note(fresh, "q", [("x", "once more")]) == ["x"]
    assert told(fresh, 100, ("x", lambda number: f"later-{number}")) == []


def test_several_fresh_headers_are_told_each_beside_those_that_stay():
    assert told(FreshHeaders(), AGAIN + 1, new("x"), steady("who"), new("y")) == ["x", "y"]


@pytest.mark.parametrize("users", range(1, AGAIN + 1))
def test_users_who_take_turns_are_no_fresh_header(users):
    assert told(FreshHeaders(), 60, steady("x-user", users)) == []
    assert told(FreshHeaders(), 60, steady("x-user", users), new("x-turn")) == ["x-turn"]


@pytest.mark.waits
def test_many_users_with_many_questions_are_told_at_most_while_they_are_all_new():
    quiet = 0
    for seed in range(50):
        draw, fresh = random.Random(seed), FreshHeaders()
        found = [note(fresh, draw.randrange(40), [("x-user", draw.randrange(20))]) for _ in range(4000)]
        quiet += not any(found)
    assert quiet >= 49


def test_ids_of_sessions_are_told_though_each_comes_with_many_questions():
    fresh = FreshHeaders()
    found = [note(fresh, question, [("x-session", session)]) for session in range(9) for question in "abc"]
    assert [name for names in found for name in names] == ["x-session"]


def test_a_retry_with_the_same_id_changes_nothing():
    assert told(FreshHeaders(), 2 * (AGAIN + 1), ("x", lambda number: number // 2)) == ["x"]


def test_a_request_that_comes_once_tells_nothing():
    fresh = FreshHeaders()
    assert [note(fresh, number, [("x", number)]) for number in range(100)] == [[]] * 100


def test_a_header_that_was_away_begins_again():
    fresh = FreshHeaders()
    for number in range(50):
        assert note(fresh, "q", [("x", number)] if number % AGAIN else []) == []


def test_two_lines_of_one_name_are_one_header():
    fresh = FreshHeaders()
    found = [note(fresh, "q", [("x", "same"), ("x", number)]) for number in range(AGAIN + 1)]
    assert found[-1] == ["x"]


def test_what_it_keeps_is_bounded_and_what_comes_often_is_kept():
    fresh = FreshHeaders()
    found: list[str] = []
    for number in itertools.count():
        found += note(fresh, ("other", number), [(f"x-{number % 300}", number), ("y", number)])
        if number % 200 == 0:
            found += note(fresh, "often", [("mine", number)])
        if number > 10 * REQUESTS:
            break
    assert "mine" in found
    assert len(fresh._requests._young) <= REQUESTS
    assert len(fresh._first._young) <= NAMES
    assert all(len(one._young) <= VALUES for one in fresh._first._young.values())
    assert len(fresh._reported) <= TOLD


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.integers(0, 9)), max_size=60))
def test_whatever_is_told_was_new_at_least_so_many_times(calls):
    fresh = FreshHeaders()
    seen: list[tuple[str, str, int]] = []
    for request, name, value in calls:
        seen.append((request, name, value))
        for one in note(fresh, request, [(name, value)]):
            values = [v for r, n, v in seen if r == request and n == one]
            assert len(set(values)) > AGAIN
