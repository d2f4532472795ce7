"""A process that collects garbage at every allocation, while it drops streams unread, caches and event loops.

Everything it drops is in reference cycles, so it is collected in the middle of other work: of askonce's code, or of a
lock. The process ends by itself, and reports what is left, or where its threads stand if it hangs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from askonce import AsyncCache, Cache
from askonce.flight.background import BackgroundThread
from askonce.runtime.ownership import OwnedLock
from tests.injection.stranger import answer, items
from tests.injection.upstream import Upstream
from tests.injection.world import KEPT, World

STUCK = 60.0  # s
SOON = 8.0  # s in which all that was dropped has to be gone


class Sources:
    """Streams of upstream's: how many are open."""

    def __init__(self) -> None:
        self.open = 0

    def blocking(self, request: Any) -> Iterator[Any]:
        self.open += 1
        try:
            yield from items(request)
        finally:
            self.open -= 1

    async def suspending(self, request: Any) -> Any:
        self.open += 1
        try:
            for item in items(request):
                await asyncio.sleep(0)
                yield item
        finally:
            self.open -= 1


def cycle(*things: Any) -> None:
    """Nobody has these any more, and only the collector can tell."""
    box: list[Any] = list(things)
    box.append(box)


class Dropping:
    """Rounds of dropping, over one place that a cache of its own keeps using."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sources = Sources()
        self.wrong: list[str] = []

    def right(self, request: Any, brought: Any) -> None:
        if brought != answer(request):
            self.wrong.append(f"{request}: {brought}")

    def blocking(self) -> None:
        """A stream, a response and a cache with a stream, all dropped; and a lookup that is not."""
        world, request = self.world, self.world.fresh()
        stream = world.cache.fetch_stream(request, lambda: self.sources.blocking(request))
        next(stream)
        cycle(stream)
        cycle(self.response(world.client, world.fresh()))
        cache, other = Cache(world.url), world.fresh()
        unread = cache.fetch_stream(other, lambda: self.sources.blocking(other))
        next(unread)
        cycle(cache, unread)
        del stream, cache, unread
        self.right(request, world.cache.fetch(request, lambda: answer(request)).value)

    @staticmethod
    def response(client: Any, request: Any) -> Any:
        made = client.build_request("POST", "/chat/completions", json={**request, "stream": True})
        response = client.send(made, stream=True)
        pieces = response.iter_raw()
        next(pieces)
        return response, pieces

    async def suspending(self, cache: Any, client: Any) -> None:
        world, request = self.world, self.world.fresh()
        stream = await cache.fetch_stream(request, lambda: self.sources.suspending(request))
        await anext(stream)
        cycle(stream)
        made = client.build_request("POST", "/chat/completions", json={**world.fresh(), "stream": True})
        response = await client.send(made, stream=True)
        cycle(response)
        other = AsyncCache(world.url)
        unread = await other.fetch_stream(request, lambda: self.sources.suspending(request))
        cycle(other, unread)
        del stream, response, other, unread

        async def call() -> Any:
            return answer(request)

        self.right(request, (await cache.fetch(request, call)).value)

    def looping(self, number: int) -> None:
        """In the world's own loop, or in one that is closed, or only dropped, with all that is under way."""
        world = self.world
        if number % 3 == 0:
            assert world.loop is not None
            world.loop.run_until_complete(self.suspending(world.cache, world.client))
            return
        loop, cache, upstream = asyncio.new_event_loop(), AsyncCache(world.url), Upstream()
        client = httpx.AsyncClient(
            transport=cache.transport(module=httpx, inner=upstream), base_url="https://api.openai.com/v1"
        )
        kept, self.sources = self.sources, Sources()  # a loop that is gone closes nothing any more
        loop.run_until_complete(self.suspending(cache, client))
        self.sources = kept
        if number % 3 == 1:
            loop.close()
        cycle(loop, cache, client)

    def round(self, number: int) -> None:
        if self.world.tasks:
            self.looping(number)
        else:
            self.blocking()


def left(dropping: Dropping) -> dict[str, Any]:
    """What is there that nobody owns."""
    world = dropping.world
    engine = world.cache._base._engine
    locks = [one for one in gc.get_objects() if isinstance(one, OwnedLock) and one.held]
    names = [thread.name for thread in threading.enumerate() if thread not in world.threads]
    fleets = sum(name == "askonce-background" for name in names)
    running = sum(name in KEPT - {"askonce-connect"} for name in names)
    found = {
        "flights": len(engine.board.flights()),
        "beats": len(engine.background._heartbeats),
        "streams": dropping.sources.open,
        "responses": world.upstream.open,
        "threads": [name for name in names if name not in KEPT],
        "fleets": max(0, fleets - 1),
        "locks": max(0, len(locks) - running),
    }
    return {name: what for name, what in found.items() if what}


def soon(look: Callable[[], Any]) -> Any:
    """What it still finds when it should find nothing."""
    until = time.monotonic() + SOON
    while (found := look()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def main(url: str, mode: str, rounds: int, beat: float) -> None:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    BackgroundThread.heartbeat, BackgroundThread.rhythm = beat, beat * 0.3
    world = World(url.partition(":")[0], url, mode, None)
    dropping = Dropping(world)
    dropping.round(0)
    gc.collect()
    gc.freeze()
    gc.set_threshold(1)
    for number in range(rounds):
        dropping.round(number)
    gc.set_threshold(700)
    gc.collect()
    if world.loop is not None:
        world.loop.run_until_complete(asyncio.sleep(2 * beat))  # what must leave there has left by then
    print(json.dumps({"wrong": dropping.wrong, "left": soon(lambda: left(dropping))}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
