"""What is told of a lease that a renewal does not find: it was lost, unless its flight gave it back meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from askonce import Cache
from askonce.flight.heartbeat import Heartbeat
from askonce.store.memory.store import MemoryLink
from tests.crowd import ASKED, PATIENCE, after, eventually, heartbeat

pytestmark = pytest.mark.concurrency


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a heartbeat was told that its lease is lost."""
    told = threading.Event()
    lose = Heartbeat.lose

    def loses(self: Heartbeat) -> None:
        lose(self)
        told.set()

    monkeypatch.setattr(Heartbeat, "lose", loses)
    return told


@pytest.mark.parametrize("at", ["before its caller knows", "after its flight"])
def test_a_renewal_that_comes_after_the_answer_is_stored_tells_of_no_lost_lease(at, lost, monkeypatch):
    renews, stored = threading.Event(), threading.Event()
    renew = MemoryLink.renew

    def late(self: Any, held: Any, life: int) -> list[str]:
        renews.set()
        stored.wait(PATIENCE)
        found: list[str] = renew(self, held, life)
        return found

    monkeypatch.setattr(MemoryLink, "renew", late)

    def call() -> int:
        assert renews.wait(PATIENCE)
        return 1

    with heartbeat(0.6), Cache("memory://") as cache:
        if at == "before its caller knows":
            after(cache, "fill", lambda _: (stored.set(), lost.wait(PATIENCE)))
        assert cache.fetch(ASKED, call).status.stored
        stored.set()
        assert lost.wait(PATIENCE)
        assert "lost" not in cache.stats()


def test_a_lease_that_is_lost_while_its_call_runs_is_told(lost, monkeypatch):
    monkeypatch.setattr(MemoryLink, "renew", lambda _, held, __: ["lost"] * len(held))
    with heartbeat(0.6), Cache("memory://") as cache:
        cache.fetch(ASKED, lambda: lost.wait(PATIENCE))
        eventually(lambda: cache.stats().get("lost") == 1, "it is told")
