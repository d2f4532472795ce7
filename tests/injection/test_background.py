"""An exception at any line of the background thread ends neither the thread nor the leases that it renews."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from askonce import Cache
from askonce.flight.background import BackgroundThread
from tests.crowd import eventually, heartbeat
from tests.fixtures import place_of
from tests.injection.inject import INJECTS, OURS, Injection, Point, noted, traced

ERRORS = (MemoryError, SystemExit)
BEAT = 2.4  # s: a renewal each 0.7 s
SECONDS = float(os.environ.get("ASKONCE_SECONDS", "8"))
FILES = (
    "flight/background.py",
    "flight/heartbeats.py",
    "store/sqlite/link.py",
    "store/redis/link.py",
    "store/redis/connection.py",
    "stream/writer.py",
)

pytestmark = [
    pytest.mark.concurrency,
    *INJECTS,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


def nothing(*_: object) -> None:
    """No more than that."""


class Watch:
    """What happens in the background thread: each moment is handed to `met`, which may raise there."""

    def __init__(self) -> None:
        self.met: Callable[[FrameType, str], object] = nothing
        self.trace = traced(self, OURS)

    def __call__(self, frame: FrameType, event: str) -> None:
        if threading.current_thread().name == "askonce-background":
            self.met(frame, event)


@pytest.fixture
def watch():
    made = Watch()
    before = threading.gettrace()
    threading.settrace(made.trace)
    yield made
    threading.settrace(before)


def points_of(watch: Watch, seconds: float) -> list[Point]:
    """What the thread passes through in so many seconds."""
    found: list[Point] = []
    watch.met = noted(found, 1, OURS)
    time.sleep(seconds)
    watch.met = nothing
    found = [point for point in found if point.file.removeprefix(OURS)[1:] in FILES]
    random.Random(int(os.environ.get("ASKONCE_SEED", "0"))).shuffle(found)
    return found


def hit(background: BackgroundThread, watch: Watch, point: Point, error: type[BaseException]) -> bool:
    """Have it raise there, if it comes there."""
    background.defer(partial(sys.settrace, watch.trace))  # the interpreter ends a trace that raised
    injection = Injection(point._replace(nth=1), error)
    watch.met = injection.met
    until = time.monotonic() + 1.0
    while not injection.done and time.monotonic() < until:
        time.sleep(0.005)
    watch.met = nothing
    return injection.done


def led(cache: Cache, until: threading.Event) -> tuple[threading.Thread, list[Any]]:
    """A call that goes on until then, and how often it was made."""
    calls: list[Any] = []

    def call() -> str:
        calls.append(1)
        until.wait(60)
        return "answer"

    thread = threading.Thread(target=lambda: cache.fetch({"q": 1}, call), daemon=True)
    thread.start()
    eventually(lambda: calls, "the call is made")
    return thread, calls


def _later(background: BackgroundThread, due: float) -> bool:
    return background._heartbeats.next > due


def tried(cache: Cache, watch: Watch, seconds: float) -> int:
    background = cache._base._engine.background
    until, reached, released = time.monotonic() + seconds, 0, threading.Event()
    thread, calls = led(cache, released)
    (beat,) = list(background._heartbeats._all)
    for number, point in enumerate(points_of(watch, 1.0)):
        if time.monotonic() > until:
            break
        due = background._heartbeats.next
        reached += hit(background, watch, point, ERRORS[number % 2])
        eventually(partial(_later, background, due), f"it beats again after {point}", BEAT)
        assert not beat.lost, f"the lease was lost after {point}"
        eventually(lambda: background._running.held, f"it runs after {point}")
    released.set()
    thread.join(60)
    assert cache.fetch({"q": 1}, lambda: calls.append(2)).value == "answer"
    assert calls == [1]
    return reached


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def test_an_exception_at_any_line_of_the_background_thread_loses_no_lease(kind, request, tmp_path: Path, watch):
    with heartbeat(BEAT), Cache(place_of(kind, request, tmp_path)) as cache:
        reached = tried(cache, watch, 4 * SECONDS)
    print(f"\n{kind}: {reached} points")
    assert reached > 10


def test_an_exception_that_ends_a_turn_of_the_background_thread_ends_not_the_thread(request, tmp_path: Path, watch):
    with heartbeat(BEAT), Cache(place_of("sqlite", request, tmp_path)) as cache:
        reached = tried(cache, watch, 2.0)
    assert reached
