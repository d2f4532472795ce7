"""Callers of one question who want different things: whose word counts, and what each of them gets."""

from __future__ import annotations

import asyncio

import pytest

from askonce.testing import ScriptedCall
from tests.crowd import ASKED, HANG, PATIENCE, after, counted, gathered
from tests.differing import problems

pytestmark = pytest.mark.concurrency


@pytest.fixture
def call():
    return ScriptedCall()


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


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 150))])
def test_whatever_callers_ask_at_once_each_gets_what_it_may_and_all_are_counted_once(seed):
    assert not asyncio.run(problems(seed))
