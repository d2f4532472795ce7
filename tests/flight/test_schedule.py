"""What is gathered for the background thread wakes it once, however often it is dropped and gathered anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import Cache, Policy
from askonce.flight import hit_counts, note_queue, schedule
from askonce.flight.background import BackgroundThread
from askonce.flight.schedule import Schedule
from askonce.testing.servers import Server

EVERY = 10
ANSWER: Callable[[], Any] = dict
STEPS = st.lists(st.one_of(st.just("gather"), st.just("drop"), st.integers(1, 25)), max_size=60)


class Thread:
    """A background thread that looks when its schedule says so, under a clock that is moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.gathered, self.woken, self.sleeps = 100, list[int](), 0, 0.0
        monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.schedule = Schedule(self.wake)
        self.turn()

    def wake(self) -> None:
        self.woken += 1
        self.turn()

    def turn(self) -> None:
        if self.schedule.due(gathered=bool(self.gathered)) <= 0:
            assert all(self.now - since <= EVERY for since in self.gathered)
            self.gathered = []
        self.sleeps = self.now + self.schedule.due(gathered=bool(self.gathered))
        assert self.sleeps > self.now

    def gather(self) -> None:
        first = not self.gathered
        self.gathered.append(self.now)
        if first:
            self.schedule.begin(EVERY)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            if self.now >= self.sleeps:
                self.turn()


@given(steps=STEPS)
def test_nothing_waits_longer_than_said_and_the_thread_is_woken_at_most_once_in_that_time(steps: list[Any]):
    with pytest.MonkeyPatch.context() as monkeypatch:
        thread = Thread(monkeypatch)
        for step in steps:
            if step == "gather":
                thread.gather()
            elif step == "drop":
                thread.gathered = []
            else:
                thread.wait(step)
            assert thread.woken <= 1 + (thread.now - 100) // EVERY
        thread.wait(EVERY)
        assert thread.gathered == []


# --- lookups while a store takes no writes ------------------------------------------------------------------------


@contextmanager
def full(server: Server) -> Iterator[None]:
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each wake-up of a background thread; what is gathered for it may wait for an hour."""
    found: list[str] = []
    real = BackgroundThread.wake

    def counted(thread: BackgroundThread) -> None:
        found.append("")
        real(thread)

    monkeypatch.setattr(BackgroundThread, "wake", counted)
    monkeypatch.setattr(note_queue, "PUSH", 3600.0)
    monkeypatch.setattr(hit_counts, "PUSH", 3600.0)
    return found


def few(cache: Cache, ask: Callable[[int], object], wakes: list[str]) -> None:
    """Lookups in a row, of which only the first meet the trouble, wake the thread for none of their own."""
    for number in range(10):
        cache.fetch({"before": number}, ANSWER)
    wakes.clear()
    for number in range(100):
        ask(number)
    assert len(wakes) < 10


HOT = Policy(hot_threshold=2, hot_ttl=3600.0, ttl=3600.0)


@pytest.mark.servers
@pytest.mark.parametrize("hits", [False, True], ids=["misses", "hits"])
def test_a_server_that_is_full_makes_no_lookup_wake_the_background_thread(valkey: Server, wakes, hits: bool):
    with Cache(valkey.url, policy=HOT) as cache:
        cache.fetch({"known": 1}, ANSWER)
        with full(valkey):
            few(cache, lambda number: cache.fetch({"known": 1} if hits else {"new": number}, ANSWER), wakes)


@pytest.mark.parametrize("hits", [False, True], ids=["misses", "hits"])
def test_a_file_that_is_locked_makes_no_lookup_wake_the_background_thread(tmp_path: Path, wakes, hits: bool):
    with Cache(f"sqlite:///{tmp_path}/a.db", policy=HOT) as cache:
        cache.fetch({"known": 1}, ANSWER)
        with locked(tmp_path / "a.db"):
            few(cache, lambda number: cache.fetch({"known": 1} if hits else {"new": number}, ANSWER), wakes)
