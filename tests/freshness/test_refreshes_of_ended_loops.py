"""`asyncio.run` ends while a refresh is under way: what the refresh's call began in other tasks has its moment too.

A loop that ends cancels all tasks, and so also those of `wait_for`, of task groups, and of a connection that is opened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

from askonce import AsyncCache, Policy
from askonce.testing import Provider, Step
from tests.crowd import PATIENCE
from tests.freshness.test_refreshes_that_end import ASKED
from tests.http.conftest import CHAT, MODULES
from tests.took import Took

pytestmark = pytest.mark.concurrency

STALE = Policy(ttl=0.01, grace=60.0, max_age=600.0, jitter=0)


Work = Callable[[], Coroutine[Any, Any, None]]


async def by_a_wait_with_a_limit(work: Work) -> None:
    await asyncio.wait_for(work(), PATIENCE)


async def by_gather(work: Work) -> None:
    await asyncio.gather(work(), asyncio.sleep(0))


async def by_a_group(work: Work) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work())


async def by_a_group_of_anyio(work: Work) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)


async def by_a_task_of_a_task(work: Work) -> None:
    await asyncio.create_task(by_a_group(work))


WAYS = [by_a_wait_with_a_limit, by_gather, by_a_group, by_a_group_of_anyio, by_a_task_of_a_task]


class Upstream:
    """Answers with the number of its call. From the second on it works in a task of its own, for `seconds`."""

    def __init__(self, way: Callable[[Any], Awaitable[None]], seconds: float) -> None:
        self.way = way
        self.seconds = seconds
        self.calls = 0
        self.works = asyncio.Event()
        self.worked = False

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls > 1:
            await self.way(self._work)
            assert self.worked, "a group does not tell that one of its tasks was cancelled"
        return self.calls

    async def _work(self) -> None:
        self.works.set()
        await asyncio.sleep(self.seconds)
        self.worked = True


def stale_hit(cache: AsyncCache, upstream: Upstream) -> None:
    """A loop that ends in the middle of the work of a refresh."""

    async def ask() -> None:
        for _ in range(2):
            await cache.fetch(ASKED, upstream, policy=STALE)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE):
            await upstream.works.wait()

    asyncio.run(ask())


@pytest.mark.parametrize("way", WAYS, ids=lambda one: one.__name__)
def test_what_a_refresh_began_in_other_tasks_has_a_moment_more_when_its_loop_ends(way):
    cache, upstream = AsyncCache("memory://"), Upstream(way, 0.1)
    stale_hit(cache, upstream)
    assert cache.stats()["stored"] == 2
    asyncio.run(cache.aclose())


def test_its_tasks_end_with_a_refresh_that_takes_too_long_for_its_loop(monkeypatch):
    monkeypatch.setattr("askonce.runtime.tasks.LAST", 0.1)
    cache, upstream = AsyncCache("memory://"), Upstream(by_a_group, 30.0)
    took = Took()
    stale_hit(cache, upstream)
    assert took.seconds < 2.0
    assert cache.stats()["dropped.cut-off"] == 1
    asyncio.run(cache.aclose())


def test_a_task_that_outlives_its_refresh_does_not_hold_up_the_end_of_their_loop():
    left: list[asyncio.Task[None]] = []

    async def leaves_one(work: Work) -> None:
        left.append(asyncio.create_task(asyncio.sleep(60)))
        await work()

    cache, upstream = AsyncCache("memory://"), Upstream(leaves_one, 0.1)
    took = Took()
    stale_hit(cache, upstream)
    assert took.seconds < 1.0
    assert cache.stats()["stored"] == 2
    assert left[0].cancelled()
    asyncio.run(cache.aclose())


def test_a_loop_has_its_own_tasks_again_after_a_refresh_and_keeps_a_factory_of_its_program():
    made: list[str] = []

    def factory(loop: Any, work: Any, **more: Any) -> Any:
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **more)

    async def one(cache: AsyncCache, own: Any) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(own)
        upstream = Upstream(by_a_group, 0.05)
        for _ in range(2):
            await cache.fetch(ASKED, upstream, policy=STALE)
            await asyncio.sleep(0.02)
        meanwhile = loop.get_task_factory()
        while cache.stats()["flights"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        await cache.aclose()
        return meanwhile, loop.get_task_factory()

    meanwhile, after = asyncio.run(one(AsyncCache("memory://"), None))
    assert meanwhile is not None
    assert after is None
    assert asyncio.run(one(AsyncCache("memory://"), factory)) == (factory, factory)
    assert any("_work" in name for name in made)


def test_a_refresh_that_is_over_leaves_the_tasks_of_another_caches_refresh_as_they_are():
    brief, longer = AsyncCache("memory://a"), AsyncCache("memory://b")

    async def later(work: Work) -> None:
        while brief.stats()["stored"] < 2 or brief.stats()["flights"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)  # its task is over, and what its end calls
        await by_a_group(work)

    async def stays(work: Work) -> None:
        await work()

    over, goes_on = Upstream(stays, 0.05), Upstream(later, 0.1)

    async def ask() -> None:
        for _ in range(2):
            await longer.fetch(ASKED, goes_on, policy=STALE)
            await brief.fetch(ASKED, over, policy=STALE)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE):
            await goes_on.works.wait()

    asyncio.run(ask())
    for cache in (brief, longer):
        assert cache.stats()["stored"] == 2
        asyncio.run(cache.aclose())


@pytest.mark.parametrize("module", MODULES, ids=["httpx2", "httpx"])
def test_a_refresh_that_opens_its_connection_when_its_loop_ends_is_stored(module):
    cache = AsyncCache("memory://", policy=STALE)
    with Provider() as provider:
        provider.script("hi", Step(), Step(delay=0.2))

        async def ask(*, connects: bool) -> None:
            async with cache.http_client(module=module) as client:
                await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)
            known = asyncio.all_tasks()
            async with asyncio.timeout(PATIENCE):
                while connects and not any("try_connect" in repr(one) for one in asyncio.all_tasks() - known):  # noqa: ASYNC110
                    await asyncio.sleep(0)

        asyncio.run(ask(connects=False))
        time.sleep(0.02)
        asyncio.run(ask(connects=True))
        assert (cache.stats()["stored"], provider.paid("hi")) == (2, 2)
    asyncio.run(cache.aclose())


@pytest.mark.parametrize("seconds", [0.1, 30.0], ids=["stored", "cut off"])
@pytest.mark.parametrize("module", MODULES, ids=["httpx2", "httpx"])
def test_a_client_that_waits_for_a_refresh_is_closed_before_its_loop_is(module, seconds, monkeypatch, caplog):
    monkeypatch.setattr("askonce.runtime.tasks.LAST", 0.3)
    cache, closed = AsyncCache("memory://", policy=STALE), []

    class Slow(module.AsyncHTTPTransport):
        async def __aexit__(self, *raised: object) -> None:
            await asyncio.sleep(0.1)
            await super().__aexit__(*raised)
            closed.append(self)

    with Provider() as provider:
        provider.script("hi", Step(), Step(delay=seconds))

        async def ask() -> None:
            async with cache.http_client(module=module, inner=Slow()) as client:
                await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)

        for at in range(2):
            asyncio.run(ask())
            assert len(closed) == at + 1
            time.sleep(0.02)
    assert cache.stats()["stored"] == (2 if seconds < 1 else 1)
    asyncio.run(cache.aclose())
    assert not [one for one in caplog.records if "destroyed" in one.getMessage()]
