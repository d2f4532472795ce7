"""An exception at any line of a near hit, and of what fills and empties the near cache, leaves it right."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from askonce import Cache
from askonce.core.near import Table
from askonce.testing.servers import Server
from tests.crowd import eventually, heartbeat
from tests.fixtures import place_of, prompt
from tests.injection.inject import INJECTS, OURS, Point, noted
from tests.injection.paths import Path, forgotten, lookup
from tests.injection.test_background import ERRORS, SECONDS, Watch, hit, nothing
from tests.injection.test_background import watch as watch  # noqa: PLC0414 - a fixture
from tests.injection.test_paths import all_tried, in_turn, points_of
from tests.injection.world import BEAT, World

pytestmark = [
    pytest.mark.servers,
    pytest.mark.concurrency,
    *INJECTS,
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
FILES = ("core/near.py", "store/redis/near.py", "store/redis/tracking.py", "store/redis/link.py")
LATEST = 2.0  # s after an invalidation was acknowledged


async def nearby(world: World, _: Any) -> Any:
    """A request that the near cache answers."""
    request = world.fresh()
    seen, until = world.cache.stats().get("hit.near", 0), time.monotonic() + 60
    while world.cache.stats().get("hit.near", 0) == seen:
        await world.fetch(request)
        time.sleep(0.005)  # noqa: ASYNC251 - the background thread reads meanwhile
        assert time.monotonic() < until, "no near hit"
    return request


async def seen_once(world: World, _: Any) -> Any:
    """A request whose next lookup asks for it to be kept."""
    request = world.fresh()
    await world.fetch(request)
    await world.fetch(request)
    return request


PATHS = (Path("near hit", nearby, lookup), Path("seen", seen_once, lookup), Path("forget", nearby, forgotten))


@pytest.fixture(params=["threads", "tasks"])
def world(request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with heartbeat(BEAT):
        made = World("valkey", prompt(place_of("valkey", request, tmp_path)), request.param, None, near="16MB")
        yield made
        made.close()


def exact(table: Table) -> None:
    """The account of a table is that of its slots, when nothing is on its way."""
    sizes = sum(slot.size for slot in list(table.slots.values())) + sum(slot.size for slot in list(table._voided))
    assert table._size == sizes


@pytest.mark.parametrize("seconds", [0.3, pytest.param(SECONDS, marks=pytest.mark.slow)])
def test_an_exception_at_any_point_of_a_caller_leaves_nothing_behind(world: World, seconds: float) -> None:
    for path in PATHS:
        assert all_tried(world, path, in_turn(world, points_of(world, path, 2)), seconds)
    exact(world.cache._base._engine.store.near.table)


class Traffic(threading.Thread):
    """Asks and invalidates, all the time; `late`: how long an invalidated answer was served, if that was too long."""

    def __init__(self, cache: Cache, other: Cache) -> None:
        super().__init__(daemon=True)
        self.cache, self.other = cache, other
        self.over = threading.Event()
        self.turns = 0
        self.late: list[float] = []

    def run(self) -> None:
        request = {"q": "near"}
        while not self.over.is_set():
            self.turns += 1
            now = self.turns
            self.other.invalidate(request=request)
            acknowledged = time.monotonic()
            while True:
                began = time.monotonic()
                if self.cache.fetch(request, lambda now=now: now).value == now:  # type: ignore[misc]
                    break
                if began - acknowledged > LATEST:
                    self.late.append(began - acknowledged)
            for _ in range(20):
                self.cache.fetch(request, lambda: 0)
                time.sleep(0.002)


def passed(watch: Watch, seconds: float) -> list[Point]:
    """What the background thread passes through in so many seconds, in the near cache's files."""
    found: list[Point] = []
    watch.met = noted(found, 1, OURS)
    time.sleep(seconds)
    watch.met = nothing
    found = [point for point in found if point.file.removeprefix(OURS)[1:] in FILES]
    random.Random(0).shuffle(found)
    return found


@pytest.mark.parametrize("seconds", [1.0, pytest.param(4 * SECONDS, marks=pytest.mark.slow)])
def test_an_exception_at_any_line_of_what_fills_it_lets_it_serve_nothing_old(
    valkey: Server, watch: Watch, seconds: float
) -> None:
    with Cache(valkey.url, near="16MB", socket_timeout=5.0) as cache, Cache(valkey.url, socket_timeout=5.0) as other:
        traffic = Traffic(cache, other)
        traffic.start()
        eventually(lambda: cache.stats().get("hit.near"), "near hits")
        reached, until = 0, time.monotonic() + seconds
        for number, point in enumerate(passed(watch, 0.5)):
            if time.monotonic() > until and reached and traffic.turns > 3:
                break
            reached += hit(cache._base._engine.background, watch, point, ERRORS[number % 2])
            near = cache.stats()["hit.near"]
            eventually(lambda near=near: cache.stats()["hit.near"] > near, f"near hits after {point}")  # type: ignore[misc]
        eventually(lambda: traffic.turns > 3, "some invalidations")
        traffic.over.set()
        traffic.join(60)
        assert not traffic.late
        assert reached
