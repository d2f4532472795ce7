"""What programs leave behind, thousands of times: streams by `break`, loops, threads, caches. Nothing grows with it.

After the first few, a process has all the threads, descriptors, memory and server clients that it will ever have.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache, Policy
from tests.fixtures import KINDS, place_of
from tests.remains import Remains, as_before, counted, resident

pytestmark = [counted, pytest.mark.concurrency]

NOTHING_KEPT = Policy(ttl=0)  # so that every lookup pays
FEW, SOME, MANY = 20, 60, 10_000
DEAR = 4_000  # of a kind that takes several milliseconds: so all kinds take less than ten minutes
Leave = Callable[[int], None]  # leaves the given number of things of a kind


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def server(request, place):
    """The server of the place, if it has one."""
    return request.getfixturevalue("valkey") if place.startswith("redis") else None


# --- kinds -------------------------------------------------------------------------------------------------------


def items() -> Iterator[dict[str, int]]:
    yield from ({"item": number} for number in range(4))


async def items_async() -> AsyncIterator[dict[str, int]]:
    for item in items():
        yield item


@contextlib.contextmanager
def streams(url: str) -> Iterator[Leave]:
    with Cache(url, policy=NOTHING_KEPT) as cache:

        def leave(many: int) -> None:
            for number in range(many):
                for _ in cache.fetch_stream(number % 7, items):
                    break

        yield leave


@contextlib.contextmanager
def async_streams(url: str) -> Iterator[Leave]:
    cache = AsyncCache(url, policy=NOTHING_KEPT)

    async def leave(many: int) -> None:
        for number in range(many):
            async for _ in await cache.fetch_stream(number % 7, items_async):
                break

    with asyncio.Runner() as runner:
        yield lambda many: runner.run(leave(many))
        runner.run(cache.aclose())


def events() -> Iterator[bytes]:
    for text, finish in (("a", None), ("b", None), ("", "stop")):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        yield b"data: %b\n\n" % json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode()
    yield b"data: [DONE]\n\n"


class Said(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream of upstream's, which tells whether it was closed."""

    opened = 0

    def __init__(self) -> None:
        Said.opened += 1
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return events()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in events():
            yield event

    def close(self) -> None:
        Said.opened -= self._open
        self._open = False

    async def aclose(self) -> None:
        self.close()


def replies(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Said())


def asking(number: int) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": str(number % 7)}], "stream": True}


def of(cache: Any) -> dict[str, Any]:
    client = cache.http_client(module=httpx2, inner=httpx2.MockTransport(replies))
    return {"api_key": "k", "base_url": "http://llm.example.com/v1", "http_client": client}


@contextlib.contextmanager
def sdk_streams(url: str) -> Iterator[Leave]:
    openai = pytest.importorskip("openai")
    with Cache(url, policy=NOTHING_KEPT) as cache, openai.OpenAI(**of(cache)) as client:

        def leave(many: int) -> None:
            for number in range(many):
                for _ in client.chat.completions.create(**asking(number)):
                    break

        yield leave


@contextlib.contextmanager
def async_sdk_streams(url: str) -> Iterator[Leave]:
    openai = pytest.importorskip("openai")
    cache = AsyncCache(url, policy=NOTHING_KEPT)

    async def leave(many: int) -> None:
        for number in range(many):
            async for _ in await client.chat.completions.create(**asking(number)):
                break

    with asyncio.Runner() as runner:
        client = openai.AsyncOpenAI(**of(cache))
        yield lambda many: runner.run(leave(many))
        runner.run(client.close())
        runner.run(cache.aclose())


async def asked(cache: AsyncCache, number: int) -> None:
    async def call() -> int:
        return number

    assert (await cache.fetch(number % 7, call)).value is not None


@contextlib.contextmanager
def loops(url: str) -> Iterator[Leave]:
    """One asyncio.run a call, as in a sync web view."""
    cache = AsyncCache(url, policy=NOTHING_KEPT)

    def leave(many: int) -> None:
        for number in range(many):
            asyncio.run(asked(cache, number))

    yield leave
    asyncio.run(cache.aclose())


@contextlib.contextmanager
def loops_without_ceremony(url: str) -> Iterator[Leave]:
    """Loops that are closed with what they have, or not even that."""
    cache = AsyncCache(url, policy=NOTHING_KEPT)

    def leave(many: int) -> None:
        for number in range(many):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(asked(cache, number))
            if number % 8:
                loop.close()

    yield leave
    asyncio.run(cache.aclose())


@contextlib.contextmanager
def threads(url: str) -> Iterator[Leave]:
    with Cache(url, policy=NOTHING_KEPT) as cache:

        def leave(many: int) -> None:
            for number in range(many):
                thread = threading.Thread(target=lambda number=number: cache.fetch(number % 7, lambda: 1))
                thread.start()
                thread.join()

        yield leave


@contextlib.contextmanager
def threads_with_loops(url: str) -> Iterator[Leave]:
    """A thread a request, each with a loop of its own."""
    cache = AsyncCache(url, policy=NOTHING_KEPT)

    def leave(many: int) -> None:
        for number in range(many):
            thread = threading.Thread(target=lambda number=number: asyncio.run(asked(cache, number)))
            thread.start()
            thread.join()

    yield leave
    asyncio.run(cache.aclose())


@contextlib.contextmanager
def caches(url: str) -> Iterator[Leave]:
    def leave(many: int) -> None:
        for number in range(many):
            Cache(url, policy=NOTHING_KEPT).fetch(number % 7, lambda: 1)

    yield leave


@contextlib.contextmanager
def async_caches(url: str) -> Iterator[Leave]:
    def leave(many: int) -> None:
        for number in range(many):
            asyncio.run(asked(AsyncCache(url, policy=NOTHING_KEPT), number))

    yield leave


@contextlib.contextmanager
def clients(url: str) -> Iterator[Leave]:
    """A client a request, never closed."""
    with Cache(url, policy=NOTHING_KEPT) as cache:

        def leave(many: int) -> None:
            for number in range(many):
                client = of(cache)["http_client"]
                assert client.post("http://llm.example.com/v1/chat/completions", json=asking(number)).text

        yield leave


LEFT = {
    made.__name__.replace("_", " "): made
    for made in (
        *(streams, async_streams, sdk_streams, async_sdk_streams, loops, loops_without_ceremony),
        *(threads, threads_with_loops, caches, async_caches, clients),
    )
}

DEARER = {"sdk streams", "async sdk streams", "async caches", "clients"}


# Python warns when an unclosed loop is dropped; here that is the purpose.
each_kind = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.filterwarnings("ignore::ResourceWarning"))
        if kind == "loops without ceremony"
        else kind
        for kind in LEFT
    ],
)


# --- laws --------------------------------------------------------------------------------------------------------

# How many are busy at one moment differs: connections of the pool, threads that finish abandoned work.
MORE = 6


@each_kind
def test_what_is_left_behind_eighty_times_leaves_as_much_as_twenty(kind, place, server):
    with LEFT[kind](place) as leave:
        leave(FEW)
        before = Remains.now(server)
        leave(SOME)
        as_before(before, server, more=MORE)
    assert Said.opened <= MORE


@pytest.mark.slow
@each_kind
def test_what_is_left_behind_thousands_of_times_leaves_as_much_as_a_few(kind, place, server):
    with LEFT[kind](place) as leave:
        leave(SOME)
        leave(SOME)  # memory is taken from the system in steps
        before, memory = Remains.now(server), resident()
        leave(DEAR if kind in DEARER else MANY)
        as_before(before, server, more=MORE)
        assert resident() < memory + 6 * 2**20


class Answer(dict[str, int]):
    """An answer of which it can be seen when nobody has it any more."""


def answered(kept: list[weakref.ref[Any]]) -> Answer:
    made = Answer(answer=1)
    kept.append(weakref.ref(made))
    return made


def test_what_a_call_starts_and_leaves_running_keeps_no_answer_alive():
    """A client's own task begins inside the first call and outlives it, with a copy of that call's context."""
    kept: list[weakref.ref[Any]] = []
    running: list[asyncio.Task[None]] = []

    async def call() -> Answer:
        running.append(asyncio.create_task(asyncio.sleep(60)))
        return answered(kept)

    async def ask(cache: AsyncCache) -> None:
        await cache.fetch("question", call)

    with asyncio.Runner() as runner:
        cache = AsyncCache("memory://")
        runner.run(ask(cache))
        gc.collect()
        assert not running[0].done()
        assert kept[0]() is None
        runner.run(cache.aclose())


def test_a_context_that_a_call_copies_keeps_no_answer_alive():
    kept: list[weakref.ref[Any]] = []
    copies: list[contextvars.Context] = []

    def call() -> Answer:
        copies.append(contextvars.copy_context())
        return answered(kept)

    with Cache("memory://") as cache:
        cache.fetch("question", call)
        gc.collect()
        assert kept[0]() is None
    assert copies
