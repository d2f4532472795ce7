"""What the end of a cache, and of Python, does with each call under way, step by step: each step has its test here."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from askonce import AsyncCache, Cache, CacheClosed, Policy
from askonce.store import StoreTrouble
from tests.crowd import ASKED, PATIENCE, Crowd, Loop, eventually, gathered, heartbeat
from tests.injection.upstream import Upstream

pytestmark = pytest.mark.concurrency

STREAM = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "why?"}], "stream": True}
STALE = Policy(ttl=0.01, grace=60.0, max_age=600.0)


@pytest.fixture
def place() -> str:
    return f"memory://closing-{os.urandom(6).hex()}"


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Calls:
    """Calls in tasks that take until `goes_on`, and say `makes` of their cancellation."""

    def __init__(self, makes: Exception | None = None) -> None:
        self.made = 0
        self.makes = makes
        self.goes_on = threading.Event()

    async def __call__(self) -> int:
        self.made += 1
        mine = self.made
        try:
            while not self.goes_on.is_set():  # noqa: ASYNC110 - another thread says so
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # what it closes
            if self.makes is not None:
                raise self.makes from None
            raise
        return mine

    def blocking(self) -> int:
        self.made += 1
        mine = self.made
        assert self.goes_on.wait(PATIENCE)
        return mine


# --- streams that are whole and still open -------------------------------------------------------------------------


def read_to_its_end(cache: Any) -> Any:
    """A stream that was read to its protocol's end, and is open."""
    client = httpx.Client(
        transport=cache.transport(module=httpx, inner=Upstream()), base_url="https://api.openai.com/v1"
    )
    response = client.send(client.build_request("POST", "/chat/completions", json=STREAM), stream=True)
    lines = response.iter_lines()
    assert any("[DONE]" in line for line in lines)
    return response, lines


async def read_in_task(cache: Any) -> Any:
    """The same in a task, of a stream that upstream does not end."""
    client = httpx.AsyncClient(
        transport=cache.transport(module=httpx, inner=Endless()), base_url="https://api.openai.com/v1"
    )
    response = await client.send(client.build_request("POST", "/chat/completions", json=STREAM), stream=True)
    lines = response.aiter_lines()
    while "[DONE]" not in await anext(lines):
        pass
    return response, lines


def is_stored(place: str) -> None:
    with Cache(place) as other:
        eventually(lambda: list(other.entries()), "it is stored")


def test_a_whole_stream_that_is_open_when_python_ends_is_stored(place):
    cache = Cache(place)
    open_yet = read_to_its_end(cache)
    cache._base._engine.last(time.monotonic() + PATIENCE)
    is_stored(place)
    del open_yet


def test_a_whole_stream_that_is_open_when_its_cache_is_closed_is_stored_and_not_dropped(place):
    keeps = Cache(place)  # or the memory would go with its last cache
    cache = Cache(place)
    response, _ = read_to_its_end(cache)
    assert cache.close(0.0) == []
    response.close()
    assert cache.stats()["stored"] == 1
    assert "dropped" not in cache.stats()
    is_stored(place)
    keeps.close()


def test_a_whole_stream_whose_loop_is_not_run_when_python_ends_is_stored(place):
    cache, loop = AsyncCache(place), asyncio.new_event_loop()

    open_yet = loop.run_until_complete(read_in_task(cache))
    cache._base._engine.last(time.monotonic() + PATIENCE)
    is_stored(place)
    del open_yet
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


class Endless(Upstream):
    """Its streams do not end after their last event."""

    def _answered(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Open(super()._answered(body)))


class _Open(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self.parts = response.stream

    async def __aiter__(self) -> Any:
        async for part in self.parts:  # type: ignore[union-attr]
            yield part
        await asyncio.sleep(PATIENCE)


def test_a_whole_stream_whose_loop_is_closed_is_stored(place):
    keeps = Cache(place)
    with heartbeat(0.6):
        cache, loop = AsyncCache(place), asyncio.new_event_loop()
        open_yet = loop.run_until_complete(read_in_task(cache))
        left = asyncio.all_tasks(loop)
        loop.close()
        eventually(lambda: cache.stats().get("stored"), "the background thread finds it")
    is_stored(place)
    keeps.close()
    for task in left:
        task._log_destroy_pending = False
    del open_yet


# --- closing: what it tells, and what it leaves -------------------------------------------------------------------


def asking(loop: Loop, cache: Any, call: Calls, **own: Any) -> Any:
    future = loop.submit(cache.fetch(ASKED, call, **own))
    eventually(lambda: call.made, "it is called")
    return future


def stale(cache: AsyncCache, call: Calls, loop: Any) -> None:
    """Have an answer that the next lookup refreshes, by a call that does not go on."""
    call.goes_on.set()
    loop.do(cache.fetch(ASKED, call, policy=STALE))
    time.sleep(0.02)  # longer than it is fresh
    call.goes_on.clear()


def test_who_asks_a_closed_cache_is_told_so_and_not_what_the_call_made_of_its_cancellation(place, loop):
    cache, call, other = AsyncCache(place), Calls(ConnectionError("it was closed")), Loop()
    asking(loop, cache, call)
    joins = other.submit(cache.fetch(ASKED, call))
    eventually(lambda: cache._base._engine.board.flights()[0].callers == 2, "it joins")
    assert len(loop.do(cache.aclose(0.0))) == 1
    assert isinstance(joins.exception(PATIENCE), CacheClosed)
    assert "backoff" not in cache.stats(), "that is no trouble of upstream"
    other.close()


def test_the_lease_of_a_cancelled_call_is_back_when_a_close_returns(place, loop):
    cache, other, call = AsyncCache(place), AsyncCache(place), Calls()
    asking(loop, cache, call)
    loop.do(cache.aclose(0.0))
    assert not cache._base._engine.board.flights()
    call.goes_on.set()
    assert loop.do(other.fetch(ASKED, call)).value == 2
    loop.do(other.aclose(0.0))


def test_the_lease_of_a_call_that_a_thread_makes_is_back_when_a_close_returns(place):
    threads, call = Crowd("threads"), Calls()
    cache, other = threads.cache(place), threads.cache(place)
    asked = threads.start(lambda: cache.fetch(ASKED, call.blocking))
    eventually(lambda: call.made, "it is called")
    cache.close(0.0)
    assert other.fetch(ASKED, lambda: "another").value == "another", "nobody waits for a call without an end"
    call.goes_on.set()
    assert asked.result(PATIENCE).value == 1
    threads.close()


def test_who_waits_for_another_process_when_its_cache_is_closed_is_told_at_once(place, loop):
    with heartbeat(10 * PATIENCE):  # it would look again by itself after this
        leads, follows, call = AsyncCache(place), AsyncCache(place), Calls()
        asked = asking(loop, leads, call)
        waits = loop.submit(follows.fetch(ASKED, call))
        eventually(lambda: follows.stats()["waiting"], "it waits")
        loop.do(follows.aclose(0.0))
        assert isinstance(waits.exception(PATIENCE), CacheClosed)
    call.goes_on.set()
    assert asked.result(PATIENCE).value == 1
    loop.do(leads.aclose())


def test_a_refresh_that_a_close_ends_is_told_once(place, loop):
    cache, call = AsyncCache(place), Calls()
    stale(cache, call, loop)
    assert loop.do(cache.fetch(ASKED, call, policy=STALE)).value == 1
    eventually(lambda: call.made == 2, "it is refreshed")
    loop.do(cache.aclose(0.0))
    assert cache.stats()["dropped"] == cache.stats()["dropped.closed"] == 1


# --- the end of Python --------------------------------------------------------------------------------------------


def test_the_end_of_python_waits_for_a_refresh_and_for_no_call_with_a_caller(place, loop):
    cache, call = AsyncCache(place), Calls()
    stale(cache, call, loop)
    loop.do(cache.fetch(ASKED, call, policy=STALE))
    eventually(lambda: call.made == 2, "it is refreshed")
    waited = loop.submit(cache.fetch("another", call))
    eventually(lambda: call.made == 3, "it is called")
    calls = threading.Timer(0.05, call.goes_on.set)
    hangs = Calls()
    kept = loop.submit(cache.fetch("a third", hangs))
    gathered(cache, 2)
    calls.start()
    cache._base._engine.last(time.monotonic() + PATIENCE)
    assert cache.stats()["stored"] >= 2, "the refresh"
    assert not kept.done()
    assert "backoff" not in cache.stats()
    hangs.goes_on.set()
    for future in (waited, kept):
        future.exception(PATIENCE)


def test_a_refresh_that_outlasts_the_end_of_python_is_put_off(place, loop):
    cache, other, call = AsyncCache(place), AsyncCache(place), Calls()
    stale(cache, call, loop)
    loop.do(cache.fetch(ASKED, call, policy=STALE))
    eventually(lambda: call.made == 2, "it is refreshed")
    cache._base._engine.last(time.monotonic())
    assert (cache.stats()["backoff"], cache.stats()["dropped.exit"]) == (1, 1)
    assert loop.do(other.fetch(ASKED, call, policy=STALE)).status.detail == "stale"
    assert call.made == 2, "nobody tries it at once"
    call.goes_on.set()
    loop.do(other.aclose(0.0))


# --- answers that came ----------------------------------------------------------------------------------------------


def test_an_answer_that_is_being_sealed_when_its_cache_is_closed_is_stored(place, threads, monkeypatch):
    """Its lease is not given back, as that of a call would be."""
    cache, other = threads.cache(place), threads.cache(place)
    begun, goes_on = threading.Event(), threading.Event()
    accounting = cache._base._engine._leader.accounting
    plain = accounting.paid

    def paid(*arguments: Any) -> Any:
        begun.set()
        assert goes_on.wait(PATIENCE)
        return plain(*arguments)

    monkeypatch.setattr(accounting, "paid", paid)
    asked = threads.start(lambda: cache.fetch(ASKED, lambda: 1))
    assert begun.wait(PATIENCE)
    assert cache.close(0.0) == []
    goes_on.set()
    assert asked.result(PATIENCE).value == 1
    assert other.fetch(ASKED, lambda: 2).value == 1


def test_an_answer_that_a_thread_is_storing_when_its_cache_is_closed_is_stored_when_that_returns(place, threads):
    cache, other = threads.cache(place), threads.cache(place)
    store, begun, goes_on = cache._base._engine.store, threading.Event(), threading.Event()
    plain, thread = store.fill, []

    async def fill(*arguments: Any) -> Any:
        if not begun.is_set():
            begun.set()
            assert goes_on.wait(PATIENCE)
        return await plain(*arguments)

    store.fill = fill
    asked = threads.start(lambda: thread.append(1) or cache.fetch(ASKED, lambda: 1))
    assert begun.wait(PATIENCE)
    assert cache.close(0.0) == []
    assert other.fetch(ASKED, lambda: 2).value == 1
    goes_on.set()
    assert asked.result(PATIENCE).value == 1


def test_an_answer_whose_loop_is_not_run_when_python_ends_is_stored_at_once(place):
    keeps, cache, loop = Cache(place), AsyncCache(place), asyncio.new_event_loop()
    store, begun = cache._base._engine.store, asyncio.Event()
    plain = store.fill

    async def fill(*arguments: Any) -> Any:
        if loop.is_running():
            begun.set()
            await asyncio.sleep(PATIENCE)
        return await plain(*arguments)

    async def ask() -> None:
        loop.create_task(cache.fetch(ASKED, answer))
        await begun.wait()

    async def answer() -> int:
        return 1

    store.fill = fill
    loop.run_until_complete(ask())
    goes_on = threading.Event()
    cache._base._engine.background.defer(goes_on.wait)  # the background thread does not come to it
    cache._base._engine.last(time.monotonic())
    assert list(keeps.entries())
    assert "dropped" not in cache.stats()
    goes_on.set()
    keeps.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


@pytest.mark.parametrize("form", ["fetch", "batch"])
def test_an_answer_is_stored_if_an_interrupt_comes_before_it_is_sent(place, monkeypatch, form):
    cache, upstream = Cache(place), Upstream()
    client = httpx.Client(transport=cache.transport(module=httpx, inner=upstream), base_url="https://api.openai.com/v1")
    engine = cache._base._engine
    leader, verb = (engine._leader, "paid") if form == "fetch" else (engine._batch_leader, "paid_all")
    plain, times = getattr(leader.accounting, verb), []

    def interrupted(*arguments: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(leader.accounting, verb, interrupted)
    path, body = "/chat/completions", {**STREAM, "stream": False}
    if form == "batch":
        path, body = "/embeddings", {"model": "text-embedding-3-small", "input": ["a"]}
    with pytest.raises(KeyboardInterrupt):
        client.post(path, json=body)
    is_stored(place)


def test_the_end_of_python_pushes_what_was_counted_and_noted(place):
    cache = Cache(place)
    cache.fetch(ASKED, lambda: 1)
    engine = cache._base._engine
    accounts = engine.accounting.accounts
    assert accounts._bookings
    assert engine.background.notes._waiting
    engine.last(time.monotonic() + PATIENCE)
    assert not [*accounts._bookings, *accounts._pending, *accounts._sending]
    assert not engine.background.notes._waiting


def test_trouble_that_a_close_makes_is_not_told_and_its_background_thread_ends(place, loop):
    cache, call = AsyncCache(place), Calls()
    engine = cache._base._engine
    asking(loop, cache, call)

    async def release(*_: Any, **__: Any) -> None:
        raise StoreTrouble("store-closed")

    engine.store.release = release
    loop.do(cache.aclose(0.0))
    assert "trouble" not in cache.stats()
    assert engine.background.users.over()
