"""Invalidations during other work.

The promise: once `invalidate()` has returned, no lookup that starts later gets an answer whose call began before it was
called, from the store or by joining. A caller that already followed that call may get its answer. Each scenario runs
with the real code, and some run again with a planted fault that other caches are known to have, which must be noticed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time

import pytest

from askonce import Policy
from askonce.core import lease as rules
from askonce.core.model import Snapshot
from askonce.engine import leader
from askonce.engine.engine import Engine
from askonce.testing import Step
from askonce.testing.trial import Clock
from tests.crowd import ASKED, HANG, MODES, PATIENCE, Crowd, after, counted, eventually, gathered, joined, values
from tests.took import Took

pytestmark = pytest.mark.concurrency

WAYS = ["key", "request", "everything", "tag", "scope", "model"]
CALL_OPTIONS = {"scope": "support/v3", "tags": ["doc:42"]}


def meant(way, cache):
    """The arguments that reach ASKED, asked with OWN."""
    settings = cache._settings({"scope": CALL_OPTIONS["scope"], "tags": ()}) if way == "key" else None
    return {
        "key": lambda: {"key": cache._base.key_of(ASKED, settings).text},
        "request": lambda: {"request": ASKED, "scope": CALL_OPTIONS["scope"]},
        "everything": lambda: {"everything": True},
        "tag": lambda: {"tag": "doc:42"},
        "scope": lambda: {"scope": "support"},
        "model": lambda: {"model": ASKED["model"]},
    }[way]()


def scenario(crowd, others, place, call, way):
    """A flight with followers near and far; an invalidation; a lookup that starts later, while it is still under
    way.
    """
    call.script(None, Step(hang=True, body={"born": "before"}), Step(body={"born": "after"}))
    near, far = crowd.cache(place), others.cache(place)
    before = crowd.asks(3, near, ASKED, call, **CALL_OPTIONS)
    gathered(near, 3, call)
    claims = counted(far, "claim")
    outside = others.asks(2, far, ASKED, call, **CALL_OPTIONS)
    eventually(lambda: claims() == 4, "two follow from afar")
    others.do(far.invalidate, **meant(way, far))
    later = [crowd.ask(near, ASKED, call, **CALL_OPTIONS), others.ask(far, ASKED, call, **CALL_OPTIONS)]
    assert values(later) == [{"born": "after"}] * 2, "an answer from before the invalidation"
    took = Took()
    call.release()
    assert values(before) == [{"born": "before"}] * 3
    assert values(outside) == [{"born": "before"}] * 2
    assert took.seconds < 2.0
    assert call.calls == 2
    for cache, asking in ((near, crowd), (far, others)):
        outcome = asking.answer(cache, ASKED, call, **CALL_OPTIONS)
        assert outcome.value == {"born": "after"}, "an answer from before the invalidation"
        assert outcome.status.hit
    assert near.stats()["refused"] == 1
    assert call.calls == 2


@pytest.mark.parametrize("way", WAYS)
def test_who_followed_before_has_the_old_answer_and_who_asks_later_a_new_one(crowd, others, place, call, way):
    scenario(crowd, others, place, call, way)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_was_invalidated_during_its_call_is_not_stored(crowd, place, call, way):
    call.script(None, HANG, "complete")
    cache = crowd.cache(place)
    future = crowd.ask(cache, ASKED, call, **CALL_OPTIONS)
    gathered(cache, 1, call)
    crowd.do(cache.invalidate, **meant(way, cache))
    call.release()
    old = future.result(PATIENCE)
    assert not old.status.stored
    assert old.status.detail in {"lost", "moved"}
    new = crowd.answer(cache, ASKED, call, **CALL_OPTIONS)
    assert new.value != old.value
    assert new.status.stored


@pytest.mark.parametrize("way", WAYS)
def test_a_stored_answer_is_gone_everywhere_at_once(crowd, others, place, call, way):
    near, far = crowd.cache(place), others.cache(place)
    for cache, asking in ((near, crowd), (far, others)):
        asking.answer(cache, ASKED, call, **CALL_OPTIONS)
    others.do(far.invalidate, **meant(way, far))
    assert not crowd.answer(near, ASKED, call, **CALL_OPTIONS).status.hit
    assert others.answer(far, ASKED, call, **CALL_OPTIONS).status.hit
    assert call.calls == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", ["look", "claim", "fill"])
def test_an_invalidation_in_each_gap_of_a_lookup_leaves_nothing_old(crowd, others, place, call, way, verb):
    """After the miss was read, after the lease was granted, after the answer was stored."""
    call.script(None, Step(body={"born": "before"}), Step(body={"born": "after"}))
    near, far = crowd.cache(place), others.cache(place)

    def invalidate(reply):
        others.do(far.invalidate, **meant(way, far))

    after(near, verb, invalidate)
    crowd.answer(near, ASKED, call, **CALL_OPTIONS)
    found = crowd.answer(near, ASKED, call, **CALL_OPTIONS)
    if verb == "look":  # the call began after the invalidation
        assert (found.value, call.calls) == ({"born": "before"}, 1)
    else:
        assert (found.value, call.calls) == ({"born": "after"}, 2)


def test_an_invalidation_between_the_reads_and_the_claim_leaves_no_stale_answer(threads, call):
    clock = Clock()
    near = threads.cache("memory://stale-gap", clock=clock, policy=Policy(ttl=60, grace=600, jitter=0))
    far = threads.cache("memory://stale-gap", clock=clock)
    old = threads.answer(near, ASKED, call).value
    clock.tick(120_000)
    after(near, "look", lambda look: far.invalidate(everything=True))
    assert threads.answer(near, ASKED, call).value != old


def test_an_outcome_can_be_forgotten(crowd, others, place, call):
    near, far = crowd.cache(place), others.cache(place)
    outcome = crowd.answer(near, ASKED, call)
    others.answer(far, ASKED, call)
    assert call.calls == 1
    crowd.do(outcome.forget)
    assert not others.answer(far, ASKED, call).status.hit
    assert near.stats()["invalidated"] == 1


def test_other_questions_and_other_prefixes_are_left_alone(crowd, place, call):
    mine, theirs = crowd.cache(place, prefix="mine"), crowd.cache(place, prefix="theirs")
    for cache in (mine, theirs):
        crowd.answer(cache, ASKED, call)
        crowd.answer(cache, "another", call)
    crowd.do(mine.invalidate, request=ASKED)
    assert not crowd.answer(mine, ASKED, call).status.hit
    assert crowd.answer(mine, "another", call).status.hit
    crowd.do(mine.invalidate, everything=True)
    assert not crowd.answer(mine, "another", call).status.hit
    assert crowd.answer(theirs, ASKED, call).status.hit
    assert crowd.answer(theirs, "another", call).status.hit


def test_a_request_is_invalidated_under_the_settings_it_was_asked_with(crowd, place, call):
    cache = crowd.cache(place)
    settings = [{}, {"scope": "a"}, {"tenant": "t"}, {"variant": 2}]
    for own in settings:
        crowd.answer(cache, ASKED, call, **own)
    assert call.calls == 4
    crowd.do(cache.invalidate, request=ASKED, tenant="t")
    assert [crowd.answer(cache, ASKED, call, **own).status.hit for own in settings] == [True, True, False, True]
    handle = cache.scoped(scope="a")
    crowd.do(handle.invalidate, request=ASKED)
    assert [crowd.answer(cache, ASKED, call, **own).status.hit for own in settings] == [True, False, True, True]


def test_a_caller_who_names_no_tags_does_not_get_what_died_by_a_tag(crowd, place, call):
    cache, other = crowd.cache(place), crowd.cache(place)
    crowd.answer(cache, ASKED, call, tags=["doc:42"])
    assert crowd.answer(other, ASKED, call).status.hit
    crowd.do(cache.invalidate, tag="doc:42")
    assert not crowd.answer(other, ASKED, call).status.hit


def test_only_if_cached_finds_an_entry_whose_tags_it_does_not_know(crowd, place, call):
    """After any invalidation in its partition an entry's own tags have to be asked for; the claim would do it."""
    cache, other = crowd.cache(place), crowd.cache(place)
    crowd.answer(cache, ASKED, call, tags=["doc:42"])
    crowd.do(cache.invalidate, tag="another")
    assert crowd.answer(other, ASKED, call, control="only-if-cached").status.hit


# --- planted faults ----------------------------------------------------------------------------------------------


def join_by_key(monkeypatch):
    """What most libraries do: a lookup joins whatever is under way for its key in this process, without asking the
    store.
    """
    plain = Engine.ask

    async def ask(self, question, call):
        for flight in self.board.flights():
            if flight.key == question.key and not flight.done:
                return await self._join(question, flight)
        return await plain(self, question, call)

    monkeypatch.setattr(Engine, "ask", ask)


def stamp_at_fill(monkeypatch):
    """What others do: an answer carries the generation of the moment when it is stored."""
    plain_fill, plain_seal = rules.fill, leader.seal
    now = {}

    def fill(slot, flight, order, ends, at):
        snapshot = Snapshot(slot.generations.epoch, slot.generations.clock)
        return plain_fill(slot._replace(lease=slot.lease._replace(snapshot=snapshot)), flight, order, ends, at)

    def seal(form, digest, flight, order, snapshot, *rest, **named):
        return plain_seal(form, digest, flight, order, Snapshot(snapshot.epoch, now["clock"]()), *rest, **named)

    monkeypatch.setattr(rules, "fill", fill)
    monkeypatch.setattr(leader, "seal", seal)
    return now


@pytest.mark.parametrize("mode", MODES)
def test_joining_by_key_is_noticed(mode, call, monkeypatch):
    place = f"memory://joining-{mode}"
    join_by_key(monkeypatch)
    crowd, others = Crowd(mode), Crowd(mode)
    threading.Timer(0.5, call.release).start()  # a caller that wrongly joined would wait for it
    try:
        with pytest.raises(AssertionError, match="from before the invalidation"):
            scenario(crowd, others, place, call, "everything")
    finally:
        call.reset()
        crowd.close()
        others.close()


def test_stamping_at_the_fill_is_noticed(threads, monkeypatch, call):
    now = stamp_at_fill(monkeypatch)
    cache = threads.cache("memory://stamped")
    now["clock"] = lambda: next(iter(cache._base._engine.store._memory.realms.values())).clock
    call.script(None, HANG, "complete")
    future = threads.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    cache.invalidate(everything=True)
    call.release()
    assert future.result(PATIENCE).status.stored
    assert threads.answer(cache, ASKED, call).status.hit, "planted, and without effect"


# --- a storm -----------------------------------------------------------------------------------------------------


class Storm:
    """Lookups and invalidations of few questions by everybody; did anybody get an answer older than allowed?"""

    QUESTIONS = ({"q": 1}, {"q": 2})

    def __init__(self, crowds, place):
        self.members = [(crowd, crowd.cache(place)) for crowd in crowds]
        self.acknowledged = {str(asked): 0.0 for asked in self.QUESTIONS}
        self.lock = threading.Lock()
        self.seen = 0
        self.old = []

    def call(self, crowd):
        def plain():
            born = time.monotonic()
            time.sleep(0.01)
            return {"born": born}

        async def suspended():
            born = time.monotonic()
            await asyncio.sleep(0.01)
            return {"born": born}

        return suspended if crowd.tasks else plain

    def run(self, seconds):
        until = time.monotonic() + seconds
        work = [self.asker, self.asker, self.asker, self.invalidator]
        futures = [
            crowd.start(lambda job=job, crowd=crowd, cache=cache: job(crowd, cache, until))
            for crowd, cache in self.members
            for job in work
        ]
        for future in futures:
            future.result(seconds + PATIENCE)

    def asker(self, crowd, cache, until):
        while time.monotonic() < until:
            # Out of step; otherwise all would begin when a flight ends, and none in its middle.
            time.sleep(random.uniform(0, 0.01))
            asked = random.choice(self.QUESTIONS)
            with self.lock:
                begun, bound = time.monotonic(), self.acknowledged[str(asked)]
            outcome = crowd.answer(cache, asked, self.call(crowd))
            with self.lock:
                self.seen += 1
                if outcome.value["born"] < bound:
                    self.old.append((asked, begun, bound, outcome))

    def invalidator(self, crowd, cache, until):
        for number, asked in enumerate(itertools.cycle(self.QUESTIONS)):
            if time.monotonic() > until:
                return
            time.sleep(0.003)
            called = time.monotonic()
            if number % 5:
                crowd.do(cache.invalidate, request=asked)
                reached = [asked]
            else:
                crowd.do(cache.invalidate, everything=True)
                reached = self.QUESTIONS
            with self.lock:
                for one in reached:
                    self.acknowledged[str(one)] = max(self.acknowledged[str(one)], called)


def old_answers_of_a_storm(mode, place):
    crowds = [Crowd(mode), Crowd(mode)]
    try:
        storm = Storm(crowds, place)
        while storm.seen <= 20:  # a busy machine needs several
            storm.run(0.5)
        return storm.old
    finally:
        for crowd in crowds:
            crowd.close()


@pytest.mark.parametrize("mode", MODES)
def test_in_a_storm_nobody_gets_an_answer_from_before(mode, place):
    assert old_answers_of_a_storm(mode, place) == []


@pytest.mark.parametrize("mode", MODES)
def test_in_a_storm_joining_by_key_is_noticed(mode, monkeypatch):
    join_by_key(monkeypatch)
    # A race is not lost every time, so the storm is repeated.
    assert any(old_answers_of_a_storm(mode, f"memory://storm-{mode}-{number}") for number in range(20))


def test_the_flight_that_was_invalidated_is_on_the_board_beside_its_successor(crowd, place, call):
    call.script(None, HANG, HANG, "complete")
    cache = crowd.cache(place)
    first = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    crowd.do(cache.invalidate, request=ASKED)
    second = crowd.ask(cache, ASKED, call)
    call.wait_until_paid(ASKED, 2)
    third = crowd.ask(cache, ASKED, call)
    eventually(lambda: joined(cache) == 3, "the third joins")
    assert cache.stats()["flights"] == 2
    call.release()
    assert second.result(PATIENCE).value == third.result(PATIENCE).value != first.result(PATIENCE).value
    assert call.calls == 2
