"""The callers of one process, in threads or in tasks. Their work is written once, as coroutines.

In tasks, a coroutine runs in an event loop. In threads, it never suspends: `gather` drives each coroutine to its end in
a thread of its own, and what it awaits blocks that thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Any, NamedTuple

import httpx2

from askonce import AsyncCache, Cache
from askonce.runtime.drive import drive
from askonce.testing import ScriptedCall

MOST = 1000  # callers in a process
LIMITS = httpx2.Limits(max_connections=MOST, max_keepalive_connections=MOST)

Call = ScriptedCall | Callable[[], Coroutine[Any, Any, Any]]


class Asked(NamedTuple):
    """What one caller saw; times of time.monotonic()."""

    began: float
    ended: float
    name: str  # of the answer
    status: str
    error: str


@asynccontextmanager
async def _entered(manager: AbstractContextManager[Any]) -> AsyncIterator[Any]:
    with manager as value:
        yield value


class Callers:
    """Callers in threads, which are kept, with their connections."""

    cache: Callable[..., AbstractAsyncContextManager[Any]]
    http: Callable[..., AbstractAsyncContextManager[Any]]  # a client without askonce

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST)
        self.cache = lambda *url, **options: _entered(Cache(*url, **options))
        self.http = lambda **options: _entered(httpx2.Client(limits=LIMITS, **options))

    async def sleep_until(self, at: float) -> None:
        """Sleep until a time of time.monotonic(), which may have passed."""
        await self.sleep(max(0.0, at - time.monotonic()))

    async def ask(self, cache: Any, request: Any, call: Call, at: float = 0.0, **own: Any) -> Asked:
        """Ask at a given time, and report the result; an error is what a caller saw, too."""
        await self.sleep_until(at)
        began = time.monotonic()
        try:
            outcome = await self.fetch(cache, request, call, **own)
        except Exception as error:  # noqa: BLE001 - see above
            return Asked(began, time.monotonic(), "", "", type(error).__name__)
        return Asked(began, time.monotonic(), str(outcome.value.get("id")), str(outcome.status), "")

    async def fetch(self, cache: Any, request: Any, call: Call, **own: Any) -> Any:
        """An Outcome."""
        if isinstance(call, ScriptedCall):
            return cache.fetch(request, call.on(request), **own)
        return cache.fetch(request, lambda: drive(call()), **own)

    async def sleep(self, seconds: float) -> None:
        """Let only this caller sleep."""
        time.sleep(seconds)  # noqa: ASYNC251 - its thread has no loop

    async def gather(self, *works: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run all at once; return their results, or raise the first error."""
        return [future.result() for future in [self._pool.submit(drive, work) for work in works]]

    async def block(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run something that blocks; in tasks the loop goes on."""
        return work(*arguments)

    async def invalidate(self, cache: Any, **what: Any) -> None:
        """Invalidate, and return when it is acknowledged."""
        cache.invalidate(**what)

    def client(self, cache: Any, **options: Any) -> AbstractAsyncContextManager[Any]:
        """An http_client() of a cache."""
        return _entered(cache.http_client(limits=LIMITS, **options))

    async def read(self, client: Any, url: str, body: Any, sink: Any) -> None:
        """Make a POST; `sink.begin` gets its Cache-Status, `sink.add` each part of its response."""
        with client.stream("POST", url, json=body) as response:
            sink.begin(response.headers.get("cache-status", ""))
            for part in response.iter_bytes():
                sink.add(part)


class Tasks(Callers):
    """Callers in tasks of one loop."""

    def __init__(self) -> None:
        self.cache = AsyncCache
        self.http = lambda **options: httpx2.AsyncClient(limits=LIMITS, **options)

    async def fetch(self, cache: Any, request: Any, call: Call, **own: Any) -> Any:
        return await cache.fetch(request, call.aio_on(request) if isinstance(call, ScriptedCall) else call, **own)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def gather(self, *works: Coroutine[Any, Any, Any]) -> list[Any]:
        return list(await asyncio.gather(*works))

    async def block(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)

    async def invalidate(self, cache: Any, **what: Any) -> None:
        await cache.invalidate(**what)

    def client(self, cache: Any, **options: Any) -> AbstractAsyncContextManager[Any]:
        made: AbstractAsyncContextManager[Any] = cache.http_client(limits=LIMITS, **options)
        return made

    async def read(self, client: Any, url: str, body: Any, sink: Any) -> None:
        async with client.stream("POST", url, json=body) as response:
            sink.begin(response.headers.get("cache-status", ""))
            async for part in response.aiter_bytes():
                sink.add(part)


def run(mode: str, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    """Run ``work(callers, *arguments)`` in one of the modes."""
    return asyncio.run(work(Tasks(), *arguments)) if mode == "tasks" else drive(work(Callers(), *arguments))
