"""What a connection keeps near: returned again without a read, and never after anybody has written."""

import sqlite3

import pytest

from askonce import Cache
from askonce.core.keys import Key
from askonce.core.lease import Generations
from askonce.core.model import Dates, Snapshot, read_head, seal
from askonce.store.sqlite.near import ROOM, SEEN, Kept, Near
from askonce.testing import ScriptedCall

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Are you near?"}]}


@pytest.fixture
def path(tmp_path):
    return f"{tmp_path}/near.db"


@pytest.fixture
def cache(path):
    with Cache(f"sqlite:///{path}") as cache:
        yield cache


def ask(cache, call, **own):
    return cache.fetch(REQUEST, call.on(REQUEST), **own)


def reads(cache, look):
    """The SELECTs of entries that a lookup makes."""
    file = cache._base._engine.store._file
    (pooled,) = file.idle
    seen: list[str] = []
    pooled.connection.set_trace_callback(lambda sql: seen.append(sql) if "entries" in sql else None)
    look()
    pooled.connection.set_trace_callback(None)
    return len(seen)


def test_what_was_read_twice_is_not_read_a_third_time(cache):
    call = ScriptedCall()
    ask(cache, call)
    assert [reads(cache, lambda: ask(cache, call)) for _ in range(4)] == [1, 1, 0, 0]
    assert call.calls == 1


def test_any_write_of_another_connection_ends_it(cache, path):
    call = ScriptedCall()
    for _ in range(4):
        ask(cache, call)
    with Cache(f"sqlite:///{path}") as other:
        other.fetch({"another": "question"}, lambda: {"an": "answer"})
    assert reads(cache, lambda: ask(cache, call)) == 1


@pytest.mark.parametrize("aim", [{"everything": True}, {"model": "m"}, {"tag": "t"}, {"request": REQUEST}])
def test_a_lookup_after_an_invalidation_never_gets_what_is_near(cache, path, aim):
    call = ScriptedCall()
    for own in (False, True):
        value = [ask(cache, call, tags=["t"]).value for _ in range(4)][-1]
        if own:
            cache.invalidate(**aim)
        else:
            with Cache(f"sqlite:///{path}") as other:
                other.invalidate(**aim)
        assert ask(cache, call, tags=["t"]).value != value


def key(number: int) -> Key:
    return Key(number.to_bytes(32, "big"))


def kept(size: int) -> Kept:
    sealed = seal("v", bytes(32), bytes(16), 1, Snapshot(b"epoch001", 1), 1000, {}, b"")
    return Kept(read_head(sealed.dated(Dates(1, 2, 3, 4))), bytes(size), Generations())


def test_near_is_bounded_in_entries_seen_and_in_bytes_kept():
    connection = sqlite3.connect(":memory:")
    near = Near(connection.execute)
    for number in range(10):
        near.keep(key(number), kept(ROOM // 3))
        assert sum(len(one.entry) for one in near._kept.values()) <= ROOM
    near.keep(key(10), kept(ROOM + 1))
    assert key(10) not in near._kept
    for number in range(2 * SEEN):
        near.wants(key(number))
    assert len(near._seen) <= SEEN
    connection.close()
