"""A process in which each lock of askonce is entered again by its own thread while it is held.

The garbage collector does it, when it finds unread streams, responses, caches and event loops; and so do the possible
actions of a signal handler: a lookup, or making and closing a cache. The process notes where each lock was made.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import logging
import os
import sqlite3
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx  # noqa: F401 - what is not ours makes its locks first
import redis.asyncio  # noqa: F401

SORTS = ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier")
ROOT = Path(__file__).parents[2] / "src" / "askonce"
STUCK = 20.0  # s
TIMES = 3  # how often each lock is entered again
raw: set[str] = set()


def _noted(sort: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def make(*arguments: Any, **more: Any) -> Any:
        if site := _site(sys._getframe(1)):
            raw.add(f"{sort} {site}")
        return real(*arguments, **more)

    return make


def _site(frame: Any) -> str:
    """The file of ours whose code that is, or ""."""
    file = Path(frame.f_code.co_filename)
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else ""


for _sort in SORTS:
    setattr(threading, _sort, _noted(_sort, getattr(threading, _sort)))

from askonce import AsyncCache, Cache  # noqa: E402
from askonce.runtime.ownership import OwnedLock  # noqa: E402
from askonce.store.sqlite.worker import WorkerThread  # noqa: E402
from tests.injection import collecting  # noqa: E402
from tests.injection.stranger import answer, items  # noqa: E402
from tests.injection.world import World  # noqa: E402

_run = OwnedLock.run


class Reentering:
    """Enters locks again: each some times, before and after what is done under it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entered: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.garbage: list[Any] = []
        self._within = threading.local()
        self._dropping = collecting.Dropping(world)

    def prepare(self) -> None:
        """Garbage to be, of each kind."""
        world, sources = self.world, self._dropping.sources
        for _ in range(12):
            request = world.fresh()
            blocking = Cache(world.url)
            stream = blocking.fetch_stream(request, partial(sources.blocking, request))
            next(stream)
            self.garbage.append((blocking, stream, self._loop()))

    def _loop(self) -> Any:
        loop, cache = asyncio.new_event_loop(), AsyncCache(self.world.url)

        async def ask() -> Any:
            return await cache.fetch_stream(self.world.fresh(), lambda: self._dropping.sources.suspending({}))

        unread = loop.run_until_complete(ask())
        loop.close()
        return loop, cache, unread

    def enter(self, site: str) -> None:
        """Once more, in this thread."""
        if getattr(self._within, "it", False) or self.entered[site] >= TIMES:
            return
        self._within.it = True
        self.entered[site] += 1
        try:
            self._enter()
        except Exception as error:
            self.wrong.append(f"{site}: {error!r}")
        finally:
            self._within.it = False

    def _enter(self) -> None:
        if self.garbage:
            collecting.cycle(self.garbage.pop())
        gc.collect()
        if threading.current_thread() is threading.main_thread():  # signal handlers run only there
            self._look_up()

    def _look_up(self) -> None:
        request = self.world.fresh()
        with Cache(self.world.url) as cache:
            for _ in range(2):
                self._dropping.right(request, cache.fetch(request, lambda: answer(request)).value)
            other = self.world.fresh()
            with cache.fetch_stream(other, lambda: iter(items(other))) as stream:
                if list(stream) != items(other):
                    self.wrong.append(f"{other}: another stream")

    def patch(self) -> None:
        reentering = self

        def run(lock: OwnedLock, section: Callable[[], Any], *more: Any, **named: Any) -> Any:
            frame: Any = sys._getframe(1)
            frame = frame if frame.f_code.co_name != "nested" else frame.f_back
            site = f"{file} {frame.f_code.co_name}" if (file := _site(frame)) else ""

            def inside() -> Any:
                reentering.enter(site)
                result = section()
                reentering.enter(site)
                return result

            return _run(lock, inside if site else section, *more, **named)

        OwnedLock.run = run  # type: ignore[method-assign, assignment]


def use(world: World, dropping: collecting.Dropping) -> None:
    """Everything that takes a lock."""
    for number in range(3):
        dropping.round(number)
    if world.kind == "sqlite":
        _held_up(world, dropping)
    if world.tasks:
        world.run(WorkerThread().do(gc.collect))  # the file's thread may be at work since before
    cache = world.make()
    request = world.fresh()
    world.run(world.fetch(request, cache=cache))
    world.run(world.awaited(cache.invalidate(request=request)))
    world.run(world.awaited(cache.aclose(0.5) if world.tasks else cache.close(0.5)))
    world.run(world.stream(world.fresh()))
    world.run(world.post("/chat/completions", {**world.fresh(), "stream": True}))


def _held_up(world: World, dropping: collecting.Dropping) -> None:
    """Have a lookup wait for another program, which a loop leaves to a thread."""
    with closing(sqlite3.connect(world.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        request = world.fresh()
        dropping.right(request, world.run(world.fetch(request)))


def main(url: str, mode: str) -> None:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    world = World(url.partition(":")[0], url, mode, None)
    reentering = Reentering(world)
    reentering.prepare()
    dropping = collecting.Dropping(world)
    reentering.patch()
    use(world, dropping)
    request = world.fresh()
    dropping.right(request, Cache(url).fetch(request, lambda: answer(request)).value)
    wrong = [*reentering.wrong, *dropping.wrong, *reentering._dropping.wrong]
    if world.kind == "memory" and (breakers := world.cache.stats()["breaker"]) != "closed":
        wrong.append(f"what was busy with itself was taken for a store in trouble: {breakers}")
    said = {"wrong": wrong[:5], "raw": sorted(raw), "entered": dict(reentering.entered)}
    print(json.dumps(said), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
