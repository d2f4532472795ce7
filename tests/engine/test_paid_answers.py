"""An answer that came is stored, whatever ends the code that stores it before the store has begun to.

Its task is cancelled once or twice, its loop ends or is closed, its cache is closed, its thread is interrupted. The
schedule is forced: the store does not begin a last write that the call's own code asks for.
"""

# ruff: noqa: ASYNC110 - what is waited for is set by other threads

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from askonce import AsyncCache, Cache
from askonce.store import StoreTrouble
from tests.crowd import PATIENCE, eventually, heartbeat
from tests.fixtures import place_of
from tests.injection.upstream import Upstream

pytestmark = pytest.mark.concurrency

CHAT = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "why?"}]}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "one piece": ("/chat/completions", CHAT),
    "stream": ("/chat/completions", {**CHAT, "stream": True}),
    "batch": ("/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b", "c"]}),
}


class Counting(Upstream):
    """Counts its calls; answers a task when it is `ready`, and calls `asked` before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.ready: Callable[[], object] = lambda: True
        self.asked: Callable[[], object] = bool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while not self.ready():
            await asyncio.sleep(0.002)
        return await super().handle_async_request(request)

    def _answered(self, body: dict[str, Any]) -> httpx.Response:
        self.calls += 1
        self.asked()
        return super()._answered(body)


class Held:
    """The store of a cache begins no last write: it suspends the task that asks for one, or interrupts the thread.

    A store that is `closed` ends what waits for it.
    """

    def __init__(self, cache: Any, interrupt: type[BaseException] | None = None) -> None:
        self.store = cache._base._engine.store
        self.reached = threading.Event()
        self.closed = threading.Event()
        self.interrupt = interrupt

    def begin(self) -> None:
        for verb in ("fill", "release", "together"):
            setattr(self.store, verb, self._held(getattr(self.store, verb)))

    def _held(self, plain: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        thread = threading.get_ident()

        async def held(*arguments: Any, **more: Any) -> Any:
            if threading.get_ident() != thread:
                return await plain(*arguments, **more)  # the background thread's
            self.reached.set()
            if self.interrupt is not None:
                raise self.interrupt
            while not self.closed.is_set():
                await asyncio.sleep(0.002)
            raise StoreTrouble("store-closed")

        return held


# --- endings: each asks, and ends what asks when the answer came and the store has not begun ------------------------

Ask = Callable[[], Awaitable[Any]]


async def _until(ask: Ask, held: Held) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(ask())
    while not held.reached.is_set():
        await asyncio.sleep(0)
    return task


def loop_ends(ask: Ask, held: Held, _: Any) -> None:
    asyncio.run(_until(ask, held))


def loop_is_closed(ask: Ask, held: Held, _: Any) -> None:
    """What asyncio.run does, less the end: nothing is cancelled or waited for."""
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(_until(ask, held))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def all_are_cancelled_twice(ask: Ask, held: Held, _: Any) -> None:
    async def main() -> None:
        await _until(ask, held)
        for _ in range(2):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

    asyncio.run(main())


def cache_is_closed(ask: Ask, held: Held, cache: Any) -> None:
    async def main() -> None:
        task = await _until(ask, held)
        assert await cache.aclose(0.0) == [], "none is dropped"
        held.closed.set()
        await asyncio.wait([task])
        assert task.exception() is None, "its caller gets the answer"

    asyncio.run(main())


def caller_is_cancelled(ask: Ask, held: Held, _: Any) -> None:
    async def main() -> None:
        (await _until(ask, held)).cancel()

    asyncio.run(main())


def group_fails(ask: Ask, held: Held, _: Any) -> None:
    async def main() -> None:
        with contextlib.suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(_until(ask, held))
                while not held.reached.is_set():
                    await asyncio.sleep(0)
                raise ZeroDivisionError

    asyncio.run(main())


def time_is_up(ask: Ask, held: Held, _: Any) -> None:
    async def main() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                task = await _until(ask, held)
                limit.reschedule(0.0)
                await task

    asyncio.run(main())


def loop_is_interrupted(ask: Ask, held: Held, _: Any) -> None:
    async def main() -> None:
        await _until(ask, held)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


ENDINGS = (
    loop_ends,
    loop_is_closed,
    all_are_cancelled_twice,
    cache_is_closed,
    caller_is_cancelled,
    group_fails,
    time_is_up,
    loop_is_interrupted,
)
INTERRUPTS = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)


def quick(*rows: Any) -> list[Any]:
    """All combinations with the stores; of each combination one store is quick, by turns."""
    made = []
    for at, row in enumerate(itertools.product(*rows)):
        for turn, kind in enumerate(("memory", "sqlite", "valkey")):
            marks = [*([pytest.mark.servers] if kind == "valkey" else [])]
            marks += [] if turn == at % 3 else [pytest.mark.slow]
            names = [getattr(one, "__name__", one) for one in row]
            made.append(pytest.param(kind, *row, marks=marks, id="-".join([kind, *names])))
    return made


@pytest.fixture
def upstream() -> Counting:
    return Counting()


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    with heartbeat(0.6):
        yield place_of(kind, request, tmp_path)


def client(cache: Any, upstream: Counting) -> Any:
    made = httpx.AsyncClient if isinstance(cache, AsyncCache) else httpx.Client
    return made(transport=cache.transport(module=httpx, inner=upstream), base_url="https://api.openai.com/v1")


def answered_again(place: str, upstream: Counting, form: str, paid: int = 1) -> None:
    """Another cache over the same place has the answer."""
    path, body = FORMS[form]
    with Cache(place) as other, client(other, upstream) as asked:
        assert asked.post(path, json=body).status_code == 200
    assert upstream.calls == paid


@pytest.mark.parametrize(("kind", "form", "ending"), quick(FORMS, ENDINGS))
def test_an_answer_is_stored_whatever_ends_the_task_that_stores_it(place, upstream, form, ending):
    path, body = FORMS[form]
    cache = AsyncCache(place)
    held = Held(cache)
    upstream.asked = held.begin

    async def ask() -> Any:
        return await client(cache, upstream).post(path, json=body)

    ending(ask, held, cache)
    answered_again(place, upstream, form)
    eventually(lambda: not cache._base._engine.board.flights(), "nothing is left")
    assert not cache.stats().get("dropped")
    assert cache.stats()["stored"] == (3 if form == "batch" else 1)


@pytest.mark.parametrize(("kind", "form", "interrupt"), quick(FORMS, INTERRUPTS))
def test_an_answer_is_stored_whatever_interrupts_the_thread_that_stores_it(place, upstream, form, interrupt):
    path, body = FORMS[form]
    cache = Cache(place)
    upstream.asked = Held(cache, interrupt).begin
    with contextlib.suppress(interrupt):
        client(cache, upstream).post(path, json=body)
    answered_again(place, upstream, form)
    eventually(lambda: not cache._base._engine.board.flights(), "nothing is left")
    assert cache.stats()["stored"] == (3 if form == "batch" else 1)


@pytest.mark.parametrize(("kind", "form", "ending"), quick(("one piece", "stream"), (loop_ends, loop_is_closed)))
def test_who_follows_elsewhere_gets_an_answer_that_may_not_be_stored_and_pays_nothing(
    place, upstream, form, ending, threads
):
    path, body = FORMS[form]
    upstream.finish = "length"
    cache, other = AsyncCache(place), threads.cache(place)
    held = Held(cache)
    upstream.asked = held.begin
    upstream.ready = lambda: other.stats()["waiting"]
    following = []

    async def ask() -> Any:
        task = asyncio.ensure_future(client(cache, upstream).post(path, json=body))
        while not cache.stats()["flights"]:
            await asyncio.sleep(0)
        following.append(threads.start(lambda: client(other, upstream).post(path, json=body)))
        return await task

    ending(ask, held, cache)
    assert following[0].result(PATIENCE).status_code == 200
    assert upstream.calls == 1


@pytest.mark.parametrize(("kind", "form"), quick(("one piece", "stream")))
def test_who_asks_here_before_the_background_thread_has_stored_it_waits_for_that(place, upstream, form, threads):
    path, body = FORMS[form]
    cache, goes_on = threads.cache(place), threading.Event()
    background = cache._base._engine.background
    held = Held(cache, KeyboardInterrupt)
    upstream.asked = held.begin
    background.start()
    background.defer(goes_on.wait)

    def ask() -> Any:
        return client(cache, upstream).post(path, json=body)

    with pytest.raises(KeyboardInterrupt):
        ask()
    upstream.asked = bool
    asked = threads.start(ask)
    eventually(lambda: cache.stats()["waiting"], "it waits")
    goes_on.set()
    assert asked.result(PATIENCE).status_code == 200
    assert upstream.calls == 1
