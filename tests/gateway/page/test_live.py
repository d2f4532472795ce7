"""What is told while a page is looked at, on a real server: what changed, at once, and to few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from askonce.core.savings import Activity
from askonce.gateway.page.live import LIMIT, event
from askonce.gateway.page.overview import Overview
from tests.gateway.page.conftest import TOKEN
from tests.gateway.page.serving import served, stop
from tests.gateway.page.sights import NOW, Told, ToldView, busy
from tests.took import Took

pytestmark = pytest.mark.waits


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("askonce.gateway.page.live.STEP", 0.1)


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[httpx2.Response, AsyncIterator[tuple[str, str]]]]:
    """The stream of a page that is logged in, and its events."""
    async with httpx2.AsyncClient(base_url=address, timeout=30) as client:
        await client.post("login", data={"token": TOKEN})
        async with client.stream("GET", "live") as answer:
            yield answer, events(answer)


async def events(answer: httpx2.Response) -> AsyncIterator[tuple[str, str]]:
    """The name and the data of each event."""
    name = ""
    data: list[str] = []
    async for line in answer.aiter_lines():
        field, _, value = line.partition(": ")
        if not line:
            yield name, "\n".join(data)
            name, data = "", []
        elif field == "event":
            name = value
        else:
            data.append(value)


async def until(told: AsyncIterator[tuple[str, str]], wanted: str, having: str = "") -> str:
    """The data of the next event of this name that has a text."""
    async with asyncio.timeout(20):
        async for name, data in told:
            if name == wanted and having in data:
                return data
    raise AssertionError(f"no event {wanted!r} with {having!r}")


async def test_calls_in_progress_are_told_as_they_change(cache):
    told = busy()
    async with served(ToldView(cache, told)) as address, listening(address) as (answer, seen):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert "claude-sonnet-4-9" in await until(seen, "")
        told.flights = []
        assert "No call is running." in await until(seen, "", "No call")


async def test_a_part_is_announced_if_it_changed_and_only_then(cache):
    told = Told(activity=busy(NOW).activity)
    async with served(ToldView(cache, told)) as address, listening(address) as (_, seen):
        assert await until(seen, "figures") == "changed"
        await until(seen, "beat")
        beats = 0
        async with asyncio.timeout(20):
            async for name, _ in seen:
                assert name == "beat", "nothing changed"
                beats += name == "beat"
                if beats == 4:
                    break
        told.activity = Activity(told.activity.hours[:3])
        assert await until(seen, "figures") == "changed"


async def test_no_more_pages_are_told_than_the_limit(cache, monkeypatch):
    monkeypatch.setattr("askonce.gateway.page.live.LIMIT", 2)
    assert LIMIT > 2
    async with (
        served(ToldView(cache, busy())) as address,
        listening(address) as (_, first),
        listening(address) as (answer, second),
    ):
        assert answer.status_code == 200
        await until(first, "beat")  # both are told something, so both count
        await until(second, "beat")
        async with listening(address) as (third, _):
            assert third.status_code == 503
            assert third.headers["retry-after"]


async def test_a_page_that_was_closed_is_told_nothing_any_more(cache, monkeypatch):
    monkeypatch.setattr("askonce.gateway.page.live.LIMIT", 1)
    async with served(ToldView(cache, busy())) as address:
        for _ in range(3):
            async with asyncio.timeout(20):
                while True:
                    async with listening(address) as (answer, seen):
                        if answer.status_code == 200:
                            await until(seen, "beat")
                            break


async def test_a_server_that_ends_keeps_no_page_waiting(cache):
    async with served(ToldView(cache, busy())) as address, listening(address) as (_, seen):
        await until(seen, "beat")
        took = Took()
        await stop(address)
        async with asyncio.timeout(20):
            assert [name async for name, _ in seen if name != "beat"] == []
    assert took.seconds < 10


async def test_all_who_look_share_what_is_read(cache):
    class Counting(ToldView):
        reads = 0

        async def activity(self, days=1):
            Counting.reads += 1
            return await super().activity()

    overview = Overview(Counting(cache, busy()))
    await asyncio.gather(*(overview.whole() for _ in range(50)))
    assert Counting.reads == 2, "once for the figures, and once for the lists"


async def test_a_reader_that_leaves_takes_nothing_away_from_the_others(cache):
    go = asyncio.Event()

    class Slow(ToldView):
        async def activity(self, days=1):
            await go.wait()
            return await super().activity()

    overview = Overview(Slow(cache, busy()))
    first, second = asyncio.create_task(overview.whole()), asyncio.create_task(overview.whole())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go.set()
    assert (await second)["saved"]


@pytest.mark.parametrize("data", ["a\nb", "a\r\nb", "a\rb", "a\x0bb", "a\x85b", "a\u2028b", ""])
def test_no_end_of_a_line_ends_an_event(data):
    lines = event("x", data).split("\n")
    assert lines[0] == "event: x"
    assert lines[-2:] == ["", ""]
    assert all(line.startswith("data: ") for line in lines[1:-2])
