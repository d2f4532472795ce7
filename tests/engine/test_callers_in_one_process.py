"""Callers of one process share a flight in memory: the store hears of none of them, and none is lost for that."""

from __future__ import annotations

import asyncio

import pytest

from askonce import Policy
from askonce.flight.background import BackgroundThread
from askonce.flight.heartbeats import Heartbeats
from askonce.runtime.drive import drive
from tests.crowd import ASKED, HANG, PATIENCE, after, eventually, gathered, results

pytestmark = pytest.mark.concurrency


@pytest.fixture
def call(call):
    call.script(None, HANG, "complete")
    return call


def wanted(cache):
    """What the store says of the flights under way: whether another process waits for them."""
    store = cache._base.engine().store.blocking()
    said = [flight.wanted for flight in drive(store.flights(10))]
    drive(store.close())
    return said


def test_the_store_hears_only_of_callers_of_other_processes(crowd, place, call):
    cache, other = crowd.cache(place), crowd.cache(place)
    here = crowd.asks(4, cache, ASKED, call)
    gathered(cache, 4, call)
    assert wanted(cache) == [False]
    there = crowd.asks(4, other, ASKED, call)
    eventually(lambda: other.stats()["waiting"] == 4, "callers of another process wait")
    assert wanted(cache) == [True]
    call.release()
    assert sum(one.status.collapsed for one in results(here + there)) == 7
    assert call.calls == 1


@pytest.mark.parametrize("kept", [True, False], ids=["stored", "not stored"])
def test_who_is_told_to_follow_a_flight_that_ends_at_once_has_its_answer(crowd, place, call, kept):
    """The store has nothing of an answer that is not stored, and of which nobody elsewhere was told."""
    own = {} if kept else {"store_if": lambda _: False}
    cache = crowd.cache(place)
    leader = crowd.ask(cache, ASKED, call, **own)
    gathered(cache, 1, call)
    board = cache._base.engine().board

    async def over():
        while board.posted():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)

    def ends(_):
        call.release()
        if crowd.tasks:
            return over()
        leader.result(PATIENCE)
        return eventually(lambda: not board.posted(), "it has ended") and None

    after(cache, "claim", ends)
    outcome = crowd.answer(cache, ASKED, call, **own)
    assert outcome.status.collapsed
    assert outcome.value == leader.result(PATIENCE).value
    assert call.calls == 1


def test_a_call_that_others_of_its_process_had_joined_is_closed_with_the_last_of_them(tasks, place, call, monkeypatch):
    monkeypatch.setattr(BackgroundThread, "rhythm", 0.05)
    renewed, renew = [], Heartbeats.renew
    monkeypatch.setattr(Heartbeats, "renew", lambda *given: renewed.append(renew(*given)))
    cache = tasks.cache(place, policy=Policy(on_abandon="close"))
    callers = tasks.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    before = len(renewed)
    eventually(lambda: len(renewed) > before + 2, "the store could have told that somebody waits")
    for caller in callers:
        caller.cancel()
    eventually(lambda: call.in_flight == 0, "the call is cancelled")
    assert cache.stats()["abandoned.close"] == 1
