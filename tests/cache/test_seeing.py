"""What can be observed of a cache: the status of a lookup, events, counts, the log, its repr.

All of them read the same events, so they agree: every lookup ends in exactly one of hit, collapsed, miss, stale,
request and bypass, and their counts add up to the number of lookups.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading

import pytest

from askonce import AsyncCache, Cache, NotCached, Policy
from askonce.events import NAMES
from askonce.testing import Step
from askonce.testing.trial import Clock
from tests.crowd import ASKED, HANG, PATIENCE, eventually, gathered, idle, results, values

ENDS = ("hit", "collapsed", "miss", "stale", "request", "bypass")
TOOLS = {**ASKED, "tools": [{"type": "function", "function": {"name": "f"}}]}


def whole(counts):
    """Whether the ends of all lookups are what was looked up."""
    return counts["lookups"] == sum(counts.get(end, 0) for end in ENDS)


# --- one lookup --------------------------------------------------------------------------------------------------


def test_a_status_is_a_cache_status_value(crowd, place, call):
    cache = crowd.cache(place, policy=Policy(ttl=100, jitter=0))
    outcome = crowd.answer(cache, ASKED, call)
    assert str(outcome.status) == f'askonce; fwd=miss; stored; key="{outcome.key}"'
    outcome = crowd.answer(cache, ASKED, call)
    assert outcome.status.hit
    assert str(outcome.status) in {f'askonce; hit; ttl={ttl}; key="{outcome.key}"' for ttl in (99, 100)}
    assert repr(outcome) == f"<Outcome {outcome.status}>"
    assert str(crowd.answer(cache, TOOLS, call).status).startswith("askonce; fwd=bypass; key=")
    assert str(crowd.answer(cache, TOOLS, call).status).endswith("; detail=tools")


def test_a_collapsed_lookup_says_so(crowd, place, call):
    call.script(None, HANG)
    cache = crowd.cache(place)
    futures = crowd.asks(2, cache, ASKED, call)
    gathered(cache, 2, call)
    call.release()
    texts = sorted(str(outcome.status).partition("; key")[0] for outcome in results(futures))
    assert texts == ["askonce; fwd=miss; collapsed", "askonce; fwd=miss; stored"]


# --- watching ----------------------------------------------------------------------------------------------------


def test_watch_lists_the_lookups_inside_in_order(call):
    with Cache("memory://") as cache:
        cache.fetch("before", lambda: 1)
        with cache.watch() as outer:
            cache.fetch("one", lambda: 1)
            with cache.watch() as inner:
                cache.fetch("two", lambda: 1)
            cache.get_or_set([], "m", lambda: 1)
        cache.fetch("after", lambda: 1)
        assert [status.fwd for status in outer] == ["miss"] * 3
        assert inner == outer[1:2]


def test_watch_sees_its_own_cache_only():
    with Cache("memory://") as one, Cache("memory://") as other, one.watch() as seen:
        other.fetch("q", lambda: 1)
        assert seen == []


def test_watch_sees_failures_and_what_was_not_found(call):
    with Cache("memory://") as cache, cache.watch() as seen:
        with pytest.raises(ZeroDivisionError):
            cache.fetch("q", lambda: 1 / 0)
        with pytest.raises(NotCached):
            cache.fetch("q", lambda: 1, control="only-if-cached")
        assert [(status.fwd, status.detail) for status in seen] == [("miss", "failed"), ("miss", "only-if-cached")]


async def test_watch_sees_the_lookups_of_tasks_made_inside_and_of_no_others():
    async with AsyncCache("memory://") as cache:

        async def ask(question):
            return (await cache.fetch(question, lambda: 1)).key

        async def watched(questions):
            with cache.watch() as seen:
                keys = await asyncio.gather(*map(ask, questions))
            assert sorted(status.key for status in seen) == sorted(keys)

        await asyncio.gather(watched(["a", "b"]), watched(["c", "d"]), ask("e"))


def test_watch_sees_a_thread_that_was_given_the_context():
    with Cache("memory://") as cache, cache.watch() as seen:
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=copied.run, args=(cache.fetch, "given", lambda: 1)),
            threading.Thread(target=cache.fetch, args=("not given", lambda: 1)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        assert len(seen) == 1
        assert cache.fetch("given", lambda: 1).key == seen[0].key


# --- events ------------------------------------------------------------------------------------------------------


def test_a_listener_hears_everything_in_order_until_it_is_stopped(crowd, place, call):
    cache = crowd.cache(place)
    heard = []
    stop = cache.on_event(lambda event: heard.append(event.name))
    crowd.answer(cache, ASKED, call)
    crowd.answer(cache, ASKED, call)
    assert heard == ["call", "called", "stored", "lookup", "lookup"]
    crowd.do(cache.invalidate, everything=True)
    assert heard[5:] == ["invalidated"]
    stop()
    crowd.answer(cache, ASKED, call)
    assert len(heard) == 6


def test_an_event_carries_key_status_and_data(crowd, call):
    cache = crowd.cache("memory://")
    heard = {}
    cache.on_event(lambda event: heard.setdefault(event.name, event))
    outcome = crowd.answer(cache, ASKED, call)
    assert heard["lookup"].status == outcome.status
    assert {event.key for event in heard.values()} == {outcome.key}
    assert heard["called"].data["seconds"] >= 0


def test_a_listener_that_raises_disturbs_nobody(crowd, call, caplog):
    cache = crowd.cache("memory://")
    heard = []

    def broken(event):
        raise ZeroDivisionError

    cache.on_event(broken)
    cache.on_event(lambda event: heard.append(event.name))
    assert crowd.answer(cache, ASKED, call).status.stored
    assert heard[-1] == "lookup"
    assert "a listener of askonce raised" in caplog.text


def test_a_listener_that_raises_is_told_once_for_each_kind_of_its_exceptions(crowd, call, caplog):
    cache = crowd.cache("memory://")
    kinds = [ZeroDivisionError, KeyError]

    def broken(event):
        raise kinds[event.name == "lookup"]

    ended = cache.on_event(broken)
    for _ in range(3):
        crowd.answer(cache, ASKED, call)
    told = [record for record in caplog.records if "a listener of askonce raised" in record.getMessage()]
    assert [record.exc_info[0] for record in told if record.levelname == "ERROR"] == kinds
    ended()
    cache.on_event(lambda _: 1 / 0)
    crowd.answer(cache, ASKED, call)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3, "told of another one"


def test_all_that_happens_has_a_name_of_the_closed_list(crowd, place, call):
    cache = crowd.cache(place)
    crowd.answer(cache, ASKED, call)
    crowd.answer(cache, ASKED, call)
    call.script("refused", "refused")
    crowd.ask(cache, "bad", lambda: 1 / 0).exception(PATIENCE)
    crowd.do(cache.invalidate, everything=True)
    known = {*NAMES, *ENDS, "lookups", "flights", "waiting", "breaker", "breakers", "background"}
    assert {name.partition(".")[0] for name in cache.stats()} <= known


# --- counts ------------------------------------------------------------------------------------------------------


@pytest.mark.concurrency
def test_every_lookup_ends_in_one_way_and_the_counts_add_up(crowd, place, call):
    cache, other = crowd.cache(place), crowd.cache(place)
    call.script("hang", HANG, "complete")
    call.script("fail", Step(hang=True, error=ZeroDivisionError()), "complete")
    asked = 0
    for question in ("hang", "fail"):
        futures = crowd.asks(4, cache, question, call)
        gathered(cache, 4, call)
        futures += crowd.asks(2, other, question, call)
        eventually(lambda: other.stats()["waiting"] >= 2, "two follow")
        call.release()
        results(futures)
        asked += 4
    for question, own in (("hang", {}), ("hang", {"control": "no-cache"}), (TOOLS, {}), ("x", {"control": "no-store"})):
        crowd.answer(cache, question, call, **own)
        asked += 1
    crowd.ask(cache, "none", call, control="only-if-cached").exception(PATIENCE)
    asked += 1
    counted = cache.stats()
    assert whole(counted), counted
    assert counted["lookups"] == asked
    assert whole(other.stats()), other.stats()
    assert (counted["hit"], counted["request"], counted["bypass"]) == (1, 1, 2)
    assert counted["call"] == counted["called"] + counted["failed"]
    assert counted["called"] == counted["stored"] + counted.get("unstored", 0) + counted.get("refused", 0)


@pytest.mark.concurrency
def test_counts_from_many_threads_are_exact(threads, call):
    cache = threads.cache("memory://")
    questions = [{"n": number} for number in range(20)]

    def ask():
        for question in questions:
            cache.fetch(question, call.on(question))

    for future in [threads.start(ask) for _ in range(8)]:
        future.result(PATIENCE)
    counted = cache.stats()
    assert counted["lookups"] == 160
    assert whole(counted)
    assert counted["miss"] == counted["stored"] == call.calls == 20


@pytest.mark.concurrency
def test_stale_and_saved_answers_are_counted_as_what_they_are(crowd, call):
    clock = Clock()
    cache = crowd.cache("memory://", clock=clock, policy=Policy(ttl=60, grace=60, stale_if_error=600, jitter=0))
    crowd.answer(cache, ASKED, call)
    clock.tick(90_000)
    outcome = crowd.answer(cache, ASKED, call)
    assert (outcome.status.hit, outcome.status.detail) == (True, "stale")
    assert outcome.status.ttl == -30
    idle(cache)
    assert (call.calls, cache.stats()["refresh.stale"]) == (2, 1)
    clock.tick(300_000)
    call.script(None, TimeoutError())
    outcome = crowd.answer(cache, ASKED, call)
    assert (outcome.status.hit, outcome.status.fwd, outcome.status.detail) == (False, "stale", "upstream-timeout")
    counted = cache.stats()
    assert whole(counted), counted
    assert (counted["saved"], counted["backoff"], counted["failed"]) == (1, 1, 1)


# --- the log and the repr ----------------------------------------------------------------------------------------


def test_the_log_has_a_line_a_lookup_at_debug_and_nothing_above(crowd, call, caplog):
    caplog.set_level(logging.DEBUG, "askonce")
    cache = crowd.cache("memory://")
    crowd.answer(cache, ASKED, call)
    crowd.answer(cache, ASKED, call)
    lines = [record for record in caplog.records if record.name == "askonce"]
    assert [record.levelname for record in lines] == ["DEBUG"] * 2
    assert lines[0].message.startswith("askonce; fwd=miss; stored; key=")
    assert lines[1].message.startswith("askonce; hit; ttl=")


@pytest.mark.concurrency
def test_the_repr_names_store_breaker_and_flights(crowd, call):
    call.script(None, HANG)
    kind = "AsyncCache" if crowd.tasks else "Cache"
    named = f"<{kind} memory://{kind} prefix='v3', breaker closed, "
    cache = crowd.cache(f"memory://{kind}", prefix="v3")
    assert repr(cache) == f"{named}0 in flight>"
    future = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    assert repr(cache) == f"{named}1 in flight>"
    call.release()
    values([future])
    crowd.finish(cache)
    assert repr(cache) == f"{named}0 in flight, closed>"


def test_no_password_is_in_a_repr():
    cache = Cache("redis://someone:secret@127.0.0.1:1/0", prefix="v3")
    assert "secret" not in repr(cache)
    assert "redis://someone@127.0.0.1:1/0" in repr(cache)
    assert repr(cache).count("v3") == 1
    cache.close()
