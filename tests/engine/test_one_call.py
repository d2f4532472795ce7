"""One question, one paid call, however many callers ask at once: threads, tasks, loops and processes, on every store.

The calls hang until all callers are known to wait, so that "at once" is a fact. The counts are those of the scripted
provider, which bills a call when it arrives. Two answers are equal exactly if they come from one call.
"""

from __future__ import annotations

import itertools
import time

import pytest

from askonce.testing import Receipts, ScriptedCall, Step
from tests.crowd import (
    ASKED,
    HANG,
    PATIENCE,
    STORES,
    Crowd,
    Loop,
    all_tell,
    by_turns,
    eventually,
    gathered,
    idle,
    joined,
    results,
    values,
    workers,
)
from tests.took import Took

pytestmark = pytest.mark.concurrency


@pytest.fixture
def call(call):
    call.script(None, HANG, Step())
    return call


def test_many_callers_at_once_pay_once_and_get_equal_answers_of_their_own(crowd, place, call):
    cache = crowd.cache(place)
    futures = crowd.asks(25, cache, ASKED, call)
    gathered(cache, 25, call)
    assert call.release() == 1
    found = values(futures)
    assert call.calls == 1
    assert all(value == found[0] for value in found)
    assert len({id(value) for value in found}) == 25
    counted = cache.stats()
    assert (counted["lookups"], counted["miss"], counted["collapsed"], counted["stored"]) == (25, 1, 24, 1)
    assert crowd.answer(cache, ASKED, call).status.hit
    assert call.calls == 1


def test_one_leader_stores_and_all_others_are_collapsed(crowd, place, call):
    cache = crowd.cache(place)
    futures = crowd.asks(5, cache, ASKED, call)
    gathered(cache, 5, call)
    call.release()
    statuses = [outcome.status for outcome in results(futures)]
    assert sorted(status.stored for status in statuses) == [False] * 4 + [True]
    assert sorted(status.collapsed for status in statuses) == [False] + [True] * 4
    assert {status.fwd for status in statuses} == {"miss"}


def test_different_questions_do_not_wait_for_each_other(crowd, place):
    call = ScriptedCall()
    call.script("slow", HANG)
    cache = crowd.cache(place)
    slow = crowd.ask(cache, "slow", call)
    gathered(cache, 1, call)
    assert crowd.answer(cache, "quick", call).status.stored
    assert not slow.done()
    call.release()
    assert slow.result(PATIENCE).status.stored


def test_two_caches_of_one_process_pay_once(crowd, place, call):
    first, second = crowd.cache(place), crowd.cache(place)
    futures = crowd.asks(3, first, ASKED, call) + crowd.asks(3, second, ASKED, call)
    eventually(lambda: sum(len(cache._base._engine.board.flights()) for cache in (first, second)) == 1, "one leads")
    leader = first if first._base._engine.board.flights() else second
    # Both share a background thread, so its waiting callers are counted once.
    eventually(lambda: joined(leader) == 3 and leader.stats()["waiting"] >= 3, "three at the flight, three outside")
    call.wait_until_paid()
    call.release()
    values(futures)
    assert call.calls == 1


def test_threads_and_tasks_of_one_process_pay_once(threads, tasks, place, call):
    a, b = threads.cache(place), tasks.cache(place)
    futures = threads.asks(3, a, ASKED, call)
    gathered(a, 3, call)
    futures += tasks.asks(3, b, ASKED, call)
    eventually(lambda: b.stats()["waiting"] >= 3, "the tasks wait for the threads")
    call.release()
    found = values(futures)
    assert call.calls == 1
    assert all(value == found[0] for value in found)


def test_several_event_loops_pay_once(tasks, place, call):
    cache = tasks.cache(place)
    loops = [Loop() for _ in range(3)]
    try:
        futures = [tasks.ask(cache, ASKED, call, loop=loop) for loop in loops for _ in range(4)]
        gathered(cache, 12, call)
        call.release()
        values(futures)
        assert call.calls == 1
        assert [tasks.ask(cache, ASKED, call, loop=loop).result(PATIENCE).status.hit for loop in loops] == [True] * 3
    finally:
        for loop in loops:
            loop.close()


def test_callers_that_trickle_in_during_a_call_join_it(crowd, place, call):
    cache = crowd.cache(place)
    futures = []
    for number in range(1, 9):
        futures += crowd.asks(1, cache, ASKED, call)
        gathered(cache, number, call)
    call.release()
    values(futures)
    assert call.calls == 1


@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_four_processes_of_ten_callers_pay_once_and_are_answered_together(mode, shared, tmp_path):
    receipts = Receipts(tmp_path / "paid")
    with workers(4, mode, shared, receipts.path) as told:
        all_tell(told, "script", None, {"hang": True})
        all_tell(told, "ask", 10, ASKED)
        all_tell(told, "gathered", 10)
        eventually(lambda: receipts.paid() == 1, "the call began")
        released, took = time.monotonic(), Took()
        assert sum(all_tell(told, "release")) == 1
        found = list(itertools.chain(*all_tell(told, "results")))
        busy = took.wall - took.seconds
        assert receipts.paid() == 1
        assert len(found) == 40
        assert all(one["value"] == found[0]["value"] for one in found)
        ats = [one["at"] for one in found]
        assert max(ats) - min(ats) - busy <= 0.25
        assert max(ats) - released - busy <= 0.5
        assert not any(stats["waiting"] or stats["flights"] for stats in all_tell(told, "stats"))


@pytest.mark.servers
@pytest.mark.parametrize(("mode", "shared"), by_turns(STORES, STORES), indirect=["shared"])
def test_a_question_without_keeping_is_still_asked_once(mode, shared, tmp_path):
    receipts = Receipts(tmp_path / "paid")
    with workers(3, mode, shared, receipts.path) as told:
        all_tell(told, "script", None, {"hang": True})
        all_tell(told, "ask", 5, ASKED, ttl=0)
        all_tell(told, "gathered", 5)
        eventually(lambda: receipts.paid() == 1, "the call began")
        all_tell(told, "release")
        found = list(itertools.chain(*all_tell(told, "results")))
        assert receipts.paid() == 1
        assert all(one["value"] == found[0]["value"] for one in found)
        all_tell(told, "script", None, "complete")
        told[0].tell("ask", 1, ASKED)
        told[0].tell("results")
        assert receipts.paid() == 2  # nothing was kept


def test_callers_who_want_a_new_answer_at_the_same_time_share_one(crowd, place, call):
    call.script(None, Step(), HANG)
    cache = crowd.cache(place)
    old = crowd.answer(cache, ASKED, call).value
    futures = crowd.asks(8, cache, ASKED, call, control="no-cache")
    gathered(cache, 8, call)
    call.release()
    found = values(futures)
    assert call.calls == 2
    assert all(value == found[0] != old for value in found)
    assert {str(o.status.fwd) for o in results(futures)} <= {"request", "miss"}


def test_after_a_burst_nothing_is_going_on(crowd, place, call):
    cache = crowd.cache(place)
    futures = crowd.asks(10, cache, ASKED, call)
    gathered(cache, 10, call)
    call.release()
    values(futures)
    idle(cache)
    assert joined(cache) == 0
    assert "0 in flight" in repr(cache)


def test_a_hit_does_not_start_the_background_thread(crowd, place):
    call = ScriptedCall()
    crowd.answer(crowd.cache(place), ASKED, call)
    other = Crowd(crowd.mode)
    try:
        cache = other.cache(place, prefix="")
        before = cache._base._engine.background._thread
        assert other.answer(cache, ASKED, call).status.hit
        assert cache._base._engine.background._thread is before
    finally:
        other.close()
