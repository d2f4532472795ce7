"""Calls that raise, and answers that may not be kept: who is told, and who calls again.

In one process, all followers of a failing call share its failure. Another process cannot get the exception, so one of
its callers is woken and calls, never two at a time. An answer that may not be stored is still an answer: the flight's
tape brings it to every follower, and later callers do not get it.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import re

import pytest

from askonce import UsageError
from askonce.testing import Receipts, Step
from tests.crowd import (
    ASKED,
    MODES,
    PATIENCE,
    STORES,
    after,
    all_tell,
    by_turns,
    eventually,
    gathered,
    results,
    workers,
)

pytestmark = pytest.mark.concurrency

NOT_KEPT = {
    "refused": "refused",
    "truncated": "truncated",
    "filtered": "filtered",
    "empty": "empty",
    "tool_call": "tool-call",
}


@pytest.fixture
def receipts(tmp_path):
    return Receipts(tmp_path / "paid")


class Overloaded(Exception):
    """An upstream's own."""


def test_one_failing_call_is_shared_by_all_who_joined_it(crowd, place, call):
    call.script(None, Step(hang=True, error=Overloaded("busy")), "complete")
    cache = crowd.cache(place)
    futures = crowd.asks(25, cache, ASKED, call)
    gathered(cache, 25, call)
    call.release()
    raised = results(futures)
    assert {(type(error), str(error)) for error in raised} == {(Overloaded, "busy")}
    assert call.calls == 1
    counted = cache.stats()
    assert (counted["lookups"], counted["failed"], counted["failed.Overloaded"]) == (25, 1, 1)
    assert "stored" not in counted
    assert crowd.answer(cache, ASKED, call).status.stored  # nothing stands in the way of the next
    assert call.calls == 2


@pytest.mark.servers
@pytest.mark.parametrize(("mode", "shared"), by_turns(STORES, STORES), indirect=["shared"])
def test_elsewhere_a_failing_call_is_followed_by_one_successor_at_a_time(mode, shared, receipts):
    with workers(4, mode, shared, receipts.path) as told:
        all_tell(told, "script", None, {"hang": True, "raises": "busy"})
        all_tell(told, "ask", 5, ASKED)
        left = list(told)
        while left:
            eventually(lambda: receipts.paid() == 5 - len(left), f"one of {len(left)} calls")
            all_tell(left, "gathered", 5)
            leading = next(worker for worker in left if worker.process.pid == receipts.rows()[-1].pid)
            left.remove(leading)
            assert leading.tell("release") == 1
            raised = leading.tell("results")
            assert [(one["raised"], one["said"]) for one in raised] == [("ZeroDivisionError", "busy")] * 5
        assert sorted(receipt.pid for receipt in receipts.rows()) == sorted(worker.process.pid for worker in told)
        all_tell(told, "script", None, "complete")
        told[0].tell("ask", 1, ASKED)
        assert "stored" in told[0].tell("results")[0]["status"]
        assert receipts.paid() == 5


@pytest.mark.servers
@pytest.mark.parametrize(("mode", "shared"), by_turns(STORES, STORES), indirect=["shared"])
def test_the_successor_of_a_failed_call_answers_all_others(mode, shared, receipts):
    with workers(3, mode, shared, receipts.path) as (first, *others):
        first.tell("script", None, {"hang": True, "raises": "busy"})
        first.tell("ask", 2, ASKED)
        first.tell("gathered", 2)
        all_tell(others, "ask", 5, ASKED)
        all_tell(others, "gathered", 5)
        first.tell("release")
        assert {one["raised"] for one in first.tell("results")} == {"ZeroDivisionError"}
        found = [one for told in all_tell(others, "results") for one in told]
        assert all(one["value"] == found[0]["value"] for one in found)
        assert receipts.paid() == 2


@pytest.mark.servers
@pytest.mark.parametrize(
    ("shape", "shared"), [*zip(NOT_KEPT, itertools.cycle(["sqlite", "valkey"]), strict=False)], indirect=["shared"]
)
def test_an_answer_that_may_not_be_kept_is_paid_once_by_all_processes_and_stored_by_none(shape, shared, receipts):
    with workers(3, MODES[len(shape) % 2], shared, receipts.path) as told:
        all_tell(told, "script", None, {"hang": True, "shape": shape})
        all_tell(told, "ask", 5, ASKED)
        all_tell(told, "gathered", 5)
        eventually(lambda: receipts.paid() == 1, "the call began")
        assert sum(all_tell(told, "release")) == 1
        found = [one for some in all_tell(told, "results") for one in some]
        assert receipts.paid() == 1
        assert len(found) == 15
        assert all(one["value"] == found[0]["value"] for one in found)
        assert all(one["status"].endswith(f"detail={NOT_KEPT[shape]}") for one in found)
        all_tell(told, "script", None, "complete")
        told[0].tell("ask", 1, ASKED)
        assert "fwd=miss; stored" in told[0].tell("results")[0]["status"]
        assert receipts.paid() == 2


@pytest.mark.parametrize("shape", NOT_KEPT)
def test_an_answer_that_may_not_be_kept_is_shared_within_a_process(crowd, place, call, shape):
    call.script(None, Step(hang=True, shape=shape), "complete")
    cache = crowd.cache(place)
    futures = crowd.asks(10, cache, ASKED, call)
    gathered(cache, 10, call)
    call.release()
    found = results(futures)
    assert call.calls == 1
    assert {outcome.status.detail for outcome in found} == {NOT_KEPT[shape]}
    assert cache.stats()[f"unstored.{NOT_KEPT[shape]}"] == 1
    assert not crowd.answer(cache, ASKED, call).status.hit
    assert call.calls == 2


def test_an_answer_over_the_cap_is_returned_and_not_stored(crowd, place, call):
    from askonce import Policy

    call.script(None, Step(body={"text": "x" * 5000}))
    cache = crowd.cache(place, policy=Policy(max_answer_bytes=4096))
    outcome = crowd.answer(cache, ASKED, call)
    assert (outcome.status.stored, outcome.status.detail) == (False, "too-large")
    assert len(outcome.value["text"]) == 5000
    crowd.answer(cache, ASKED, call)
    assert call.calls == 2


def test_a_leader_interrupted_in_its_thread_is_followed_by_one_of_those_who_joined(threads, place, call):
    call.script(None, Step(hang=True, error=KeyboardInterrupt()), "complete")
    cache = threads.cache(place)
    futures = threads.asks(6, cache, ASKED, call)
    gathered(cache, 6, call)
    call.release()
    found = results(futures)
    assert [type(one) for one in found].count(KeyboardInterrupt) == 1
    assert len({outcome.value["id"] for outcome in found if not isinstance(outcome, BaseException)}) == 1
    assert call.calls == 2


def test_a_call_that_is_cancelled_by_itself_is_not_made_again_and_again(tasks, place, call):
    """A client whose pool was closed raises CancelledError at every call: that is its error, to be raised once."""
    call.script(None, asyncio.CancelledError())
    cache = tasks.cache(place)

    async def fetch():
        try:
            await asyncio.wait_for(cache.fetch(ASKED, call.aio_on(ASKED)), 3)
        except asyncio.CancelledError:
            return "cancelled"

    assert tasks.loop.do(fetch()) == "cancelled"
    assert call.calls == 1
    call.script(None, "complete")
    assert tasks.answer(cache, ASKED, call).status.stored


@pytest.mark.parametrize("verb", ["fill", "release"])
def test_a_bug_in_the_store_is_raised_and_does_not_make_the_engine_call_again(crowd, place, call, verb):
    call.script(None, Step(shape="refused" if verb == "release" else "complete"))
    cache = crowd.cache(place)
    if crowd.tasks:  # the flight's task reports its error when it is collected, which may be in another test
        crowd.loop.loop.set_exception_handler(lambda *_: None)

    def bug(reply):
        raise LookupError("a bug")

    after(cache, verb, bug, times=3)
    error = crowd.ask(cache, ASKED, call).exception(PATIENCE)
    assert isinstance(error, LookupError)
    assert call.calls == 1
    eventually(lambda: not cache._base._engine.board.flights(), "no flight is left")


class Word(enum.StrEnum):
    YES = "yes"


class Colour(int, enum.Enum):
    RED = 1


NO_JSON = [
    *((1, 2), {1: 2}, float("nan"), {"x": {1, 2}}, b"bytes", 2**70, object()),
    *(Word.YES, Colour.RED, {"label": Word.YES}, [{"flags": [re.IGNORECASE]}], {"text": "\ud800"}),
]


def test_answers_that_differ_only_in_kind_are_returned_as_they_are(crowd, place):
    """What would come back from JSON as something else is no JSON: it is returned itself, and not stored."""
    cache = crowd.cache(place)
    for number, value in enumerate(NO_JSON):
        outcome = crowd.answer(cache, {"n": number}, lambda value=value: value)
        assert outcome.value is value
        assert outcome.status.detail == "not-json"
        assert not outcome.status.stored


@pytest.mark.parametrize("by", ["itself", "another cache"])
def test_a_call_that_asks_its_own_question_is_told_so_and_does_not_wait_for_itself(crowd, place, by):
    cache = crowd.cache(place)
    other = cache if by == "itself" else crowd.cache(place)
    if crowd.tasks:

        async def inner():
            return (await other.fetch(ASKED, lambda: 1)).value

    else:

        def inner():  # type: ignore[misc]
            return other.fetch(ASKED, lambda: 1).value

    error = crowd.ask(cache, ASKED, inner).exception(PATIENCE)
    assert isinstance(error, UsageError)
    assert "wrap that call once" in str(error)
    assert crowd.answer(cache, ASKED, lambda: 2).value == 2


def test_a_call_may_ask_another_question(crowd, place):
    cache = crowd.cache(place)
    if crowd.tasks:

        async def inner():
            return (await cache.fetch("another", lambda: 1)).value + 1

    else:

        def inner():  # type: ignore[misc]
            return cache.fetch("another", lambda: 1).value + 1

    assert crowd.answer(cache, ASKED, inner).value == 2
    assert crowd.answer(cache, "another", lambda: 9).value == 1
