"""No thread can be started, at each start in turn and at all of them: no caller notices, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.crowd import heartbeat
from tests.fixtures import place_of
from tests.injection.paths import PATHS
from tests.injection.world import BEAT, World

KINDS = ("memory", "sqlite", pytest.param("valkey", marks=pytest.mark.servers))
MODES = ("threads", "tasks")
MOST = 8  # starts, each refused in turn

pytestmark = pytest.mark.concurrency


class Starts:
    """The starts of threads of ours: the `nth` is refused, or all are (0)."""

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.met = 0

    def refuse(self, thread: threading.Thread) -> bool:
        if not thread.name.startswith("askonce-"):
            return False
        self.met += 1
        return self.nth in {0, self.met}


@contextmanager
def refusing(nth: int) -> Iterator[Starts]:
    starts, start = Starts(nth), threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if starts.refuse(thread):
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = started  # type: ignore[method-assign,assignment]
    try:
        yield starts
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


def gone(world: World, path, starts: Starts) -> None:
    request = world.run(path.prepare(world, None))
    brought = world.run(path.act(world, request))
    what = f"{starts.met} starts, of which number {starts.nth} was refused, on {path.name!r}"
    assert path.right(request, brought), f"after {what}: {brought}"
    again = world.run(path.act(world, request))
    assert path.right(request, again), f"after {what}, then: {again}"
    world.tidy()


def all_gone(kind: str, mode: str, request, tmp_path, nth: int) -> int:
    """Every path, where that start is refused; how many there were."""
    url = place_of(kind, request, tmp_path)
    with refusing(nth) as starts:
        world = World(kind, url, mode, None)
        for path in PATHS:
            if not path.needs:
                gone(world, path, starts)
    world.run(world.fetch(world.fresh()))  # threads can be started again
    world.at_rest(f"the start number {nth} was refused")
    world.close()
    return starts.met


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_thread_can_be_started_and_nobody_hears_of_it(kind, mode, request, tmp_path):
    with heartbeat(BEAT):
        assert all_gone(kind, mode, request, tmp_path, 0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_cannot_be_started_and_nobody_hears_of_it(kind, mode, request, tmp_path):
    with heartbeat(BEAT):
        for nth in range(1, MOST + 1):
            if all_gone(kind, mode, request, tmp_path, nth) < nth:
                return
