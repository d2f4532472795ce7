"""SQLiteStore: one file, shared by all processes of a machine, with the same guarantees as a Redis.

A lookup is one SELECT for the entry and its generation, some 5 us, and writes nothing. It runs inline even in an event
loop, where passing it to a thread would cost more than the read. Every other verb is one write transaction over the
decisions of core.lease. In an async store these run in one thread, so a file that another program has locked blocks no
event loop.

Trouble costs a lookup at most 0.2 s, and leaves the connection usable. Nothing here ever deletes or changes a file that
is not askonce's. See file.py (connections, forks, creation), ledger.py (rows, bounds), link.py (notices).
"""

# ruff: noqa: D102 - the contract documents what a verb does

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from askonce.core import lease as rules
from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Generations
from askonce.core.model import Lifetime, Sealed
from askonce.core.tape import FAILED, Ending
from askonce.core.wording import flag, whole
from askonce.errors import ConfigError
from askonce.runtime.drive import drive
from askonce.store import Clock, Link, Near, StoreTrouble, Works, ledger, machine_clock
from askonce.store.sqlite.contents import Contents
from askonce.store.sqlite.file import GROWING, KEEPING, URGENT
from askonce.store.sqlite.files import file_at
from askonce.store.sqlite.ledger import Rows
from askonce.store.sqlite.link import SQLiteLink
from askonce.store.sqlite.looks import Looks
from askonce.store.sqlite.room import number_of, untold
from askonce.store.sqlite.writes import Write

T = TypeVar("T")

MAX_BYTES = 2**30
LEAST = 2**20
SWEEP = 5_000  # ms between two sweeps

_ANYTHING = "SELECT EXISTS (SELECT 1 FROM leases WHERE name = ?) OR EXISTS (SELECT 1 FROM entries WHERE id = ?)"
_ENTRY = "SELECT body FROM entries WHERE id = ?"
_TAPE = "SELECT at, log FROM tapes WHERE name = ? AND ends > ? AND (at = 0 OR at + length(log) > ?) ORDER BY at"


def path_of(url: str) -> str:
    """The absolute path that ``sqlite:///relative``, ``sqlite:////absolute`` or ``sqlite://~/in/my/home`` names."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{whole(url)}: pass options beside the URL (max_bytes=...); write %3F for ? and %23 for # in a name"
        )
    if parts.netloc == "~":
        path = "~" + path
    elif parts.netloc:
        raise ConfigError(f"{whole(url)} names a host: write sqlite:///file.db, or sqlite:////absolute/file.db")
    else:
        path = path[1:]
    if not path or path.endswith("/") or "\0" in path:
        raise ConfigError(f"{whole(url)} names no file: write sqlite:///file.db, or sqlite:////absolute/file.db")
    if path == ":memory:":
        raise ConfigError(f"{whole(url)}: write memory:// for a cache that leaves no file")
    try:
        return str(Path(path).expanduser().resolve())
    except (RuntimeError, OSError) as error:  # there is no home, or links form a circle
        raise ConfigError(f"{whole(url)}: {error}; write an absolute path, sqlite:////folder/file.db") from error


class SQLiteStore(Looks, Contents):
    """A prefix's view of a file."""

    kind = "sqlite"
    near: Near | None = None

    def __init__(
        self, path: str, prefix: str, *, asynchronous: bool, max_bytes: int, clock: Clock, private: bool = True
    ) -> None:
        self.address = "sqlite:///" + path
        self.prefix = prefix
        self._realm = ledger.realm(prefix)
        self._asynchronous = asynchronous
        self._clock = clock
        self._file = file_at(path)
        self._file.enter(self, max_bytes, private=private)
        self.visits = self._file.visits
        self._closed = False
        self._known = Generations()  # of the last look: they rarely change, and comparing costs less than making them

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "",
        asynchronous: bool = False,
        max_bytes: object = MAX_BYTES,
        clock: Clock | None = None,
        private: bool = True,
        **unknown: object,
    ) -> Self:
        """The store of a URL; nothing is opened yet. `max_bytes` bounds the file; `clock` returns microseconds.

        Not `private`: the file's contents are no secret, so it may belong to any user and be open to all.
        """
        if unknown:
            raise ConfigError(ledger.unknown_options("sqlite", unknown, ("max_bytes", "private", "clock")))
        room = ledger.bytes_option(max_bytes, LEAST)
        ledger.check_clock(clock)
        clock, private = clock or machine_clock, flag("private", private)
        return cls(path_of(url), prefix, asynchronous=asynchronous, max_bytes=room, clock=clock, private=private)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.address}>"

    # reading

    async def entry(self, key: Key) -> bytes | None:
        row = await self._row(_ENTRY, (number_of(key),))
        return row[0] if row else None

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        values = (ledger.tape_name(key, flight, order), self._clock() // 1000, start)
        rows = await self._read(lambda connection: connection.execute(_TAPE, values).fetchall())
        return b"".join(log[max(0, start - at) :] for at, log in rows) if rows else None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if not self._asynchronous:
            return work()
        return await self._file.worker.do(work)

    # writing

    async def _write(self, verb: Callable[[Rows], T], share: float = GROWING) -> T:
        write = self._verb(verb, time.monotonic(), share)
        if not self._asynchronous:
            return write()
        result: T = await self._file.worker.do_joint(write)
        return result

    def write(self, verb: Callable[[Rows], T]) -> T:
        """Run a verb in its own transaction, in this thread."""
        return self._verb(verb, time.monotonic(), KEEPING)()

    def _verb(self, verb: Callable[[Rows], T], asked: float, share: float) -> Write[T]:
        file = self._file

        def work(connection: sqlite3.Connection) -> T:
            rows = self._rows(connection)
            if not 0 <= rows.now - file.swept < SWEEP:
                file.swept = rows.now
                rows.sweep()
            return verb(rows)

        return Write(file, work, asked, share)

    def _rows(self, connection: sqlite3.Connection) -> Rows:
        return Rows(connection, self._realm, self._clock(), self._file.max_bytes, self._file.visits)

    async def claim(self, key: Key, ask: Ask) -> Claim:
        # Of many claims that come at once, one leads, and one says that a caller waits. The others only read, so they
        # need not queue for the only lock.
        said = self._foreseen(key, ask)
        if said is not None:
            return said
        return await self._write(lambda rows: ledger.claim(rows, key, ask))

    def _foreseen(self, key: Key, ask: Ask) -> Claim | None:
        """The claim, if one read at one moment decides it without waiting; None if it must write."""
        file = self._file
        pooled = file.at_hand()  # a claim that follows a flight of a file that is gone would wait for nobody
        if pooled is None:
            return None
        said = None
        try:
            # Most claims find nothing, and must write: one read says so, where a transaction takes five.
            if pooled.execute(_ANYTHING, (key.name, number_of(key))).fetchone()[0]:
                pooled.connection.execute("BEGIN")
                said = ledger.foreseen(self._rows(pooled.connection), key, ask)
                pooled.connection.execute("COMMIT")
        except sqlite3.Error:
            pooled.close()  # the write that follows meets the same trouble, and reports it
            return None
        except BaseException:
            pooled.close()
            raise
        file.give(pooled)
        return said

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        try:
            return await self._write(lambda rows: ledger.fill(rows, key, flight, order, sealed, life))
        except StoreTrouble as trouble:
            if trouble.kind == "store-full":
                await self._give_up(key, flight, order)
            raise

    async def _give_up(self, key: Key, flight: bytes, order: int) -> None:
        """There is no room for the answer; there may be room to tell the waiters."""
        try:
            await self.release(key, flight, order, Ending(FAILED, "store-full"))
        except StoreTrouble:
            return  # they claim again when the lease's deadline passes

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        release = partial(ledger.release, failed=failed, hint=hint)
        await self._write(lambda rows: release(rows, key, flight, order, ending), KEEPING)

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        return await self._write(lambda rows: rows.append(key, flight, order, offset, data))

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        return await self._write(lambda rows: ledger.extend(rows, key, flight, order, hot_ttl, cap))

    async def count(self, key: Key, hits: int, window: int) -> int:
        return await self._write(lambda rows: rows.count(key, hits, window))

    async def tell(self, count: int) -> None:
        visits = self.visits.take(count)
        if visits and self._file.writable:
            # Most are of entries in steady use, whose frequency is the highest: they need no transaction.
            news = await self._read(lambda connection: untold(connection, visits))
            if news:
                await self._write(lambda rows: rows.visited(news))

    async def forget(self, key: Key) -> None:
        await self._write(lambda rows: rows.forget(key), URGENT)
        await self._in_thread(self._file.settled)

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        def verb(rows: Rows) -> None:
            before = rows.generations()._replace(moved={})
            rows.put_moved(rules.invalidate(before, fields, everything), fields)
            rows.compact()

        await self._write(verb, URGENT)
        await self._in_thread(self._file.settled)

    # the rest

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        if reads:  # each takes a few us, and none has to wait for a writer
            return [await ledger.met(work(self)) for work in works]
        return await self._write(lambda rows: [drive(ledger.met(work(_InTransaction(self, rows)))) for work in works])

    def primary(self, key: Key) -> str:
        del key
        return ""

    def primaries(self) -> Sequence[str]:
        return ("",)

    def connected(self, key: Key) -> bool:
        del key
        return bool(self._file.idle)

    def reconnect(self, primary: str) -> None:
        """Do nothing: a connection to the file has all there is."""

    def link(self) -> Link:
        return SQLiteLink(self._file, self.write, self._clock)

    def blocking(self) -> SQLiteStore:
        file = self._file
        return SQLiteStore(
            file.path,
            self.prefix,
            asynchronous=False,
            max_bytes=file.max_bytes,
            clock=self._clock,
            private=file.private,
        )

    def after_fork(self) -> None:
        """Do nothing: File closes its connections before a fork, and starts over in the child."""

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._file.leave(self)


class _InTransaction(SQLiteStore):
    """The store inside an open transaction: its verbs write there and nowhere else."""

    def __init__(self, store: SQLiteStore, rows: Rows) -> None:
        self.__dict__.update(store.__dict__)
        self._asynchronous = False
        self._open = rows

    async def _write(self, verb: Callable[[Rows], T], share: float = GROWING) -> T:
        del share  # it was given when the transaction began
        return verb(self._open)

    def _foreseen(self, key: Key, ask: Ask) -> Claim | None:
        del key, ask
        return None  # earlier writes of this transaction are visible only inside it
