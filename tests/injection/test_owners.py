"""Owners of a call that do not move any more: their lease goes back within the heartbeat, that is told, others are
served.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import threading
import time

import pytest

from askonce import AsyncCache, Cache
from askonce.runtime import tasks
from tests.crowd import eventually, heartbeat
from tests.fixtures import place_of
from tests.injection.stranger import Stranger, answer
from tests.injection.world import BEAT, QUICK

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}

pytestmark = [pytest.mark.concurrency, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=[pytest.mark.servers, pytest.mark.slow])])
def place(request, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "STALLED", BEAT)
    with heartbeat(BEAT):
        yield place_of(request.param, request, tmp_path)


@pytest.fixture
def stranger(place):
    with Stranger(place, BEAT) as made:
        yield made


def begun(cache, loop, seconds=60.0):
    """A call under way in a task of that loop."""
    called = asyncio.Event()

    async def call():
        called.set()
        await asyncio.sleep(seconds)
        return answer(REQUEST)

    async def until_called():
        asked = loop.create_task(cache.fetch(REQUEST, call))
        await called.wait()
        return asked

    return loop.run_until_complete(until_called())


def served(stranger, within=2 * BEAT + QUICK):
    said = stranger.tell("ask", REQUEST, "v")
    assert said["said"] == answer(REQUEST)
    assert said["seconds"] < within, said["seconds"]


def told(cache):
    eventually(lambda: cache.stats().get("dropped"), f"it is told: {cache.stats()}")
    assert not cache.stats()["flights"]


def test_a_loop_that_is_closed_with_a_call_under_way_gives_the_lease_back(place, stranger):
    cache, loop = AsyncCache(place), asyncio.new_event_loop()
    asked = begun(cache, loop)
    loop.close()
    served(stranger)
    told(cache)
    assert not asked.done()


def test_a_loop_that_is_not_run_any_more_gives_the_lease_back(place, stranger):
    cache, loop = AsyncCache(place), asyncio.new_event_loop()
    asked = begun(cache, loop)
    served(stranger, 3 * BEAT + QUICK)
    told(cache)
    under_way = asyncio.all_tasks(loop)
    assert asked in under_way
    for task in under_way:
        task.cancel()
    loop.run_until_complete(asyncio.wait(under_way))
    loop.close()


def test_a_loop_that_is_blocked_for_longer_than_a_lease_keeps_it_and_pays_once(place, stranger):
    cache, loop = AsyncCache(place), asyncio.new_event_loop()
    asked = begun(cache, loop, 0.1)
    waiting = threading.Thread(target=served, args=(stranger, 5 * BEAT))
    waiting.start()

    async def block():
        time.sleep(3 * BEAT)  # noqa: ASYNC251 - which is the point
        return await asked

    assert loop.run_until_complete(block()).status.stored
    waiting.join(60)
    assert not cache.stats().get("dropped")
    loop.run_until_complete(cache.aclose())
    loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_ended_in_the_middle_of_its_call_gives_the_lease_back(place, stranger):
    cache, calling = Cache(place), threading.Event()

    def call():
        calling.set()
        while True:
            time.sleep(0.001)

    thread = threading.Thread(target=cache.fetch, args=(REQUEST, call), daemon=True)
    thread.start()
    calling.wait(60)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    served(stranger)
    thread.join(60)
    assert not cache.stats()["flights"]
    cache.close()
    gc.collect()
