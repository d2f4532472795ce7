"""Notes in stores with little room: they take their share and no more, and an older file gets the table for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from askonce.cache.stores import open_store
from askonce.core.notes import LARGEST, RING_BYTES, Note
from askonce.runtime.drive import drive
from askonce.store import Store
from tests.support import opened_file

SMALL = 2**20


def note(at: int, data: bytes = bytes(1000)) -> Note:
    return Note("", b"o" * 16, at.to_bytes(33, "big"), data)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    return open_store(url, prefix="", asynchronous=False, max_bytes=SMALL)


def test_notes_take_a_small_share_of_a_small_store_and_the_newest_stay(store: Store) -> None:
    for first in range(0, 400, 40):
        drive(store.note([note(at) for at in range(first, first + 40)]))
    found = drive(store.notes(b""))
    assert 16 <= len(found) <= 32
    assert [int.from_bytes(one.name, "big") for one in found] == list(range(399, 399 - len(found), -1))
    drive(store.close())


def test_a_note_that_is_larger_than_its_share_is_no_trouble(tmp_path: Path) -> None:
    tiny = open_store("memory://", prefix="", asynchronous=False, max_bytes=4096)
    drive(tiny.note([note(1, bytes(LARGEST))]))
    assert drive(tiny.notes(b"")) == []


def test_a_file_of_an_older_version_gets_the_table_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = open_store(f"sqlite:///{path}", prefix="", asynchronous=False)
    drive(store.note([note(1)]))
    drive(store.close())
    with opened_file(path) as connection:
        connection.execute("DROP TABLE notes")
    connection.close()
    again = open_store(f"sqlite:///{path}", prefix="", asynchronous=False)
    assert drive(again.notes(b"")) == []
    drive(again.note([note(2)]))
    assert len(drive(again.notes(b""))) == 1
    drive(again.close())


def test_the_ring_of_a_memory_has_a_bound_however_large_the_memory_is() -> None:
    large = open_store("memory://", prefix="", asynchronous=False)
    many = [note(at, bytes(LARGEST)) for at in range(2 * RING_BYTES // LARGEST)]
    drive(large.note(many))
    assert sum(len(one.data) for one in drive(large.notes(b""))) <= RING_BYTES
