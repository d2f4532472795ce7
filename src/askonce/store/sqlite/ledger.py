"""Rows: the Ledger of a SQLite file during one write transaction.

Expired data (news, tapes, leases, counters, entries) is swept by the next writer after some seconds.
"""

# ruff: noqa: D102 - store/ledger.py documents what a ledger does

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from askonce.core.hot_keys import Visits
from askonce.core.keys import Key
from askonce.core.lease import FIELDS, Generations, Lease, Slot, compacted
from askonce.core.model import (
    DATES_AT,
    FORMS,
    HEAD_SIZE,
    Dates,
    Head,
    Sealed,
    Snapshot,
    pack_dates,
    pack_fields,
    unpack_fields,
)
from askonce.core.notes import Note
from askonce.core.tallies import Push
from askonce.core.tape import Notice
from askonce.store import LOG_LIFE, STEP_BYTES, TAPE_LIFE, Record, Running, StoreTrouble, ledger
from askonce.store.sqlite import tallies
from askonce.store.sqlite.notes import add as add_notes
from askonce.store.sqlite.room import LARGEST, SWEPT, Room, number_of

_NAME = struct.Struct(">q")  # of a Record
_FENCE = slice(40, 64)  # fill id and order in an entry (core.model)
_RUNNING = "SELECT * FROM leases WHERE realm = ? AND NOT idle AND deadline > ? AND expire > ? ORDER BY expire LIMIT ?"
# Of a large body SQLite reads all pages, also for a substr of it; a blob reads those that are asked for.
_SCAN = "SELECT id, realm = ?, CASE WHEN size < 16384 THEN body END, size FROM entries WHERE id > ? ORDER BY id LIMIT ?"
_SIZES = {"entries": ("id", "size"), "leases": ("name", "0"), "tapes": ("id", "length(log)")}  # their keys, and bytes
_SMALL = "SELECT CASE WHEN size < 16384 THEN body END FROM entries WHERE id = ?"


def scan(connection: sqlite3.Connection, realm: int, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
    """Read `count` entries from `cursor` on, less those of other prefixes."""
    after = _NAME.unpack(cursor)[0] if cursor else -(2**63)
    seen, met = [], 0
    for number, ours, body, size in connection.execute(_SCAN, (realm, after, count)):
        met, after = met + 1, number
        if ours:
            length = int.from_bytes((body or _beginning(connection, number, 8))[4:8], "big")
            header = _beginning(connection, number, length) if body is None else body[:length]
            seen.append(Record(_NAME.pack(number), header, size))
    return (_NAME.pack(after) if met == count else b""), seen


def _beginning(connection: sqlite3.Connection, number: int, length: int) -> bytes:
    with connection.blobopen("entries", "body", number, readonly=True) as blob:
        return blob.read(length)


def running(connection: sqlite3.Connection, realm: int, now: int, count: int) -> list[Running]:
    """The flights under way of a prefix: core.lease.flying decides, and the statement asks for no more than that."""
    rows = connection.execute(_RUNNING, (realm, now, now, count)).fetchall()
    return [ledger.running(ledger.key_of(row[0]), _lease_of(row)) for row in rows]


def _lease_of(row: tuple[Any, ...]) -> Lease:
    _name, _realm, flight, rank, deadline, epoch, clock, fields, expire, want, idle, fails = row
    snapshot = Snapshot(epoch, clock)
    return Lease(flight, rank, deadline, snapshot, unpack_fields(fields), expire, bool(want), bool(idle), fails)


class _Moved(Mapping[int, int]):
    """The fields that moved, read one by one when a decision needs them: most are never needed."""

    def __init__(self, connection: sqlite3.Connection, realm: int) -> None:
        self._execute = connection.execute
        self._realm = realm

    def __getitem__(self, field: int) -> int:
        sql = "SELECT clock FROM moved WHERE realm = ? AND field = ?"
        row = self._execute(sql, (self._realm, field)).fetchone()
        if row is None:
            raise KeyError(field)
        clock: int = row[0]
        return clock

    def __iter__(self) -> Iterator[int]:
        return (row[0] for row in self._execute("SELECT field FROM moved WHERE realm = ?", (self._realm,)).fetchall())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Rows:
    """What a write transaction reads and writes, by the store's clock."""

    def __init__(self, connection: sqlite3.Connection, realm: int, now_us: int, max_bytes: int, visits: Visits) -> None:
        self.now_us = now_us
        self.now = now_us // 1000
        self._execute = connection.execute
        self._connection = connection
        self._realm = realm
        self._max_bytes = max_bytes
        self._room = Room(connection, self.now, max_bytes, visits)

    # the ledger's methods

    def adopt(self, key: Key) -> None:
        row = self._execute("SELECT realm FROM entries WHERE id = ?", (number_of(key),)).fetchone()
        self._realm = row[0] if row else self._realm

    def slot(self, key: Key) -> Slot:
        head, fields = self._head(key)
        lease = self._lease(key)
        return Slot(head, fields, lease, self.generations())

    def _head(self, key: Key) -> tuple[Head | None, tuple[int, ...]]:
        row = self._execute("SELECT body FROM entries WHERE id = ?", (number_of(key),)).fetchone()
        return ledger.header(row[0] if row else None, key)

    def _lease(self, key: Key) -> Lease | None:
        row = self._execute("SELECT * FROM leases WHERE name = ?", (key.name,)).fetchone()
        if row is None:
            return None
        # A link renews for every prefix of the process: the lease knows whose generations it was granted under.
        self._realm = row[1]
        return _lease_of(row)

    def generations(self) -> Generations:
        sql = "SELECT epoch, clock, floor FROM generations WHERE realm = ?"
        row = self._execute(sql, (self._realm,)).fetchone()
        epoch, clock, floor = row or (b"", 0, 0)
        return Generations(epoch, clock, floor, _Moved(self._connection, self._realm))

    def put_lease(self, key: Key, lease: Lease | None) -> None:
        name = key.name
        if lease is None:
            self._execute("DELETE FROM leases WHERE name = ?", (name,))
            return
        sql = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        flight, rank, deadline, snapshot, fields, expire, want, idle, fails = lease
        packed = pack_fields(fields)
        values = (name, self._realm, flight, rank, deadline, *snapshot, packed, expire, want, idle, fails)
        self._execute(sql, values)

    def put_generations(self, generations: Generations) -> None:
        sql = "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?)"
        self._execute(sql, (self._realm, *generations[:3]))

    def put_moved(self, generations: Generations, fields: Sequence[int]) -> None:
        self.put_generations(generations)
        rows = [(self._realm, field, generations.clock) for field in fields]
        self._connection.executemany("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", rows)
        # A field that moved before the floor no longer matters.
        self._execute("DELETE FROM moved WHERE realm = ? AND clock <= ?", (self._realm, generations.floor))

    def compact(self) -> None:
        """Keep the table of fields that moved within its bound."""
        (count,) = self._execute("SELECT count(*) FROM moved WHERE realm = ?", (self._realm,)).fetchone()
        if count > FIELDS:
            generations = self.generations()
            rows = self._execute("SELECT field, clock FROM moved WHERE realm = ?", (self._realm,)).fetchall()
            self.put_moved(compacted(generations._replace(moved=dict(rows))), ())

    def put_entry(self, key: Key, sealed: Sealed, dates: Dates) -> bool:
        if sealed.size > self._max_bytes // LARGEST or not self._room.make(sealed.size):
            return False
        data, number = sealed.dated(dates), number_of(key)
        place = self._room.place(number, ledger.worth_of(data, len(data)))
        values = (number, self._realm, max(dates[1:]), place, len(data), data)
        self._execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)
        return True

    def put_dates(self, key: Key, dates: Dates) -> None:
        number = number_of(key)
        (data,) = self._execute("SELECT body FROM entries WHERE id = ?", (number,)).fetchone()
        moved = data[:DATES_AT] + pack_dates(dates) + data[HEAD_SIZE:]
        self._execute("UPDATE entries SET ends = ?, body = ? WHERE id = ?", (max(dates[1:]), moved, number))

    def put_tape(self, key: Key, flight: bytes, order: int, log: bytes) -> None:
        name = ledger.tape_name(key, flight, order)
        if self._logged(name) is None and len(log) <= self._max_bytes // LARGEST and self._room.make(len(log)):
            self._put_piece(name, 0, self.now + TAPE_LIFE, log)

    def _put_piece(self, name: bytes, at: int, ends: int, log: bytes) -> None:
        sql = "INSERT OR REPLACE INTO tapes (name, at, realm, ends, log) VALUES (?, ?, ?, ?, ?)"
        self._execute(sql, (name, at, self._realm, ends, log))

    def _logged(self, name: bytes) -> tuple[int, int] | None:
        """The length of a log, and when it expires (ms)."""
        sql = "SELECT at + length(log), ends FROM tapes WHERE name = ? AND ends > ? ORDER BY at DESC LIMIT 1"
        found: tuple[int, int] | None = self._execute(sql, (name, self.now)).fetchone()
        return found

    def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        if not self._room.make(len(data)):
            raise StoreTrouble("store-full", f"a log does not fit into {self._max_bytes} bytes")
        name = ledger.tape_name(key, flight, order)
        length, ends = self._logged(name) or (0, self.now + LOG_LIFE)
        if new := ledger.unsaid(length, offset, data):
            self._put_piece(name, length, ends, new)
            self.say(key, ledger.said(flight, order, length))  # the readers of the notice read the piece itself
        return length + len(new)

    def say(self, key: Key, notice: Notice) -> None:
        values = (self.now, key.name, notice.packed())
        self._execute("INSERT INTO news (at, name, word) VALUES (?, ?, ?)", values)

    def tally(self, push: Push) -> None:
        """Store.tally."""
        tallies.add(self._connection, push, self.now)

    def note(self, notes: Sequence[Note]) -> None:
        """Store.note, if there is room."""
        if self._room.make(sum(len(one.data) for one in notes)):
            add_notes(self._connection, notes, self.now, self._max_bytes)

    def visited(self, visits: Sequence[tuple[Key, int]]) -> None:
        """Add visits to their entries."""
        self._room.visited(visits)

    # verbs without a decision

    def forget(self, key: Key) -> None:
        for form in FORMS:
            one = Key(key.digest, form)  # type: ignore[arg-type]
            self._execute("DELETE FROM entries WHERE id = ?", (number_of(one),))
            self._execute("DELETE FROM leases WHERE name = ?", (one.name,))

    def count(self, key: Key, hits: int, window: int) -> int:
        self.adopt(key)
        number = number_of(key)
        sql = "SELECT half, running, before FROM hits WHERE id = ? AND ends > ?"
        row = self._execute(sql, (number, self.now)).fetchone()
        if row is None and not self._room.make(0):
            return hits  # there is no room for a counter, and an entry is worth more
        half, running, before = ledger.counted(row, hits, window, self.now)
        values = (number, self._realm, half, running, before, self.now + window)
        self._execute("INSERT OR REPLACE INTO hits VALUES (?, ?, ?, ?, ?, ?)", values)
        return running + before

    # for commands

    def discard(self, seen: Sequence[Record]) -> int:
        gone = 0
        for name, header, _ in seen:
            (number,) = _NAME.unpack(name)
            row = self._execute(_SMALL, (number,)).fetchone()
            if row and (row[0] or _beginning(self._connection, number, _FENCE.stop))[_FENCE] == header[_FENCE]:
                gone += self._execute("DELETE FROM entries WHERE id = ?", (number,)).rowcount
        return gone

    def raze(self, count: int) -> int:
        for table in ("entries", "leases", "hits", "tapes"):
            gone = self._delete(table, "realm = ?", self._realm, count)
            if gone:
                return gone
        self._room.forget()
        self._execute("DELETE FROM tallies WHERE realm = ?", (self._realm,))
        self._execute("DELETE FROM notes WHERE realm = ?", (self._realm,))
        gone = self._execute("DELETE FROM moved WHERE realm = ?", (self._realm,)).rowcount
        return gone + self._execute("DELETE FROM generations WHERE realm = ?", (self._realm,)).rowcount

    def _delete(self, table: str, which: str, value: int, count: int) -> int:
        """Delete up to `count` rows, and a few megabytes: the time that this takes, all other writers wait."""
        key, size = _SIZES.get(table, ("id", "0"))
        sql = f"SELECT {key}, {size} FROM {table} WHERE {which} LIMIT ?"  # noqa: S608
        some, left = [], STEP_BYTES
        for name, octets in self._execute(sql, (value, count)).fetchall():
            if left > 0:
                some.append((name,))
            left -= octets
        self._connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", some)  # noqa: S608
        return len(some)

    def sweep(self) -> None:
        """Delete some expired data, and give back pages beyond the bounds."""
        for table in ("entries", "hits", "tapes"):
            self._delete(table, "ends <= ?", self.now, SWEPT)
        self._execute("DELETE FROM leases WHERE expire <= ?", (self.now,))
        self._execute("DELETE FROM news WHERE at <= ?", (self.now - TAPE_LIFE,))
        # One page a statement: the rows that it yields have no columns, so Python takes the first for the end.
        for _ in range(min(SWEPT, self._room.surplus())):
            self._execute("PRAGMA incremental_vacuum(1)")
