"""Places of a walk: one store each, with a clock moved by hand, and losses on demand.

Memory and SQLite take a clock. A server has its own, so there time passes the other way round: everything stored grows
older by the time that should have passed, entries and leases alike. Real time goes on meanwhile, but a walk's times are
seconds away from every border (see `walk`). Evictions happen without the store's knowledge, like a server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import time
from collections.abc import Coroutine, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from askonce.cache.stores import open_store
from askonce.core.keys import Key
from askonce.core.model import DATES_AT, HEAD_SIZE, Dates, pack_dates, read_head
from askonce.store import Link, Store, StoreTrouble, ledger
from askonce.store.memory.store import MemoryStore
from askonce.store.redis.store import RedisStore
from askonce.store.sqlite.room import number_of
from askonce.testing.servers import Server
from askonce.testing.trial import Clock, drive

T = TypeVar("T")
PATIENT = 10.0  # s: on a busy machine a fifth of a second is over soon
_numbers = itertools.count()


class Place:
    """A store for many walks, one after another, each under a prefix and with keys of its own."""

    def __init__(self, *, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.clock = Clock()
        self.passed = 0  # ms by which the walk is ahead of the store, if the store's clock cannot be moved
        self._loop = asyncio.new_event_loop() if asynchronous else None
        self._store: Store | None = None
        self._link: Link | None = None
        self.prefix = ""
        self.keys: list[Key] = []

    @property
    def store(self) -> Any:
        assert self._store is not None
        return self._store

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    def open(self) -> Store:
        raise NotImplementedError

    def begin(self, keys: int) -> None:
        """A new walk."""
        self.end()
        self.prefix = f"walk{next(_numbers)}"
        self.keys = [Key(sha256(f"{self.prefix}.{nth}".encode()).digest()) for nth in range(keys)]
        self._store = self.open()
        self._link = self._store.link()

    def end(self) -> None:
        """The walk is over."""
        if self._link is not None:
            self._link.close()
        if self._store is not None:
            self.do(self._store.close())
        self._link = self._store = None

    def close(self) -> None:
        """No more walks."""
        self.end()
        if self._loop is not None:
            self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a verb to its end in this place's mode."""
        return self._loop.run_until_complete(work) if self._loop is not None else drive(work)

    def now(self) -> int:
        """The time that the store goes by, ms."""
        return self.clock.now_us // 1000

    def tick(self, ms: int) -> None:
        """Let time pass, or step back."""
        self.clock.tick(ms)

    def evict_entry(self, key: Key) -> None:
        raise NotImplementedError

    def evict_lease(self, key: Key) -> None:
        raise NotImplementedError

    def evict_generations(self) -> None:
        """Those of every key of the walk."""
        raise NotImplementedError


class MemoryPlace(Place):
    """A memory."""

    def open(self) -> Store:
        return open_store(f"memory://{self.prefix}", prefix=self.prefix, clock=self.clock)

    @property
    def _memory(self) -> Any:
        store: MemoryStore = self.store
        return store._memory

    def evict_entry(self, key: Key) -> None:
        self._memory.drop(self._memory.entries, key.name)

    def evict_lease(self, key: Key) -> None:
        self._memory.leases.pop(key.name, None)

    def evict_generations(self) -> None:
        self._memory.realms.clear()


class SQLitePlace(Place):
    """A file; nobody evicts leases or generations from one, but a file restored from a backup looks like that."""

    def __init__(self, file: Path, *, asynchronous: bool = False) -> None:
        super().__init__(asynchronous=asynchronous)
        self.file = file

    def open(self) -> Store:
        url = f"sqlite:///{self.file}"
        return open_store(url, prefix=self.prefix, asynchronous=self.asynchronous, clock=self.clock)

    def _delete(self, *commands: tuple[str, Sequence[object]]) -> None:
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            for sql, values in commands:
                connection.execute("DELETE FROM " + sql, values)

    def evict_entry(self, key: Key) -> None:
        self._delete(("entries WHERE id = ?", (number_of(key),)))

    def evict_lease(self, key: Key) -> None:
        self._delete(("leases WHERE name = ?", (key.name,)))

    def evict_generations(self) -> None:
        realm = (ledger.realm(self.prefix),)
        self._delete(("generations WHERE realm = ?", realm), ("moved WHERE realm = ?", realm))


class ServerPlace(Place):
    """A Valkey or a Redis."""

    def __init__(self, server: Server, *, asynchronous: bool = False) -> None:
        super().__init__(asynchronous=asynchronous)
        import redis

        self.server = server
        self.client = redis.Redis.from_url(server.url)

    def open(self) -> Store:
        url, mode = self.server.url, self.asynchronous
        store = open_store(url, prefix=self.prefix, asynchronous=mode, socket_timeout=PATIENT)
        self._connect(store)
        return store

    def _connect(self, store: Store) -> None:
        """A walk begins with a connection: it is given one second, which on a busy machine is over soon, too."""
        until = time.monotonic() + PATIENT
        while True:
            try:
                self.do(store.entry(Key(bytes(32))))
            except StoreTrouble:
                if time.monotonic() > until:
                    raise
            else:
                return

    def close(self) -> None:
        super().close()
        self.client.close()

    def _names(self, key: Key) -> tuple[bytes, bytes, bytes]:
        store: RedisStore = self.store
        return store.names.of(key)

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.passed

    def tick(self, ms: int) -> None:
        self.passed += ms
        for key in self.keys:
            entry, lease, _ = self._names(key)
            data: Any = self.client.get(entry)
            if data is not None:
                self.client.set(entry, older(data, ms), keepttl=True)
            if self.client.exists(lease):
                for name in ("dl", "x"):
                    self.client.hincrby(lease, name, -ms)

    def evict_entry(self, key: Key) -> None:
        self.client.delete(self._names(key)[0])

    def evict_lease(self, key: Key) -> None:
        self.client.delete(self._names(key)[1])

    def evict_generations(self) -> None:
        self.client.delete(*{self._names(key)[2] for key in self.keys})


def older(data: bytes, ms: int) -> bytes:
    """The entry, as it will be when so much time has passed."""
    head = read_head(data)
    dates = Dates(*(date - ms for date in (head.created, head.fresh, head.stale, head.error)))
    return data[:DATES_AT] + pack_dates(dates) + data[HEAD_SIZE:]


@contextlib.contextmanager
def closing(place: Place) -> Iterator[Place]:
    """The place, closed at last."""
    try:
        yield place
    finally:
        place.close()
