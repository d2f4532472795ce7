"""What the callers of one process tell each other while they wait for another process's flight."""

from __future__ import annotations

from askonce.core.keys import Key
from askonce.core.model import HEAD_SIZE, Dates, Snapshot, read_entry, seal
from askonce.flight.waiters import Waiter, WaitList
from askonce.runtime.threads import ThreadSignal

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
