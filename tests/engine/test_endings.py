"""Callers that leave, and caches that are closed: what is finished, what is dropped, and that nothing is left behind.

In tasks, a call belongs to no particular caller: cancelling one, the leader's or a follower's, cancels nothing that
others or the store can use. Closing waits for what is in flight, reports what it dropped, gives its leases back at
once, and leaves no task, thread, connection or descriptor.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from pathlib import Path

import pytest

from askonce import AsyncCache, Cache, CacheClosed, Policy
from askonce.testing import ScriptedCall, Step
from tests.crowd import (
    ASKED,
    HANG,
    PATIENCE,
    Crowd,
    Loop,
    eventually,
    gathered,
    idle,
    joined,
    results,
    values,
)
from tests.fixtures import patient
from tests.took import Took

pytestmark = pytest.mark.concurrency


@pytest.fixture
def call(call):
    call.script(None, HANG, "complete")
    return call


def cancelled(futures):
    for future in futures:
        future.cancel()


# --- callers who leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["leader", "followers", "all"])
def test_cancelled_callers_take_nothing_from_the_others(tasks, place, call, who):
    cache = tasks.cache(place)
    leader = tasks.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    followers = tasks.asks(5, cache, ASKED, call)
    gathered(cache, 6, call)
    gone, stay = {
        "leader": ([leader], followers),
        "followers": (followers[:3], [leader, *followers[3:]]),
        "all": ([leader, *followers], []),
    }[who]
    cancelled(gone)
    eventually(lambda: joined(cache) == len(stay), "the cancelled left")
    assert call.in_flight == 1
    call.release()
    found = values(stay)
    idle(cache)
    assert len({value["id"] for value in found}) <= 1
    assert tasks.answer(cache, ASKED, call).status.hit  # what was paid was stored, even without a waiting caller
    assert call.calls == 1


def test_callers_cancelled_while_they_follow_another_cache_take_nothing_from_the_others(tasks, place, call):
    leading, following = tasks.cache(place), tasks.cache(place)
    first = tasks.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    futures = tasks.asks(6, following, ASKED, call)
    eventually(lambda: following.stats()["waiting"] == 6, "all six listen")
    cancelled(futures[::2])
    eventually(lambda: following.stats()["waiting"] == 3, "three left")
    call.release()
    assert all(value == first.result(PATIENCE).value for value in values(futures[1::2]))
    assert call.calls == 1


def test_a_failure_that_would_wake_a_cancelled_caller_wakes_the_next(tasks, place, call):
    call.script(None, Step(hang=True, error=ZeroDivisionError()), "complete")
    leading, following = tasks.cache(place), tasks.cache(place)
    first = tasks.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    futures = [tasks.ask(following, ASKED, call)]
    eventually(lambda: following.stats()["waiting"] == 1, "the one to be woken first listens")
    futures += tasks.asks(3, following, ASKED, call)
    eventually(lambda: following.stats()["waiting"] == 4, "all listen")
    took = Took()
    call.release()
    futures[0].cancel()
    assert isinstance(first.exception(PATIENCE), ZeroDivisionError)
    assert len({value["id"] for value in values(futures[1:])}) == 1
    assert took.seconds < 2.0
    assert call.calls <= 3  # the cancelled one may have called, and its call is theirs


@pytest.mark.parametrize("seed", range(4))
def test_callers_cancelled_at_random_take_nothing_from_the_others(tasks, place, seed):
    dice = random.Random(seed)
    quick = ScriptedCall(delay=lambda question, nth: 0.01 * dice.random())
    caches = [tasks.cache(place), tasks.cache(place)]
    asked = [(dice.choice(caches), dice.choice("abc")) for _ in range(40)]
    stay, gone = [], []
    for cache, question in asked:
        future = tasks.ask(cache, question, quick)
        (gone if dice.random() < 0.5 else stay).append((question, future))
    for _, future in dice.sample(gone, len(gone)):
        time.sleep(0.001 * dice.random())
        future.cancel()
    took = Took()
    for question, future in stay:
        assert future.result(PATIENCE).value["question"] == question
    assert took.seconds < 2.0
    for cache in caches:
        idle(cache)
    assert quick.in_flight == 0
    assert all(times == 1 for times in quick.questions.values()), quick.questions


def test_with_on_abandon_close_the_call_is_cancelled_with_its_last_caller(tasks, place, call):
    cache = tasks.cache(place, policy=Policy(on_abandon="close"))
    futures = tasks.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    cancelled(futures[:2])
    eventually(lambda: joined(cache) == 1, "one is left")
    assert call.in_flight == 1
    futures[2].cancel()
    eventually(lambda: call.in_flight == 0, "the call is cancelled")
    idle(cache)
    assert cache.stats()["abandoned.close"] == 1
    took = Took()
    assert tasks.answer(cache, ASKED, call).status.stored  # and its lease is free
    assert took.seconds < 2.0
    assert call.calls == 2


def test_an_abandoned_call_is_given_up_after_its_limit(tasks, place, call):
    cache = tasks.cache(place, policy=Policy(abandon_limit=0.1))
    future = tasks.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    future.cancel()
    eventually(lambda: call.in_flight == 0, "it was given up")
    idle(cache)
    assert (cache.stats()["abandoned.finish"], cache.stats()["dropped.abandon-limit"]) == (1, 1)


def test_an_abandoned_call_that_somebody_joins_is_not_given_up(tasks, place, call):
    cache = tasks.cache(place, policy=Policy(abandon_limit=0.1))
    first = tasks.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    with tasks.one_turn():  # so that the limit cannot pass in between
        first.cancel()
        second = tasks.ask(cache, ASKED, call)
    eventually(lambda: cache.stats().get("abandoned"), "abandoned")
    gathered(cache, 1, call)
    time.sleep(0.2)  # the limit passes
    assert call.in_flight == 1
    call.release()
    assert second.result(PATIENCE).status.collapsed
    assert call.calls == 1


def test_the_last_caller_of_another_loop_can_cancel_the_call(tasks, place, call):
    cache = tasks.cache(place, policy=Policy(on_abandon="close"))
    other = Loop()
    try:
        leader = tasks.ask(cache, ASKED, call)
        gathered(cache, 1, call)
        follower = tasks.ask(cache, ASKED, call, loop=other)
        gathered(cache, 2, call)
        leader.cancel()
        eventually(lambda: joined(cache) == 1, "only the other loop's is left")
        follower.cancel()
        eventually(lambda: call.in_flight == 0, "the call is cancelled", patience=2.0)
    finally:
        other.close()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("policy", [Policy(on_abandon="close"), Policy(abandon_limit=0.01)], ids=["close", "limit"])
async def test_nobody_gets_what_a_call_makes_of_its_cancellation(policy, elsewhere):
    place, made = f"memory://{time.monotonic_ns()}", []
    begun, cancelled, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call():
        made.append(1)
        begun.set()
        try:
            await asyncio.sleep(PATIENCE if len(made) == 1 else 0)
        except asyncio.CancelledError:
            cancelled.set()
            await goes_on.wait()
            raise ConnectionError("it was closed") from None
        return {"call": len(made)}

    async with AsyncCache(place, policy=policy) as cache, AsyncCache(place, policy=policy) as other:
        first = asyncio.create_task(cache.fetch(ASKED, call))
        await begun.wait()
        first.cancel()
        await cancelled.wait()
        second = asyncio.create_task((other if elsewhere else cache).fetch(ASKED, call))
        asyncio.get_running_loop().call_later(0.05, goes_on.set)  # when it was told whom to follow
        assert (await second).value == {"call": 2}
        assert "backoff" not in cache.stats()


# --- caches that are closed --------------------------------------------------------------------------------------


def test_closing_waits_for_what_is_in_flight(crowd, place, call):
    cache = crowd.cache(place)
    futures = crowd.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    closing = crowd.start(lambda: crowd.finish(cache))
    eventually(lambda: cache._base._closed, "closing began")
    assert not closing.done()
    call.release()
    assert closing.result(PATIENCE) == []
    assert [value["id"][-2:] for value in values(futures)] == ["-1"] * 3
    assert crowd.answer(crowd.cache(place), ASKED, call).status.hit or place.startswith("memory")


def test_closing_within_a_limit_says_what_was_dropped_and_tells_who_waits(crowd, place, call, caplog):
    cache, other = crowd.cache(place), crowd.cache(place)
    futures = crowd.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    took = Took()
    dropped = crowd.finish(cache, 0.0)
    assert dropped == [cache._base.key_of(ASKED, cache._settings({})).text]
    assert took.seconds < 1.0
    assert [record.message for record in caplog.records if "under way" in record.message] == [
        "the cache was closed while 1 call(s) were under way: they were dropped"
    ]
    if crowd.tasks:
        assert {type(error) for error in results(futures)} == {CacheClosed}
    else:  # a call in a thread cannot be ended: it goes on, and its followers get its answer
        call.release()
        assert len(values(futures)) == 3
    took = Took()
    assert crowd.answer(other, ASKED, call).status.stored  # its lease was given back
    assert took.seconds < 2.0
    assert call.calls == 2


def test_closing_tells_those_who_follow_another_cache(crowd, others, place, call):
    leading, following = others.cache(place), crowd.cache(place)
    first = others.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    futures = crowd.asks(3, following, ASKED, call)
    eventually(lambda: following.stats()["waiting"] == 3, "three follow")
    took = Took()
    assert crowd.finish(following, 0.0) == []
    assert {type(error) for error in results(futures)} == {CacheClosed}
    assert took.seconds < 2.0
    call.release()
    assert first.result(PATIENCE).status.stored
    assert call.calls == 1


def test_a_closed_cache_says_so(crowd, place, call):
    cache = crowd.cache(place)
    crowd.answer(cache, "q", lambda: 1)
    assert crowd.finish(cache) == []
    assert crowd.finish(cache) == []  # a second time does nothing
    error = crowd.ask(cache, "q", lambda: 1).exception(PATIENCE)
    assert isinstance(error, CacheClosed)
    assert "make a new one" in str(error)
    assert repr(cache).endswith("closed>")
    assert cache.stats()["stored"] == 1


@pytest.mark.parametrize("own", [{"control": "no-store"}, {"control": "only-if-cached"}])
def test_a_closed_cache_says_so_whatever_is_asked(crowd, place, own):
    cache = crowd.cache(place)
    crowd.finish(cache)
    error = crowd.ask(cache, "q", lambda: 1, **own).exception(PATIENCE)
    assert isinstance(error, CacheClosed)


# --- nothing stays behind ----------------------------------------------------------------------------------------


def threads_of_ours():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("askonce-")} - {
        "askonce-provider"
    }


def descriptors():
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except OSError:
            continue  # that of the listing itself
    return sorted(what.split(":[")[0] for what in found)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_a_closed_cache_leaves_no_thread_no_task_and_no_descriptor(crowd, place, call, request):
    assert not threads_of_ours()
    crowd.loop  # noqa: B018 - its descriptors are not the cache's
    gc.collect()
    before = descriptors()
    cache, other = crowd.cache(place), crowd.cache(place)
    futures = crowd.asks(8, cache, ASKED, call)
    gathered(cache, 8, call)
    futures += crowd.asks(4, other, ASKED, call)
    eventually(lambda: other.stats()["waiting"] >= 4, "others follow")
    cancelled(futures[1::3])
    call.release()
    results([future for future in futures if not future.cancelled()])
    for _ in range(3):
        crowd.answer(cache, {"n": _}, call)
    crowd.finish(cache)
    crowd.finish(other)
    assert [task.get_name() for task in asyncio.all_tasks(crowd.loop.loop) if "askonce" in task.get_name()] == []
    crowd.caches.clear()
    for thread in crowd._threads:
        thread.join(PATIENCE)
    eventually(lambda: not threads_of_ours(), f"no thread is left: {threads_of_ours()}")
    gc.collect()
    eventually(lambda: descriptors() == before, f"descriptors: {before} before, {descriptors()} now")
    if "valkey" in request.node.callspec.id:
        server = request.getfixturevalue("valkey")
        eventually(lambda: server.command("CLIENT", "LIST").count(b"\n") == 1, "only this connection is left")


@pytest.mark.servers
def test_a_loop_that_ends_without_closing_leaves_no_connection(valkey):
    call = ScriptedCall()

    async def ask(cache):
        await cache.fetch(ASKED, call.aio_on(ASKED))

    cache = AsyncCache(patient(valkey))
    asyncio.run(ask(cache))
    asyncio.run(ask(cache))  # another loop, the same cache
    assert call.calls == 1
    asyncio.run(cache.aclose())
    eventually(lambda: valkey.command("CLIENT", "LIST").count(b"\n") == 1, "only this connection is left")
    eventually(lambda: not threads_of_ours(), "no thread is left")


def test_a_loop_that_ends_in_the_middle_of_a_call_frees_the_lease(place):
    call = ScriptedCall()
    call.script(None, HANG, "complete")
    cache, other = AsyncCache(place), Crowd("threads")

    async def leave():
        asking = asyncio.create_task(cache.fetch(ASKED, call.aio_on(ASKED)))
        await asyncio.to_thread(call.wait_until_paid)
        del asking

    asyncio.run(leave())
    try:
        took = Took()
        assert other.answer(other.cache(place), ASKED, call).status.stored
        assert took.seconds < 2.0
    finally:
        asyncio.run(cache.aclose())
        other.close()


def test_a_context_manager_closes(place):
    with Cache(place) as cache:
        cache.fetch("q", lambda: 1)
    with pytest.raises(CacheClosed):
        cache.fetch("q", lambda: 1)

    async def main():
        async with AsyncCache(place) as cache:
            await cache.fetch("q", lambda: 1)
        with pytest.raises(CacheClosed):
            await cache.fetch("q", lambda: 1)

    asyncio.run(main())
