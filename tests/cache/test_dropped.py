"""What nobody closes ends all the same: a cache that is dropped leaves no thread, no connection and no memory."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from askonce import AsyncCache, Cache
from tests.crowd import eventually
from tests.fixtures import place_of
from tests.remains import Remains, as_before, counted, resident

pytestmark = [counted, pytest.mark.waits]


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def server(request, place):
    """The server of the place, if it has one."""
    return request.getfixturevalue("valkey") if place.startswith("redis") else None


async def answered(cache, request="q"):
    async def call():
        return 1

    return (await cache.fetch(request, call)).value


@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_a_dropped_cache_leaves_nothing_behind(place, server, mode):
    before = Remains.now(server)
    for number in range(20):
        if mode == "threads":
            assert Cache(place).fetch(number % 3, lambda: 1).value == 1
        else:
            asyncio.run(answered(AsyncCache(place), number % 3))
    as_before(before, server)


def test_a_dropped_cache_is_gone_whatever_still_uses_the_same_store(place):
    kept = Cache(place)
    kept.fetch("q", lambda: 1)
    dropped = Cache(place)
    for number in range(3):
        dropped.fetch(number, lambda: 1)
    gone = [weakref.ref(part) for part in (dropped, dropped._engine, dropped._engine._guarded, dropped.events)]
    del dropped
    gc.collect()
    eventually(lambda: not any(one() for one in gone), f"{[one() for one in gone]} is gone")
    assert kept.fetch("q", lambda: 2).value == 1
    kept.close()


def test_a_cache_made_while_the_last_one_is_dropped_has_a_background_thread(place):
    for _ in range(30):
        cache = Cache(place)
        cache.fetch("q", lambda: 1, ttl=0)
        background = cache._engine.background
        assert background._thread.is_alive()
    assert not background.users.over()
    cache.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_ten_thousand_caches_leave_as_much_as_a_hundred(place, server, mode):
    def some(number):
        for n in range(number):
            if mode == "threads":
                Cache(place).fetch(n % 7, lambda: 1)
            else:
                asyncio.run(answered(AsyncCache(place), n % 7))

    some(100)
    before, memory = Remains.now(server), resident()
    some(10_000)
    as_before(before, server)
    assert resident() < memory + 4 * 2**20
