"""A caller that leaves while its answer is being stored: what was paid for is kept, whoever left, and whatever for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from askonce import AsyncCache
from tests.http.desk import MODEL, Desk, right
from tests.http.desk import URL as EMBEDDINGS
from tests.http.streams.talking import STORY, STREAM, URL, Talking

WAIT = 20  # s, where nothing is missing


class Held:
    """A store's fills, each of which begins and then waits."""

    def __init__(self, cache: AsyncCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        store = cache._base.engine().store
        self._fill = store.fill
        monkeypatch.setattr(store, "fill", self)

    async def __call__(self, *filled: Any) -> Any:
        self.begun.set()
        await self.go_on.wait()
        return await self._fill(*filled)


@pytest.mark.parametrize("on_abandon", ["finish", "close"])
async def test_a_reader_that_leaves_while_a_whole_stream_is_stored_does_not_lose_it(module, on_abandon, monkeypatch):
    async with AsyncCache("memory://", on_abandon=on_abandon) as cache:
        talking, held = Talking(module), Held(cache, monkeypatch)
        async with cache.http_client(module=module, inner=talking) as client:
            async with client.stream("POST", URL, json=STREAM) as response:
                talking.line.say(*STORY)
                parts = response.aiter_raw()
                first = [await anext(parts) for _ in STORY]
                talking.line.ends()
                await asyncio.wait_for(held.begun.wait(), WAIT)
                asyncio.get_running_loop().call_later(0.05, held.go_on.set)  # when it has left
            talking.tell(*STORY)
            again = await client.post(URL, json=STREAM)
        assert b"".join(first) == again.content == b"".join(STORY)
        assert "hit" in again.headers["cache-status"]
        assert len(talking.lines) == 1
        assert "dropped" not in cache.stats()


class Slow(Talking):
    """Its first answer comes when `opens` says so, has one part, and takes until `closes` to be closed."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.asked, self.opens, self.closing, self.closes = (asyncio.Event() for _ in range(4))

    async def handle_async_request(self, request: Any) -> Any:
        self.asked.set()
        await self.opens.wait()
        answer = self._answer()
        if not self.told:
            self.line.say(STORY[0])
            self.line.aclose = self._close  # type: ignore[method-assign]
        return answer

    async def _close(self) -> None:
        self.closing.set()
        await self.closes.wait()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("read", [True, False], ids=["read", "opening"])
async def test_who_asks_while_a_stream_is_closed_that_its_last_reader_left_gets_a_whole_one(module, read, elsewhere):
    place, inner = f"memory://closing-{os.urandom(6).hex()}", Slow(module)
    async with AsyncCache(place, on_abandon="close") as cache, AsyncCache(place, on_abandon="close") as other:
        asks = (other if elsewhere else cache).http_client(module=module, inner=inner)
        async with cache.http_client(module=module, inner=inner) as client, asks:

            async def leave() -> None:
                async with client.stream("POST", URL, json=STREAM) as response:
                    await anext(response.aiter_raw())

            leaving = asyncio.create_task(leave())
            await asyncio.wait_for(inner.asked.wait(), WAIT)
            if not read:
                leaving.cancel()  # and in the same moment its answer begins
            inner.opens.set()
            await asyncio.wait_for(inner.closing.wait(), WAIT)
            inner.tell(*STORY)
            asking = asyncio.create_task(asks.post(URL, json=STREAM))
            asyncio.get_running_loop().call_later(0.1, inner.closes.set)  # when it was told whom to follow
            found = await asyncio.wait_for(asking, WAIT)
            await asyncio.wait({leaving})
        assert found.content == b"".join(STORY)
        assert len(inner.lines) == 2


async def test_a_caller_that_leaves_while_its_answer_is_stored_does_not_lose_it(monkeypatch):
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        return "paid"

    async with AsyncCache("memory://", on_abandon="close") as cache:
        await left_while_it_is_stored(lambda: cache.fetch("q", call), Held(cache, monkeypatch))
        assert ((await cache.fetch("q", call)).value, calls) == ("paid", 1)


async def test_a_caller_that_leaves_while_its_batch_is_stored_does_not_lose_it(module, monkeypatch):
    desk = Desk(module)
    async with (
        AsyncCache("memory://", on_abandon="close") as cache,
        cache.http_client(module=module, inner=desk) as client,
    ):

        async def embed() -> Any:
            return await client.post(EMBEDDINGS, json={"model": MODEL, "input": ["a", "b"]})

        await left_while_it_is_stored(embed, Held(cache, monkeypatch))
        right((await embed()).json(), ["a", "b"])
        assert desk.batches == [["a", "b"]]


async def left_while_it_is_stored(ask: Callable[[], Coroutine[Any, Any, Any]], held: Held) -> None:
    """Ask, be cancelled while the answer is stored, and let it be stored."""
    caller = asyncio.create_task(ask())
    await asyncio.wait_for(held.begun.wait(), WAIT)
    caller.cancel()
    await asyncio.wait({caller})
    await asyncio.sleep(0)  # what it asked the loop to cancel, if anything, is cancelled now
    held.go_on.set()
