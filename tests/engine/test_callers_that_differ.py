"""Callers of one question who want different things: whose word counts, and what each of them gets."""

from __future__ import annotations

import asyncio

import pytest

from askonce.flight.background import BackgroundThread
from askonce.testing import ScriptedCall
from tests.crowd import ASKED, HANG, PATIENCE, after, counted, eventually, gathered
from tests.differing import problems

pytestmark = pytest.mark.concurrency


@pytest.mark.parametrize(("first", "second"), [({"max_flight": 0.001}, {}), ({}, {"max_flight": 0.001})])
def test_a_call_that_takes_longer_than_one_of_its_callers_lets_it_is_paid_once(crowd, place, call, first, second):
    """Its leader waited for its own lease like a follower, and called again as soon as that had ended."""
    call.script(None, HANG)
    cache = crowd.cache(place)
    leader = crowd.ask(cache, ASKED, call, **first)
    gathered(cache, 1, call)
    other = crowd.ask(cache, ASKED, call, **second)
    gathered(cache, 2, call)
    claims, others = counted(cache, "claim"), ScriptedCall()
    for number in range(5):
        crowd.answer(cache, {"another": number}, others)
    assert claims() == 5, "who waits claims again"
    call.release()
    assert not leader.result(PATIENCE).status.collapsed
    assert other.result(PATIENCE).status.collapsed
    assert call.calls == 1


@pytest.mark.parametrize("control", [None, "no-cache", "max-age=0"])
def test_who_waited_for_a_call_of_another_process_was_not_answered_from_the_store(crowd, others, place, call, control):
    """Its answer was stored between the two claims of a follower."""
    call.script(None, HANG)
    near, far = crowd.cache(place), others.cache(place)
    leader = crowd.ask(near, ASKED, call)
    gathered(near, 1, call)
    after(far, "claim", lambda _: (call.release(), leader.result(PATIENCE)))
    status = others.ask(far, ASKED, call, control=control).result(PATIENCE).status
    assert (status.hit, status.fwd, status.collapsed) == (False, "miss", True)
    assert call.calls == 1


@pytest.mark.parametrize("own", [{"abandon_limit": 0.001}, {"on_abandon": "close"}])
def test_a_call_that_another_process_waits_for_goes_on_without_a_caller_here(tasks, place, call, own, monkeypatch):
    """As a stream does. It was cancelled, and the other process paid for a second one."""
    monkeypatch.setattr(BackgroundThread, "rhythm", 0.1)
    call.script(None, HANG, "complete")
    near, far = tasks.cache(place), tasks.cache(place)
    leader = tasks.ask(near, ASKED, call, **own)
    gathered(near, 1, call)
    follower = tasks.ask(far, ASKED, call)
    (flight,) = near._base.engine().board.flights()
    eventually(lambda: flight.heartbeat.wanted, "a renewal tells that another process waits")
    leader.cancel()
    eventually(lambda: near.stats().get("abandoned"), "its caller has left")
    for number in range(5):  # its time without a caller passes
        tasks.answer(near, {"another": number}, ScriptedCall())
    call.release()
    assert follower.result(PATIENCE).status.collapsed
    assert call.calls == 1


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 150))])
def test_whatever_callers_ask_at_once_each_gets_what_it_may_and_all_are_counted_once(seed):
    assert not asyncio.run(problems(seed))
