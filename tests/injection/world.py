"""A World: a place, a cache over it in one of the two modes, and another process over the same place.

It checks after an exception: whether the next lookup is right and quick, whether another process is served, and whether
anything is left without an owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import signal
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from askonce import AsyncCache, Cache
from askonce.runtime.ownership import OwnedLock
from tests.crowd import eventually, heartbeat
from tests.fixtures import place_of, prompt
from tests.injection.stranger import Stranger, answer, items
from tests.injection.upstream import Upstream

BEAT = 0.6  # s: the heartbeat here, and a lease's life
HANG = 5.0  # s after which a coroutine counts as hanging
KEPT = {"askonce-background", "askonce-connect", "askonce-sqlite"}  # threads that every process may have
QUICK = 0.3  # s that the next lookup may take


class Hung(BaseException):
    """What ends a thread that hangs."""


def _hung(*_: object) -> None:
    raise Hung("hangs")


_number = itertools.count()


class World:
    """The place of one test, from all sides."""

    def __init__(self, kind: str, url: str, mode: str, stranger: Stranger | None, **options: Any) -> None:
        self.kind = kind
        self.url = url
        self.mode = mode
        self.stranger = stranger
        self.options = options
        self.loop = asyncio.new_event_loop() if mode == "tasks" else None
        self.cache = self.make()
        self.upstream = Upstream()
        self.client = self._client()
        self.threads = set(threading.enumerate())

    @property
    def tasks(self) -> bool:
        return self.loop is not None

    def make(self, **more: Any) -> Any:
        """One more cache over this place."""
        return (AsyncCache if self.tasks else Cache)(self.url, **self.options, **more)

    def _client(self) -> Any:
        transport = self.cache.transport(module=httpx, inner=self.upstream, ttl=60)
        return (httpx.AsyncClient if self.tasks else httpx.Client)(
            transport=transport, base_url="https://api.openai.com/v1"
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine here: in sync mode it never suspends."""
        if threading.current_thread() is not threading.main_thread():
            return self._run(work)
        before = signal.signal(signal.SIGALRM, _hung)
        signal.setitimer(signal.ITIMER_REAL, HANG + 1.0)
        try:
            return self._run(work)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self.loop is None:
            try:
                work.send(None)
            except StopIteration as done:
                return done.value
            raise AssertionError("suspended in sync mode")
        task = self.loop.create_task(work)
        watch = self.loop.call_later(HANG, task.cancel, "hangs")
        try:
            return self.loop.run_until_complete(task)
        finally:
            watch.cancel()
            if task.cancelled():
                with contextlib.suppress(asyncio.CancelledError):
                    task.result()

    def tidy(self) -> None:
        """What asyncio.run does when it ends, whatever ended it: cancel what is left and let it end."""
        if self.loop is None:
            return
        for _ in range(20):
            for _ in range(
                3
            ):  # stopping is among what the interrupted run asked for; a task that ended may send another
                self.loop.call_soon(self.loop.stop)
                self._once(self.loop.run_forever)
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            self._once(partial(self.loop.run_until_complete, asyncio.gather(*left, return_exceptions=True)))
        raise AssertionError("tasks do not end")

    @staticmethod
    def _once(run: Callable[[], object]) -> None:
        """A task that was interrupted may have something to await on its way out: the loop ends only after that."""
        with contextlib.suppress(KeyboardInterrupt):
            run()

    def fresh(self) -> dict[str, Any]:
        """A request that nobody has asked."""
        content = f"question {next(_number)}"
        return {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": content}]}

    # asking, in either mode

    async def fetch(self, request: Any, seconds: float = 0.0, cache: Any = None, **own: Any) -> Any:
        """The value for a request, whose call takes so long."""
        cache = cache or self.cache

        def call() -> Any:
            time.sleep(seconds)
            return answer(request)

        async def acall() -> Any:
            await asyncio.sleep(seconds)
            return answer(request)

        if self.tasks:
            return (await cache.fetch(request, acall, **own)).value
        return cache.fetch(request, call, **own).value

    async def stream(self, request: Any, most: int = 99, seconds: float = 0.0, **own: Any) -> list[Any]:
        """The items of a stream, or the first so many; closed then."""
        got: list[Any] = []
        if self.tasks:

            async def aopen() -> Any:
                for item in items(request):
                    await asyncio.sleep(seconds)
                    yield item

            async with await self.cache.fetch_stream(request, aopen, **own) as stream:
                async for item in stream:
                    got.append(item)
                    if len(got) >= most:
                        break
            return got

        def opened() -> Any:
            for item in items(request):
                time.sleep(seconds)
                yield item

        with self.cache.fetch_stream(request, opened, **own) as stream:
            for item in stream:
                got.append(item)
                if len(got) >= most:
                    break
        return got

    async def post(self, path: str, body: Any) -> Any:
        """A request through an HTTP client: its whole body."""
        made = self.client.post(path, json=body)
        response = await made if self.tasks else made
        assert response.status_code == 200, response.text
        return response.text

    async def awaited(self, made: Awaitable[Any] | Any) -> Any:
        """What a method of the cache gives."""
        return await made if self.tasks else made

    # looking around

    def served_elsewhere(self, request: Any, form: str, what: str) -> None:
        """Another process is served, and waits for nobody who is not there."""
        if self.stranger is None:
            return
        reply = self.stranger.tell("ask", request, form)
        told = f"after {what} another process"
        right = items(request) if form == "s" else answer(request)
        assert reply["said"] == right, f"{told} was told {reply}"
        assert reply["seconds"] < 2 * BEAT + QUICK, f"{told} waited {reply['seconds']:.2f} s"

    def at_rest(self, what: str) -> None:
        """Nothing is left that nobody owns."""
        engine = self.cache._base._engine
        background = engine.background
        eventually(
            lambda: not engine.board.flights() and not engine.board._claimed and not background._heartbeats._all,
            f"after {what} no lease is renewed: {engine.board._claimed}, {list(background._heartbeats._all)}",
            3.0,
        )
        eventually(lambda: self.upstream.open == 0, f"after {what} upstream's streams are closed", 3.0)
        eventually(lambda: not self.strays(), f"after {what} no thread is left: {self.strays()}", 3.0)
        if self.url.startswith("sqlite"):
            self._writable(what)

    def strays(self) -> list[str]:
        """Threads that were not there before, and are none of those that every process has."""
        return [one.name for one in threading.enumerate() if one not in self.threads and one.name not in KEPT]

    def _writable(self, what: str) -> None:
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=1.0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise AssertionError(f"after {what} nobody can write: {error}") from error
        finally:
            connection.close()

    def no_lock_held(self) -> None:
        """No lock of ours is held by anybody, but by threads that wait for something to do."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        held = [one for one in gc.get_objects() if type(one) is OwnedLock and hasattr(one, "_waiting")]
        held = [one for one in held if one.held]
        left = [names.get(one._end().thread, "nobody") for one in held]
        left = [name for name in left if name not in KEPT]
        assert not left, f"{len(left)} locks are held, by {set(left)}"

    def close(self) -> None:
        self.tidy()
        if self.loop is None:
            self.client.close()
            self.cache.close(1.0)
            return
        self.loop.run_until_complete(self.client.aclose())
        self.loop.run_until_complete(self.cache.aclose(1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


Act = Callable[[World, Any], Coroutine[Any, Any, Any]]


@contextlib.contextmanager
def world_alone(request: pytest.FixtureRequest, tmp_path: Path, seconds: float) -> Iterator[World]:
    """The world of a fixture whose param is (store, mode), with a heartbeat of so many s and no other process."""
    kind, mode = request.param
    with heartbeat(seconds):
        made = World(kind, prompt(place_of(kind, request, tmp_path)), mode, None)
        yield made
        made.close()
