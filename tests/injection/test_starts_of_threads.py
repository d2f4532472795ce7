"""An exception while a thread is started, in Python's own code too: threads can be started as before, and end in
order.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import askonce
from askonce.flight import pricing
from askonce.flight.background import BackgroundThread
from askonce.runtime import exits
from askonce.runtime.exits import start_thread
from askonce.runtime.threads import Threads
from askonce.store.memory.store import MemoryStore
from askonce.store.redis import cluster_address, connecting, pool, watch
from askonce.store.redis.address import from_url
from askonce.store.redis.sentinel import ServiceEpoch
from askonce.store.redis.topology import Topology
from askonce.store.sqlite.worker import WorkerThread
from tests.crowd import eventually
from tests.injection.inject import INJECTS, noting, raising

NAME = "askonce-test"

pytestmark = [pytest.mark.concurrency, *INJECTS]


@pytest.fixture
def complaints(monkeypatch):
    """What threads ended by."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def in_order(what):
    """Threads start, and none is half there."""
    ran = threading.Event()
    assert start_thread(NAME, ran.set) is not None
    assert ran.wait(60), f"after {what} no thread starts"
    eventually(lambda: NAME not in {one.name for one in threading.enumerate()}, f"after {what} all ended", 5)


@pytest.mark.parametrize("within", [threading.__file__, exits.__file__], ids=["python", "ours"])
def test_an_exception_at_any_line_of_a_start_leaves_the_next_ones_as_they_are(within, complaints):
    with noting(1, within) as points:
        start_thread(NAME, int)
    assert points
    for point in points:
        with raising(point, KeyboardInterrupt, within) as injection:
            try:
                start_thread(NAME, int)
            except KeyboardInterrupt:
                injection.done = True
        in_order(point)
    assert not complaints


class Interrupted:
    """In place of `start_thread`: the first call is interrupted, and later ones are noted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> threading.Thread:
        self.calls += 1
        if self.calls == 1:
            raise KeyboardInterrupt
        return threading.Thread()


def a_connection():
    made = pool.Pool(from_url("redis://127.0.0.1:1", {}))
    made._waiting.append(pool._Waiter(0.0))
    return made._connect_more


def a_refresh():
    mode = Threads()

    async def refresh():
        """Nothing."""

    return lambda: mode.run_in_background([], refresh)


# By module: what makes the function that begins its thread.
BEGINNERS = {
    "flight.background": lambda: BackgroundThread(MemoryStore.from_url("memory://starts")).start,
    "flight.pricing": lambda: pricing._Loading().begin,
    "runtime.threads": a_refresh,
    "store.redis.pool": a_connection,
    "store.redis.topology": lambda: Topology(cluster_address.from_url("redis+cluster://a:1", {}), [1]).refresh,
    "store.redis.watch": lambda: watch._Watch(ServiceEpoch(), connecting.open_connection)._start,
    "store.sqlite.worker": lambda: WorkerThread()._start,
}


@pytest.mark.parametrize("module", BEGINNERS)
def test_a_thread_whose_start_was_interrupted_is_started_by_the_next_who_needs_it(module, monkeypatch):
    starts = Interrupted()
    monkeypatch.setattr(f"askonce.{module}.start_thread", starts)
    begin = BEGINNERS[module]()
    with pytest.raises(KeyboardInterrupt):
        begin()
    begin()
    assert starts.calls == 2, "a mark that a thread is about to begin was left"


def test_all_who_start_threads_are_tried_so():
    source = Path(askonce.__file__).parent
    found = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in source.rglob("*.py")
        if "start_thread(" in path.read_text("utf-8")
    }
    assert found == {*BEGINNERS, "runtime.exits"}
