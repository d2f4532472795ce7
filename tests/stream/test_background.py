"""Streams that nobody reads, or that the store does not know: they end, are kept, and are shared all the same."""

import asyncio
import threading

import pytest

import askonce
from askonce import Policy
from askonce.core.keys import Key
from askonce.core.lease import Ask
from askonce.flight.background import BackgroundThread
from askonce.runtime.drive import drive
from tests.stream.test_fetch_stream import ITEMS, REQUEST, Reading, wait_until


def test_a_refresh_of_a_stream_is_read_to_its_end_by_nobody_and_kept(make, upstream):
    cache = make(policy=Policy(ttl=0.05, grace=60, max_age=600))
    upstream.say(*ITEMS)
    upstream.ends()
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == ITEMS
    threading.Event().wait(0.1)
    stale = cache.fetch_stream(REQUEST, upstream.open)
    assert (stale.status.hit, stale.status.detail) == (True, "stale")
    assert list(stale) == ITEMS
    wait_until(lambda: cache.stats().get("stored") == 2)
    assert upstream.opened == upstream.closed == 2


@pytest.mark.concurrency
def test_while_the_store_is_down_a_stream_is_shared_within_its_process(upstream):
    with askonce.Cache("redis://127.0.0.1:1/0") as cache:
        leader = Reading(cache, upstream)
        upstream.say(*ITEMS[:2])
        leader.wait_for(2)
        late = Reading(cache, upstream)
        late.wait_for(2)
        upstream.say(*ITEMS[2:])
        upstream.ends()
        assert leader.whole() == late.whole() == ITEMS
    assert upstream.opened == 1


@pytest.mark.concurrency
def test_closing_the_cache_waits_for_a_stream_that_its_reader_left(place, upstream):
    cache = askonce.Cache(place)
    upstream.say(ITEMS[0])
    with cache.fetch_stream(REQUEST, upstream.open) as stream:
        next(stream)
    threading.Timer(0.2, lambda: (upstream.say(*ITEMS[1:]), upstream.ends())).start()
    assert cache.close(limit=5) == []
    with askonce.Cache(place) as again:
        kept = again.fetch_stream(REQUEST, upstream.open)
        assert kept.status.hit or place.startswith("memory")  # a place in memory lasts as long as its last cache
        assert list(kept) == ITEMS


def test_closing_the_cache_says_what_it_dropped(place, upstream):
    cache = askonce.Cache(place)
    upstream.say(ITEMS[0])
    with cache.fetch_stream(REQUEST, upstream.open) as stream:
        next(stream)
    assert cache.close(limit=0.1) == [stream.key]
    upstream.ends()


async def test_a_leader_cancelled_before_his_stream_is_open_leaves_it_to_be_finished_within_the_limit():
    opened = asyncio.Event()
    closed = asyncio.Event()

    async def open_stream():
        await opened.wait()
        try:
            while True:
                yield {"word": "and"}
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async def late():
        await opened.wait()
        return open_stream()

    async with askonce.AsyncCache("memory://", policy=Policy(abandon_limit=0.2)) as cache:
        leader = asyncio.create_task(cache.fetch_stream(REQUEST, late))
        await asyncio.sleep(0.05)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        opened.set()
        await asyncio.wait_for(closed.wait(), 2)
        assert cache.stats()["dropped.abandon-limit"] == 1


@pytest.mark.concurrency
def test_all_who_follow_a_leader_that_died_unheard_are_served_by_one_successor(make, upstream, monkeypatch):
    monkeypatch.setattr(BackgroundThread, "heartbeat", 0.5)
    dead, alive = make(), make()
    question = dead._base._question(REQUEST, dead._base._planner.plain)
    ask = Ask(b"f" * 16, b"cand", question.fields, question.limits, heartbeat=500)
    drive(dead._base._engine.store.claim(Key(question.key.digest, "s"), ask))  # granted, and never renewed
    readers = [Reading(alive, upstream) for _ in range(8)]
    upstream.say(*ITEMS)
    upstream.ends()
    assert all(reader.whole() == ITEMS for reader in readers)
    assert upstream.opened == 1
