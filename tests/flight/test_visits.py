"""Visits: noted where entries are served, told in batches, and never in anybody's way."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from askonce import AsyncCache, Cache
from askonce.core.hot_keys import KEPT, HotKeys, Visits
from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.policy import Policy, resolve
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.store.sqlite.store import SQLiteStore
from tests.store.keeping import key, put, visit
from tests.support import opened_file

TERMS = resolve(Policy())
HEAD = Head(b"ao", 1, 0, 120, bytes(32), bytes(16), 1, bytes(8), 0, 0, 0, 0, 0, 0, 0, 0)


def frequencies(path: Path) -> list[int]:
    with opened_file(path) as read:
        return [frequency for (frequency,) in read.execute("SELECT frequency FROM visits ORDER BY frequency")]


def heat_of(visits: Visits, told: list[str]) -> HotKeys:
    return HotKeys(visits, lambda: told.append("tell"))


def test_up_to_three_visits_of_a_key_are_noted_and_the_first_of_all_asks_to_be_told():
    visits, told = Visits(), list[str]()
    heat = heat_of(visits, told)
    for number, times in ((1, 1), (2, 10), (3, 2)):
        for _ in range(times):
            heat.hit(key(number), HEAD, TERMS, 0)
    assert told == ["tell"]
    assert visits.take(2) == [(key(1), 1), (key(2), 3)]
    assert visits.take(2) == [(key(3), 2)]
    heat.hit(key(2), HEAD, TERMS, 0)
    assert told == ["tell", "tell"]
    assert visits.take(9) == [(key(2), 1)]


def test_a_store_that_does_not_evict_by_itself_is_told_nothing():
    heat = HotKeys(None, lambda: pytest.fail("nothing to tell"))
    for _ in range(5):
        heat.hit(key(1), HEAD, TERMS, 0)


def test_notes_are_bounded():
    visits = Visits()
    heat = HotKeys(visits)
    for number in range(KEPT + 100):
        heat.hit(key(number), HEAD, TERMS, 0)
    assert len(visits) == KEPT


def test_threads_that_note_and_one_that_takes_lose_no_key_for_long():
    visits, taken = Visits(), set[Key]()
    heats = [HotKeys(visits) for _ in range(3)]
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            taken.update(one for one, _ in visits.take(7))

    def note(heat: HotKeys, start: int) -> None:
        for number in range(start, start + 2_000):
            heat.hit(key(number), HEAD, TERMS, 0)

    taker = threading.Thread(target=take)
    noters = [threading.Thread(target=note, args=(heat, 2_000 * at)) for at, heat in enumerate(heats)]
    for thread in (taker, *noters):
        thread.start()
    for thread in noters:
        thread.join()
    over.set()
    taker.join()
    taken.update(one for one, _ in visits.take(KEPT))
    assert taken == {key(number) for number in range(6_000)}
    assert visits.note(key(1), heats[0]._keys[key(1)])  # the next one asks to be told


def test_a_cache_that_is_closed_has_told_what_it_served(tmp_path: Path):
    path = tmp_path / "cache.db"
    with Cache(f"sqlite:///{path}") as cache:
        for _ in range(3):
            cache.fetch({"a": 1}, lambda: "one")
        cache.fetch({"a": 2}, lambda: "two")
    assert frequencies(path) == [2]
    with Cache(f"sqlite:///{path}") as cache:
        cache.fetch({"a": 2}, lambda: "two")
    assert frequencies(path) == [1, 2]


ASKS = """
import sys
from askonce import Cache
with Cache(sys.argv[1]) as cache:
    for number in map(int, sys.argv[2:]):
        cache.fetch({"a": number}, lambda: "filled")
"""


@pytest.mark.waits
def test_processes_of_one_file_add_up_their_visits(tmp_path: Path):
    path = tmp_path / "cache.db"
    with Cache(f"sqlite:///{path}") as cache:
        for number in range(3):
            cache.fetch({"a": number}, lambda: "filled")
    asked = (["0", "1"], ["0"])
    started = [subprocess.Popen([sys.executable, "-c", ASKS, f"sqlite:///{path}", *numbers]) for numbers in asked]
    assert [one.wait(60) for one in started] == [0, 0]
    assert frequencies(path) == [1, 2]


async def test_an_async_cache_tells_too(tmp_path: Path):
    path = tmp_path / "cache.db"
    async with AsyncCache(f"sqlite:///{path}") as cache:

        async def call() -> str:
            return "one"

        for _ in range(3):
            await cache.fetch({"a": 1}, call)
    assert frequencies(path) == [2]


def test_a_process_that_cannot_write_the_file_tells_nothing(tmp_path: Path):
    path = tmp_path / "cache.db"
    with Cache(f"sqlite:///{path}") as cache:
        cache.fetch({"a": 1}, lambda: "one")
    with Cache(f"sqlite:///{path}") as cache:
        assert cache.fetch({"a": 1}, lambda: "one").status.hit
        store: Any = cache._base._engine.store
        store._file._fixed = True
        store.visits.note(key(1), cache._base._engine._reader._hot_keys._keys.popitem()[1])
    assert frequencies(path) == []


def test_a_store_that_refuses_to_be_told_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "cache.db"
    with Cache(f"sqlite:///{path}") as cache:
        cache.fetch({"a": 1}, lambda: "one")
        background: Any = cache._base._engine.background

        async def tell(count: int) -> None:
            background._store.visits.take(count)
            raise StoreTrouble("store-full")

        monkeypatch.setattr(background._store, "tell", tell)
        assert cache.fetch({"a": 1}, lambda: "one").status.hit
        background.hits._telling._next = 0.0
        background.hits.send(background._store)
        assert background.state != "store-full"
        assert cache.fetch({"a": 1}, lambda: "one").status.hit


def test_what_was_interrupted_while_it_evicted_is_whole_afterwards(tmp_path: Path):
    path = tmp_path / "cache.db"
    store = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=2**20)
    for number in range(1, 30):
        put(store, key(number), number, bytes(10_000))
    visit(store, key(1))

    class Killed(BaseException):
        pass

    def killed(rows) -> None:
        rows.visited(store.visits.take(9))
        rows._room.evict_entries(50_000)
        raise Killed

    with pytest.raises(Killed):
        store.write(killed)
    with opened_file(path) as read:
        (count,) = read.execute("SELECT count(*) FROM entries").fetchone()
        assert (count, read.execute("SELECT count(*) FROM ghosts").fetchone()) == (29, (0,))
        assert read.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    put(store, key(50), 50, bytes(10_000))
    drive(store.close())
