"""What the callers of one process tell each other while they wait for another process's flight."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from askonce.core.keys import Key
from askonce.core.model import HEAD_SIZE, Dates, Snapshot, read_entry, seal
from askonce.core.tape import ENDED, STORED, Notice
from askonce.flight import background
from askonce.flight.background import BackgroundThread
from askonce.flight.waiters import Waiter, WaitList
from askonce.runtime.threads import ThreadSignal
from askonce.store.memory.store import MemoryStore

KEY = Key(b"d" * 32, "v")


def entry(flight: bytes, order: int):
    sealed = seal("v", KEY.digest, flight, order, Snapshot(b"e" * 8, 1), 1000, {}, b'"answer"')
    data = sealed.dated(Dates(1, 2, 3, 4))
    assert len(data) > HEAD_SIZE
    return data, read_entry(data, KEY.digest, KEY.form)


def test_an_entry_that_one_caller_read_is_told_to_those_who_follow_that_very_flight_and_to_nobody_else():
    wait_list = WaitList(KEY, lambda _: None)
    reader, same, successor, nobodys = (Waiter(wait_list, ThreadSignal()) for _ in range(4))
    reader.follows = same.follows = (b"a" * 16, 7)
    successor.follows = (b"a" * 16, 8)
    assert reader.brought is None
    reader.share(*entry(b"a" * 16, 7))
    assert reader.brought == same.brought == entry(b"a" * 16, 7)
    assert successor.brought is None, "the same id under a later order is another flight"
    assert nobodys.brought is None
    successor.share(*entry(b"a" * 16, 8))
    assert successor.brought == entry(b"a" * 16, 8)
    assert same.brought is None, "what is kept is the latest; who is late reads for himself"


class Link:
    """A link on which one poll brings what was put there."""

    trouble = None

    def __init__(self, *notices: Notice) -> None:
        self.notices = [(KEY, notice) for notice in notices]

    def subscribe(self, key: Key) -> None: ...

    def wake(self) -> None: ...

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        del timeout
        found, self.notices = self.notices, []
        return found, []


@pytest.mark.parametrize("waiting", [1, 5])
def test_the_thread_that_woke_others_lets_them_run_before_it_goes_on(monkeypatch: pytest.MonkeyPatch, waiting: int):
    done: list[Any] = []
    monkeypatch.setattr(BackgroundThread, "start", lambda *_, **__: None)  # its turns are made here
    thread = BackgroundThread(MemoryStore.from_url("memory://turns"))
    signals = [SimpleNamespace(wake=lambda: done.append("woken")) for _ in range(waiting)]
    for signal in signals:
        thread.listen(KEY, signal, None).follows = (b"a" * 16, 7)
    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=time.monotonic, sleep=done.append))
    thread._link = Link(Notice(ENDED, b"a" * 16, 7, outcome=STORED))  # type: ignore[assignment]
    thread._turn()
    assert done == ["woken"] * waiting + [0]
    thread._turn()
    assert done == ["woken"] * waiting + [0], "with nobody to wake it goes on at once"
