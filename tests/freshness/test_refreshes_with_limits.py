"""A refresh whose own call limits, groups and cancels what it does. Nobody else's cancellation is at stake.

An event loop that ends cancels a refresh, which then gets a moment more. What its own call cancels is cancelled at once,
and the refresh takes as long as it takes: anyio, under httpx, cancels within a task whenever it has connected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from askonce import AsyncCache, Policy
from askonce.runtime import tasks
from askonce.testing import Provider, Step
from tests.freshness.test_refreshes_that_end import ASKED
from tests.http.conftest import CHAT, MODULES

STALE = Policy(ttl=0.01, grace=60.0, max_age=600.0, jitter=0)
MOMENT = 0.2  # s
LONGER = 0.5  # s


async def a_time_limit() -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)


async def a_wait_with_a_limit() -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(60), 0.01)


async def a_group_with_a_failure() -> None:
    async def fails() -> None:
        raise ValueError

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(60)


async def a_scope_that_ends() -> None:
    with anyio.move_on_after(0.01):
        await anyio.sleep(60)


async def a_group_that_is_left() -> None:
    async def first(group: Any) -> None:
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(first, group)
        await anyio.sleep(60)


async def a_task_that_cancels_its_parent() -> None:
    parent = asyncio.current_task()
    assert parent is not None

    async def cancels() -> None:
        parent.cancel()

    child = asyncio.create_task(cancels())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    parent.uncancel()
    await child


async def a_cancellation_by_itself() -> None:
    mine = asyncio.current_task()
    assert mine is not None
    mine.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    mine.uncancel()


LIMITS = [
    a_time_limit,
    a_wait_with_a_limit,
    a_group_with_a_failure,
    a_scope_that_ends,
    a_group_that_is_left,
    a_task_that_cancels_its_parent,
    a_cancellation_by_itself,
]


async def refreshed(cache: AsyncCache, ask: Callable[[], Awaitable[Any]]) -> None:
    """Ask twice, the second time for what is stale, and wait for what that begins."""
    await ask()
    await asyncio.sleep(0.02)
    await ask()
    async with asyncio.timeout(60):
        while cache.stats()["flights"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("limited", LIMITS, ids=lambda one: one.__name__)
async def test_what_the_call_of_a_refresh_cancels_is_cancelled_and_the_refresh_goes_on(limited, monkeypatch):
    monkeypatch.setattr(tasks, "LAST", MOMENT)
    calls = 0

    async def call() -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            async with asyncio.timeout(30):
                await limited()
                await asyncio.sleep(LONGER)
        return calls

    async with AsyncCache("memory://") as cache:
        await refreshed(cache, lambda: cache.fetch(ASKED, call, policy=STALE))
        assert cache.stats()["stored"] == 2
        outcome = await cache.fetch(ASKED, call, control="max-stale")
        assert outcome.value == 2


@pytest.mark.parametrize("new", [False, True], ids=["a connection", "a new connection"])
@pytest.mark.parametrize("module", MODULES, ids=["httpx2", "httpx"])
async def test_a_refresh_over_http_takes_as_long_as_it_takes(module, new, monkeypatch):
    monkeypatch.setattr(tasks, "LAST", MOMENT)
    with Provider() as provider:
        provider.script("hi", Step(), Step(delay=LONGER))
        async with AsyncCache("memory://", policy=STALE) as cache, contextlib.AsyncExitStack() as clients:
            client = await clients.enter_async_context(cache.http_client(module=module))

            async def ask() -> None:
                asking = await clients.enter_async_context(cache.http_client(module=module)) if new else client
                await asking.post(f"{provider.openai_url}/chat/completions", json=CHAT)

            await refreshed(cache, ask)
            assert cache.stats()["stored"] == 2
        assert provider.paid("hi") == 2


async def test_a_shutdown_that_cancels_every_task_of_its_loop_gives_a_refresh_its_moment():
    calls = 0

    async def call() -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await asyncio.sleep(LONGER)
        return calls

    async with AsyncCache("memory://") as cache:
        await cache.fetch(ASKED, call, policy=STALE)
        await asyncio.sleep(0.02)
        await cache.fetch(ASKED, call, policy=STALE)
        await asyncio.sleep(0.02)
        others = [task for task in asyncio.all_tasks() if task.get_name() == "askonce-refresh"]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert (len(others), cache.stats()["stored"]) == (1, 2)
