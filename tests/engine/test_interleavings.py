"""The gaps between two steps of a lookup, each entered on purpose.

The engine needs several commands, and others act between any two of them: a flight ends while its follower still
subscribes, a caller is cancelled while the store grants it the lease, a notice is sent before anybody listens. Every
test puts one event into one gap (`after`: the store has decided, the caller does not know yet) and checks the cost: no
second call, no wrong answer, and no wait for a deadline where a notice could have come.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from askonce.core.lease import Follow, Lead
from askonce.core.tape import ENDED, FAILED
from askonce.flight.waiters import WaitList
from askonce.testing import Step
from tests.crowd import ASKED, HANG, PATIENCE, after, counted, eventually, gathered, joined, results
from tests.took import Took

pytestmark = pytest.mark.concurrency

PROMPT = 2.0  # s: far below the heartbeat, far above the delay of a notice


def landed(cache):
    eventually(lambda: not cache._base._engine.board.flights(), "the flight landed")


@pytest.mark.parametrize("shape", ["complete", "refused"])
@pytest.mark.parametrize("own", [{}, {"control": "no-cache"}, {"ttl": 0}], ids=["plain", "no-cache", "ttl-0"])
def test_a_flight_that_ends_while_its_follower_subscribes_is_not_paid_again(crowd, others, place, call, shape, own):
    call.script(None, Step(hang=True, shape=shape), Step())
    leading, following = others.cache(place), crowd.cache(place)
    first = others.ask(leading, ASKED, call, **own)
    gathered(leading, 1, call)
    told = []

    def end(claim):
        told.append(claim)
        call.release()
        landed(leading)

    after(following, "claim", end)
    second = crowd.answer(following, ASKED, call, **own)
    assert isinstance(told[0], Follow)
    assert second.value == first.result(PATIENCE).value
    assert call.calls == 1
    assert second.status.hit or second.status.collapsed


@pytest.mark.parametrize("shape", ["complete", "refused"])
def test_a_flight_of_this_process_that_ends_before_it_is_joined_is_not_paid_again(crowd, place, call, shape):
    call.script(None, Step(hang=True, shape=shape), Step())
    cache = crowd.cache(place)
    first = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)

    def end(claim):
        assert isinstance(claim, Follow)
        call.release()
        # The flight is a task of the same loop: if it is held up here, it cannot land.
        return asyncio.wrap_future(crowd.start(lambda: landed(cache))) if crowd.tasks else landed(cache)

    after(cache, "claim", end)
    second = crowd.answer(cache, ASKED, call)
    assert second.value == first.result(PATIENCE).value
    assert call.calls == 1


def test_a_word_said_before_its_follower_knows_whom_he_follows_is_not_lost(crowd, others, place, call, monkeypatch):
    """Follow(X), subscribed; X fails, Y takes its place; Follow(Y) is on its way to it, and Y ends."""
    call.script(None, Step(hang=True, error=ZeroDivisionError()), HANG, Step())
    leading, following = others.cache(place), crowd.cache(place)
    heard = threading.Event()
    plain = WaitList.notify

    def hear(self, notice):
        plain(self, notice)
        if notice.kind == ENDED and notice.outcome != FAILED:
            heard.set()

    monkeypatch.setattr(WaitList, "notify", hear)
    others.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    claims = []

    def between(claim):
        claims.append(claim)
        call.release()
        landed(leading)
        if len(claims) == 1:
            others.ask(leading, ASKED, call)
            call.wait_until_paid(ASKED, 2)
        else:
            assert heard.wait(PATIENCE)

    after(following, "claim", between, times=2)
    took = Took()
    second = crowd.answer(following, ASKED, call)
    assert [type(claim) for claim in claims] == [Follow, Follow]
    assert took.seconds < PROMPT
    assert call.calls == 2
    assert second.value["id"].endswith("-2")


def test_a_caller_cancelled_while_the_store_grants_leaves_no_lease_behind(tasks, place, call):
    first, second = tasks.cache(place), tasks.cache(place)
    granted = threading.Event()

    def act(claim):
        assert isinstance(claim, Lead)
        granted.set()
        return asyncio.sleep(PATIENCE)

    after(first, "claim", act)
    caller = tasks.ask(first, ASKED, call)
    assert granted.wait(PATIENCE)
    caller.cancel()
    took = Took()
    assert tasks.answer(second, ASKED, call).status.fwd == "miss"
    assert took.seconds < PROMPT
    assert call.calls == 1


def test_a_thread_interrupted_while_the_store_grants_leaves_no_lease_behind(threads, place, call):
    first, second = threads.cache(place), threads.cache(place)

    def act(claim):
        raise KeyboardInterrupt

    after(first, "claim", act)
    with pytest.raises(KeyboardInterrupt):
        first.fetch(ASKED, call.on(ASKED))
    took = Took()
    assert threads.answer(second, ASKED, call).status.fwd == "miss"
    assert took.seconds < PROMPT
    assert call.calls == 1


def test_a_caller_cancelled_while_he_subscribes_leaves_nobody_waiting(tasks, place, call):
    call.script(None, HANG)
    leading, following = tasks.cache(place), tasks.cache(place)
    first = tasks.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    second = tasks.ask(following, ASKED, call)
    eventually(lambda: following.stats()["waiting"] == 1, "it listens")
    second.cancel()
    eventually(lambda: following.stats()["waiting"] == 0, "it listens no more")
    call.release()
    assert first.result(PATIENCE).status.stored
    assert joined(leading) == 0


def test_a_flight_is_joined_although_its_leader_does_not_know_yet_that_he_leads(crowd, place, call):
    call.script(None, Step(hang=True, error=ZeroDivisionError()))
    cache = crowd.cache(place)
    claims = []

    def held_up(claim):
        claims.append(claim)
        if not isinstance(claim, Lead):
            return None
        second.append(crowd.ask(cache, ASKED, call))
        known = lambda: len(claims) > 1 and (expected()[0].callers or cache.stats()["waiting"])  # noqa: E731
        wait = lambda: eventually(known, "the second waits, somewhere")  # noqa: E731
        return asyncio.wrap_future(crowd.start(wait)) if crowd.tasks else wait()

    second = []
    expected = lambda: [one for one in cache._base._engine.board._claimed.values() if one.grant is None]  # noqa: E731
    after(cache, "claim", held_up, times=2)
    first = crowd.ask(cache, ASKED, call)
    gathered(cache, 2, call)
    call.release()
    assert [type(error) for error in results([first, *second])] == [ZeroDivisionError] * 2
    assert [type(claim) for claim in claims] == [Lead, Follow]
    assert call.calls == 1


def test_a_failure_is_not_told_to_one_who_follows_it_no_more(crowd, others, place, call):
    """Two follow X. X is invalidated, one of them looks again and leads Y. X fails: the other is to be woken."""
    call.script(None, Step(hang=True, error=ZeroDivisionError()), HANG)
    leading, following = others.cache(place), crowd.cache(place)
    others.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    claims = counted(following, "claim")
    futures = crowd.asks(1, following, ASKED, call)
    eventually(lambda: claims() == 2, "the first follows")
    futures += crowd.asks(1, following, ASKED, call)
    eventually(lambda: claims() == 4, "the second follows")
    others.do(leading.invalidate, request=ASKED)
    (wait_list,) = following._base._engine.background._wait_lists.values()
    next(iter(wait_list.waiters)).wake(None)
    call.wait_until_paid(ASKED, 2)
    assert len(following._base._engine.board.flights()) == 1
    (failing,) = leading._base._engine.board.flights()
    gate = next(gate for gate in call._gates)  # the gate of X, the older one
    del call._gates[gate]
    gate.set_running_or_notify_cancel()
    gate.set_result(None)
    eventually(lambda: failing.done, "X failed")
    eventually(lambda: joined(following) == 2, "the second joins Y", patience=PROMPT)
    call.release()
    assert len({future.result(PATIENCE).value["id"] for future in futures}) == 1
    assert call.calls == 2
