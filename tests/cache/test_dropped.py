"""A cache that is dropped without a close leaves no thread, no connection and no memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from askonce import AsyncCache, Cache
from askonce.flight.flight import Flight
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
    gone = [
        weakref.ref(part)
        for part in (dropped, dropped._base._engine, dropped._base._engine._guarded, dropped._base.events)
    ]
    del dropped
    gc.collect()
    eventually(lambda: not any(one() for one in gone), f"{[one() for one in gone]} is gone")
    assert kept.fetch("q", lambda: 2).value == 1
    kept.close()


def test_a_dropped_cache_whose_calls_are_over_needs_no_collection_to_be_gone(place):
    """What it held, an answer of many megabytes or a connection, would stay until the collector comes round."""
    cache = Cache(place)
    for number in range(6):
        cache.fetch(number % 4, lambda: 1, ttl=0 if number % 2 else 60)
    flights: list[weakref.ref[Flight]] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Flight, "__init__", noted(Flight.__init__, flights))
        for number in range(10, 13):
            cache.fetch(number, lambda: 1)
        assert list(cache.fetch_stream("stream", lambda: iter("ab"))) == ["a", "b"]
    gc.disable()
    try:
        gone = [
            weakref.ref(part)
            for part in (cache, cache._base._engine, cache._base._engine._guarded, cache._base._engine.board)
        ]
        del cache
        assert len(flights) == 4
        eventually(lambda: not any(one() for one in (*flights, *gone)), "all are gone")
    finally:
        gc.enable()


def noted(begin, made):
    def __init__(self, *args, **kwargs):  # noqa: N807
        begin(self, *args, **kwargs)
        made.append(weakref.ref(self))

    return __init__


def test_a_cache_made_while_the_last_one_is_dropped_has_a_background_thread(place):
    for _ in range(30):
        cache = Cache(place)
        cache.fetch("q", lambda: 1, ttl=0)
        background = cache._base._engine.background
        assert background._thread.is_alive()
    assert not background.users.over()
    cache.close()


class Sent:
    """How often something was sent to where it belongs: a thread, or a callback of a loop, each time."""

    def __init__(self, monkeypatch, mode):
        self.times, self._send = 0, mode.send
        monkeypatch.setattr(mode, "send", self.send)

    def send(self, *args):
        self.times += 1
        return self._send(*args)


def test_of_readers_that_are_dropped_only_the_last_costs_a_thread(place, monkeypatch):
    """A program that drops them in a row is never ahead of what sees to their leaving."""

    def items():
        yield "a"
        assert over.wait(60)

    over = threading.Event()
    with Cache(place) as cache:
        kept = cache.fetch_stream("q", items)
        assert next(kept) == "a"
        sent, flight = Sent(monkeypatch, cache._base._engine.mode), cache._base._engine.board.flights()[0]
        for _ in range(300):
            for item in cache.fetch_stream("q", items):
                assert item == "a"
                break
        eventually(lambda: flight.pump.tape.readers == 1, "those that were dropped have left")
        assert sent.times == 0
        del kept
        eventually(lambda: flight.pump.tape.readers == 0, "the last has left too")
        assert sent.times == 1
        over.set()


def test_of_readers_that_a_loop_drops_only_the_last_is_sent_to_it(place, monkeypatch):
    async def items():
        yield "a"
        assert await over.wait()

    over = asyncio.Event()

    async def program():
        async with AsyncCache(place) as cache:
            kept = await cache.fetch_stream("q", items)
            assert await anext(kept) == "a"
            sent, flight = Sent(monkeypatch, cache._base._engine.mode), cache._base._engine.board.flights()[0]
            for _ in range(300):
                async for item in await cache.fetch_stream("q", items):
                    assert item == "a"
                    break
            await asyncio.to_thread(eventually, lambda: flight.pump.tape.readers == 1, "those dropped have left")
            assert sent.times == 0
            del kept
            await asyncio.to_thread(eventually, lambda: flight.pump.tape.readers == 0, "the last has left too")
            assert sent.times == 1
            over.set()

    asyncio.run(program())


def test_a_reader_that_is_dropped_leaves_a_note_only_while_its_stream_is_under_way(place):
    def items():
        yield from "ab"
        assert over.wait(60)

    over = threading.Event()
    with Cache(place) as cache:
        notes, here = [], cache.fetch_stream("q", items)
        first, second = (cache.fetch_stream("q", items) for _ in range(2))
        assert (next(first), next(second), next(here)) == ("a", "a", "a")
        for stream in (first, second):
            stream._playback._defer = notes.append
        del stream, first
        assert len(notes) == 1
        notes.pop()()
        over.set()
        assert list(here) == ["b"]
        del second
        assert notes == []


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
