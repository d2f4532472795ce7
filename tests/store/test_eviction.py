"""Eviction by memory and SQLite: the same victims, and those that save least (core.eviction)."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core.eviction import stored
from askonce.core.keys import Key
from askonce.core.model import DURATION, PRICE, Lifetime, seal, whole
from askonce.runtime.drive import drive
from askonce.store import Store
from askonce.store.memory.store import MemoryStore
from askonce.store.sqlite import schema
from askonce.store.sqlite.room import _LOWEST, _NEWEST, number_of
from askonce.store.sqlite.store import SQLiteStore
from tests.profiles import examples
from tests.store.keeping import DAY, LIFE, Clock, key, lead, put, visit
from tests.support import opened_file

MIB = 2**20
CENT = 10_000_000  # nano-dollars
SIZE = 10_000  # of an answer: some 90 of them fill a store
_numbers = itertools.count(1)


def hashed(number: int) -> Key:
    return Key(hashlib.sha256(number.to_bytes(8, "big")).digest(), "v")


def paid(store: Store, of: Key, size: int, price: int, life: Lifetime = LIFE) -> str:
    """Fill an answer of a size and a price."""
    grant = lead(store, of, next(_numbers))
    body = bytes(size)
    one = seal("v", of.digest, grant.id, grant.order, grant.snapshot, DAY, {PRICE: whole(price)}, body)
    return drive(store.fill(of, grant.id, grant.order, one, life))


def there(store: Store, of: Key) -> bool:
    return drive(store.entry(of)) is not None


class Both:
    """A memory and a file, to which the same happens."""

    def __init__(self, path: str) -> None:
        self.clock = Clock()
        self.memory = MemoryStore.from_url("memory://", max_bytes=MIB, clock=self.clock)
        self.file = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=self.clock)
        self.keys = {number_of(hashed(number)): number for number in range(40)}
        self.names = {hashed(number).digest + b"v": number for number in range(40)}

    def fill(self, number: int, size: int, price: int) -> None:
        self.clock.forward(40)  # no two places are the same
        for store in (self.memory, self.file):
            if not there(store, hashed(number)):
                assert paid(store, hashed(number), size, price) == "stored"

    def visit(self, number: int, times: int) -> None:
        for store in (self.memory, self.file):
            if there(store, hashed(number)):
                visit(store, hashed(number), times)
            drive(store.tell(10))

    def evict(self) -> tuple[Any, Any]:
        """The victims of both."""
        self.clock.forward(40)
        now = self.clock.us // 1000
        name = self.memory._memory.do(lambda: self.memory._memory.evict_one(now))
        numbers = self.file.write(lambda rows: rows._room.evict_entries(1))
        return (
            None if name is None else self.names[name],
            self.keys[numbers[0]] if numbers else None,
        )


FILLS = st.tuples(st.just("fill"), st.integers(0, 39), st.integers(0, 60_000), st.integers(0, 10 * CENT))
VISITS = st.tuples(st.just("visit"), st.integers(0, 39), st.integers(1, 4))
EVICTIONS = st.tuples(st.just("evict"))


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(FILLS | VISITS | EVICTIONS, min_size=5, max_size=60))
def test_a_memory_and_a_file_choose_the_same_victims_after_the_same_history(history):
    with tempfile.TemporaryDirectory() as folder:
        both = Both(f"{folder}/cache.db")
        # Larger than what is stored, so that nothing is evicted unless the history says so.
        both.memory._memory.max_bytes = both.file._file.max_bytes = 8 * MIB
        for verb, *more in [*history, *[("evict",)] * 40]:
            if verb == "evict":
                ours, theirs = both.evict()
                assert ours == theirs
            else:
                getattr(both, verb)(*more)
        assert both.evict() == (None, None)
        drive(both.file.close())


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 10 * CENT), st.integers(0, 10**6), st.integers(0, 20), st.integers(0, 255))
def test_an_entry_is_worth_the_same_when_it_is_stored_and_when_it_is_reached_whatever_its_header_says(
    price, took, at, byte
):
    one = hashed(1)
    with tempfile.TemporaryDirectory() as folder:
        both = Both(f"{folder}/cache.db")
        memory, file = both.memory, both.file
        for store in (memory, file):
            grant = lead(store, one, 1)
            costs = {PRICE: whole(price), DURATION: whole(took)}
            entry = seal("v", one.digest, grant.id, grant.order, grant.snapshot, DAY, costs, b"body")
            changed = bytearray(entry.extensions)
            changed[at % len(changed)] ^= byte
            entry = entry._replace(extensions=bytes(changed))
            assert drive(store.fill(one, grant.id, grant.order, entry, LIFE)) == "stored"
        reached = {memory._memory._worth(one.digest + b"v"), file.write(lambda rows: rows._room._worth(number_of(one)))}
        (place,) = memory._memory.places._places.values()
        (worth,) = reached
        assert place == stored(0, worth, both.clock.us // 1000, known=False)
        assert file._file.read(lambda rows: rows.execute("SELECT touched FROM entries").fetchall()) == [(place,)]
        drive(file.close())


# What follows holds for either.

Opened = Callable[..., Store]
KINDS = ["memory", "sqlite"]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    stores: list[Store] = []

    def open_one(max_bytes: int, **options: Any) -> Store:
        made: Any = MemoryStore if request.param == "memory" else SQLiteStore
        url = f"memory://{tmp_path.name}" if request.param == "memory" else f"sqlite:///{tmp_path}/cache.db"
        stores.append(made.from_url(url, max_bytes=max_bytes, **options))
        return stores[-1]

    yield open_one
    for store in stores:
        drive(store.close())


def filled(store: Store, clock: Clock, numbers: range, size: int = SIZE, price: int = CENT) -> None:
    for number in numbers:
        clock.forward(40)
        assert paid(store, hashed(number), size, price) == "stored"


def test_a_scan_of_what_nobody_asks_for_again_leaves_what_is_hot(opened: Opened):
    clock = Clock()
    store = opened(MIB, clock=clock)
    hot = range(10_000, 10_020)
    filled(store, clock, hot)
    for number in hot:
        visit(store, hashed(number), 3)
    filled(store, clock, range(400))  # several times what there is room for
    assert [number for number in hot if there(store, hashed(number))] == list(hot)
    assert not there(store, hashed(0))


def test_what_is_dear_and_small_outlives_what_is_cheap_or_large(opened: Opened):
    clock = Clock()
    store = opened(MIB, clock=clock)
    filled(store, clock, range(5), price=100 * CENT)
    filled(store, clock, range(10, 15), size=60_000)
    filled(store, clock, range(20, 25))
    filled(store, clock, range(100, 250))
    assert all(there(store, hashed(number)) for number in range(5))
    assert not any(there(store, hashed(number)) for number in (*range(10, 15), *range(20, 25)))


def test_what_comes_back_soon_after_it_was_evicted_is_known(opened: Opened):
    clock = Clock()
    store = opened(MIB, clock=clock)
    filled(store, clock, range(150))
    gone = [number for number in range(150) if not there(store, hashed(number))][-5:]
    filled(store, clock, range(gone[0], gone[-1] + 1))
    filled(store, clock, range(1_000, 1_200))
    assert all(there(store, hashed(number)) for number in gone)
    assert not there(store, hashed(1_000))


def test_an_answer_that_is_stored_anew_keeps_its_place(opened: Opened):
    clock = Clock()
    store = opened(MIB, clock=clock)
    brief = Lifetime(10, 0, 60_000, DAY)  # fresh for a moment, and servable on error for long
    assert paid(store, hashed(0), SIZE, CENT, brief) == "stored"
    visit(store, hashed(0), 3)
    filled(store, clock, range(100, 250))  # it is reached, and gets a better place
    assert paid(store, hashed(0), SIZE, CENT) == "stored"
    filled(store, clock, range(300, 450))
    assert there(store, hashed(0))


def test_two_prefixes_share_the_room_by_what_their_answers_save(opened: Opened):
    clock = Clock()
    one, two = opened(MIB, clock=clock, prefix="one"), opened(MIB, clock=clock, prefix="two")
    for number in range(300):
        clock.forward(40)
        assert paid((one, two)[number % 2], hashed(number), SIZE, CENT) == "stored"
    kept = [sum(there(store, hashed(n)) for n in range(at, 300, 2)) for at, store in ((0, one), (1, two))]
    assert min(kept) > 0.9 * max(kept) > 0


@settings(max_examples=examples(25), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3_000), st.integers(0, CENT), st.integers(0, 3)), max_size=80)
)
def test_a_memory_never_holds_more_than_its_bytes_and_its_sum_is_right(history):
    clock = Clock()
    store = MemoryStore.from_url("memory://", max_bytes=20_000, clock=clock)
    memory = store._memory
    for number, size, price, visits in history:
        clock.forward(40)
        if not there(store, hashed(number)):
            paid(store, hashed(number), size, price)
        if visits and there(store, hashed(number)):
            visit(store, hashed(number), visits)
        assert not memory._over(0)
        assert memory.size == sum(len(kept.data) + 300 for kept in memory.entries.values())
        assert set(memory.places._places) == set(memory.entries)
        assert set(memory.places._frequencies) <= set(memory.entries)


def test_a_store_full_of_visited_entries_still_takes_an_answer(opened: Opened):
    clock = Clock()
    store = opened(MIB, clock=clock)
    filled(store, clock, range(150))
    left = [number for number in range(150) if there(store, hashed(number))]
    for number in left:
        visit(store, hashed(number), 3)
    drive(store.tell(len(left)))
    filled(store, clock, range(1_000, 1_020))


# SQLite: files of other versions, other processes, trouble


def old_file(path: Path) -> sqlite3.Connection:
    """A file as versions before this one made it."""
    path.touch(0o600)
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA auto_vacuum = INCREMENTAL")
    old.execute("PRAGMA journal_mode = WAL")
    for statement in schema._SCHEMA.split(";"):
        old.execute(statement)
    return old


def tables(path: Path) -> set[str]:
    with opened_file(path) as read:
        return {name for (name,) in read.execute("SELECT name FROM sqlite_master")}


def test_a_file_of_an_older_version_goes_on_and_what_it_holds_is_evicted_first_unless_it_is_used(tmp_path: Path):
    clock, path = Clock(), tmp_path / "cache.db"
    old_file(path).close()
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    filled(store, clock, range(40))
    # As the older version had stored them: with the date in `touched`.
    store.write(lambda rows: rows._execute("UPDATE entries SET touched = ?", (clock.us // 1000,)))
    visit(store, hashed(20))
    filled(store, clock, range(200, 350))
    assert there(store, hashed(20))
    assert not any(there(store, hashed(number)) for number in (*range(20), *range(21, 40)))
    assert {"visits", "ghosts", "entries_gone"} <= tables(path)
    drive(store.close())


def test_an_older_version_goes_on_with_a_newer_file_and_evicts_in_the_same_order(tmp_path: Path):
    clock, path = Clock(), tmp_path / "cache.db"
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    filled(store, clock, range(3))
    filled(store, clock, range(3, 6), price=100 * CENT)
    visit(store, hashed(0))
    drive(store.tell(1))
    with opened_file(path) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (schema.VERSION,) == (1,)
        values = (number_of(hashed(9)), 0, 2**50, clock.us // 1000, 5, b"other")
        old.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)
        rows = [number for (number,) in old.execute("SELECT id FROM entries ORDER BY touched LIMIT 4")]
        assert rows == [number_of(hashed(number)) for number in (9, 0, 1, 2)]
        old.execute("DELETE FROM entries WHERE id = ?", (rows[1],))
        assert old.execute("SELECT count(*) FROM visits").fetchone() == (0,)
    assert not there(store, hashed(0))
    filled(store, clock, range(100, 103))
    drive(store.close())


def test_a_process_tells_its_visits_to_the_others_of_its_file(tmp_path: Path):
    clock, path = Clock(), tmp_path / "cache.db"
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    filled(store, clock, range(30))
    visit(store, hashed(7), 2)
    assert frequencies(path) == {}  # a hit writes nothing
    drive(store.tell(10))
    assert frequencies(path) == {number_of(hashed(7)): 2}
    visit(store, hashed(7), 3)
    drive(store.tell(10))
    before = path.with_name("cache.db-wal").stat().st_size
    visit(store, hashed(7), 3)
    drive(store.tell(10))
    assert frequencies(path) == {number_of(hashed(7)): 3}
    assert path.with_name("cache.db-wal").stat().st_size == before  # what is at its highest is not written again
    drive(store.close())


def frequencies(path: Path) -> dict[int, int]:
    with opened_file(path) as read:
        return dict(read.execute("SELECT id, frequency FROM visits"))


def test_visits_of_what_is_gone_leave_nothing(tmp_path: Path):
    clock, path = Clock(), tmp_path / "cache.db"
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    filled(store, clock, range(3))
    for number in range(3):
        visit(store, hashed(number))
    drive(store.forget(hashed(0)))
    drive(store.tell(10))
    assert set(frequencies(path)) == {number_of(hashed(1)), number_of(hashed(2))}
    drive(store.forget(hashed(1)))
    assert set(frequencies(path)) == {number_of(hashed(2))}
    while drive(store.raze(100)):
        pass
    assert frequencies(path) == {}
    drive(store.close())


def test_ghosts_are_kept_of_as_much_as_there_is_room_for(tmp_path: Path):
    clock, path = Clock(), tmp_path / "cache.db"
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    filled(store, clock, range(400))
    with opened_file(path) as read:
        (count, spread) = read.execute("SELECT count(*), max(at) - min(at) FROM ghosts").fetchone()
        (entries,) = read.execute("SELECT count(*) FROM entries").fetchone()
    assert entries / 2 < count < 2 * entries
    assert spread < MIB
    drive(store.close())


@pytest.mark.parametrize(("sql", "values"), [(_LOWEST, (1,)), (_NEWEST, ())])
def test_victims_are_found_by_an_index_and_without_sorting(tmp_path: Path, sql: str, values: tuple[int, ...]):
    store = SQLiteStore.from_url(f"sqlite:///{tmp_path}/cache.db", max_bytes=MIB)
    put(store, key(1), 1)

    def explain(connection: sqlite3.Connection) -> list[str]:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

    plan = store._file.read(explain)
    assert plan
    assert not any("TEMP B-TREE" in step for step in plan)
    scans = [step for step in plan if step.startswith("SCAN") and "CONSTANT ROW" not in step]
    assert all("INDEX ghosts_at" in step or "COVERING INDEX entries_touched" in step for step in scans)
    drive(store.close())
