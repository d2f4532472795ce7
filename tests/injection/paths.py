"""The paths through askonce: each is prepared, taken once with an exception somewhere, and then taken again."""

# ruff: noqa: ASYNC222, ASYNC251 - in sync mode these coroutines block, which is the point

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from typing import Any, NamedTuple

from tests.injection.stranger import answer, items
from tests.injection.world import Act, World


class Path(NamedTuple):
    """A way: `prepare` gives its request, `act` goes it, and is `right` when what it brings is."""

    name: str
    prepare: Act
    act: Act
    form: str = "v"  # of a later lookup by another process; "" for none
    needs: str = ""  # sqlite: a file; stranger: another process; fork: no event loop

    def right(self, request: Any, brought: Any) -> bool:
        """Whether this is the answer to that request."""
        text = answer(request)["to"]
        if self.name.startswith("http"):
            return text in json.dumps(brought) or '"embedding":' in str(brought)
        if self.form == "s":
            whole = items(request)
            return bool(brought == whole[: len(brought)] and brought)
        return brought is None or bool(brought == answer(request))


async def fresh(world: World, _: Any) -> Any:
    return world.fresh()


async def stored(world: World, _: Any) -> Any:
    request = world.fresh()
    await world.fetch(request)
    return request


async def stored_stream(world: World, _: Any) -> Any:
    request = world.fresh()
    await world.stream(request)
    return request


async def stale(world: World, _: Any) -> Any:
    request = world.fresh()
    await world.fetch(request, ttl=0.02)
    time.sleep(0.03)
    return request


async def led_here(world: World, _: Any) -> Any:
    """Somebody else of this process makes the call."""
    request = world.fresh()
    if world.tasks:
        task = asyncio.get_running_loop().create_task(world.fetch(request, 0.03))
        world.kept = task  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        return request
    thread = threading.Thread(target=lambda: world.run(world.fetch(request, 0.03)), daemon=True)
    thread.start()
    time.sleep(0.01)
    return request


async def led_there(world: World, _: Any) -> Any:
    """Another process makes the call."""
    assert world.stranger is not None
    request = world.fresh()
    world.stranger.tell("lead", request, "v", 0.05)
    return request


async def streamed_there(world: World, _: Any) -> Any:
    assert world.stranger is not None
    request = world.fresh()
    world.stranger.tell("lead", request, "s", 0.08)
    return request


async def lookup(world: World, request: Any) -> Any:
    return await world.fetch(request)


async def failing(world: World, request: Any) -> Any:
    def call() -> Any:
        raise ZeroDivisionError

    async def acall() -> Any:
        raise ZeroDivisionError

    try:
        made = world.cache.fetch(request, acall if world.tasks else call)
        return (await world.awaited(made)).value
    except ZeroDivisionError:
        return None


async def unstored(world: World, request: Any) -> Any:
    return await world.fetch(request, store_if=lambda _: False)


async def served_stale(world: World, request: Any) -> Any:
    return await world.fetch(request, ttl=0.02)


async def whole_stream(world: World, request: Any) -> Any:
    return await world.stream(request)


async def part_of_a_stream(world: World, request: Any) -> Any:
    return await world.stream(request, 2)


async def http(world: World, request: Any) -> Any:
    return await world.post("/chat/completions", request)


async def http_stream(world: World, request: Any) -> Any:
    return await world.post("/chat/completions", {**request, "stream": True})


async def http_batch(world: World, request: Any) -> Any:
    text = answer(request)["to"]
    return await world.post("/embeddings", {"model": "text-embedding-3-small", "input": [text, text + "a", text + "b"]})


async def invalidated(world: World, request: Any) -> Any:
    await world.awaited(world.cache.invalidate(tag="some", request=None))
    return None


async def forgotten(world: World, request: Any) -> Any:
    await world.awaited(world.cache.invalidate(request=request))
    return None


async def made_and_closed(world: World, request: Any) -> Any:
    cache = world.make()
    try:
        return await world.fetch(request, cache=cache)
    finally:
        await world.awaited(cache.aclose(0.5) if world.tasks else cache.close(0.5))


async def forked(world: World, request: Any) -> Any:
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if world.run(world.fetch(request)) == answer(request) else 2
        finally:
            os._exit(code)
    until = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise AssertionError("a forked child hangs")
        time.sleep(0.002)
    return await world.fetch(request)


PATHS = (
    Path("hit", stored, lookup),
    Path("miss", fresh, lookup),
    Path("failure", fresh, failing),
    Path("unstored", fresh, unstored),
    Path("stale", stale, served_stale),
    Path("follow here", led_here, lookup),
    Path("follow there", led_there, lookup, needs="stranger"),
    Path("stream", fresh, whole_stream, "s"),
    Path("stream left", fresh, part_of_a_stream, "s"),
    Path("stream replayed", stored_stream, whole_stream, "s"),
    Path("stream followed", streamed_there, whole_stream, "s", "stranger"),
    Path("http", fresh, http, ""),
    Path("http stream", fresh, http_stream, ""),
    Path("http batch", fresh, http_batch, ""),
    Path("invalidate", fresh, invalidated),
    Path("forget", stored, forgotten),
    Path("close", fresh, made_and_closed),
    Path("fork", stored, forked, needs="fork"),
)
