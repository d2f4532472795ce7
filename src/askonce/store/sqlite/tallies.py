"""The tallies in a SQLite file (core.tallies): a row for each counter."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from askonce.core.tallies import COUNT, OTHER, SENDER_LIFE, TABLES, Push, Tallied, Tally, oldest
from askonce.store import Clock, StoreTrouble, ledger
from askonce.store.sqlite.file import KEEPING, File

_HAS = "SELECT 1 FROM tallies WHERE realm = ? AND kind = ? AND at = ? AND label = ? LIMIT 1"
_LABELS = "SELECT count(DISTINCT label) FROM tallies WHERE realm = ? AND kind = ? AND at = ?"
_COLDEST = (
    "SELECT label FROM tallies WHERE realm = ? AND kind = ? AND at = ? AND name = ? ORDER BY count, label LIMIT 1"
)
_MOVE = "UPDATE tallies SET label = ? WHERE realm = ? AND kind = ? AND at = ? AND label = ?"
_ADD = (
    "INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (realm, kind, at, label, name) DO UPDATE SET count = count + excluded.count"
)
_READ = "SELECT at, label, name, count FROM tallies WHERE realm = ? AND kind = ? AND at >= ? ORDER BY at, label"

Place = tuple[int, str, int]  # realm, table, bucket


def add(connection: sqlite3.Connection, push: Push, now: int) -> None:
    """Store.tally, in an open transaction; `now` in ms."""
    execute = connection.execute
    last = execute("SELECT number FROM pushes WHERE sender = ?", (push.sender,)).fetchone()
    if last is not None and last[0] >= push.number:
        return
    execute("INSERT OR REPLACE INTO pushes VALUES (?, ?, ?)", (push.sender, push.number, now))
    realm = ledger.realm(push.prefix)
    for tally in push.tallies:
        place = realm, tally.table, now // TABLES[tally.table].span
        label = _settled(connection, place, tally, now)
        rows = [(*place, label, name, count) for name, count in tally.counts.items()]
        connection.executemany(_ADD, rows)


def _settled(connection: sqlite3.Connection, place: Place, tally: Tally, now: int) -> bytes:
    """The label under which a tally is counted: OTHER if there is no room for its own."""
    label, table = tally.label, TABLES[tally.table]
    if connection.execute(_HAS, (*place, label)).fetchone():
        return label
    (labels,) = connection.execute(_LABELS, place).fetchone()
    if not labels:
        _expire(connection, place, now)
    if labels < table.most:
        return label
    if not table.replaces:
        return OTHER
    (coldest,) = connection.execute(_COLDEST, (*place, COUNT)).fetchone()
    connection.execute(_MOVE, (label, *place, coldest))
    return label


def _expire(connection: sqlite3.Connection, place: Place, now: int) -> None:
    realm, table, _ = place
    sql = "DELETE FROM tallies WHERE realm = ? AND kind = ? AND at < ?"
    connection.execute(sql, (realm, table, oldest(table, now)))
    connection.execute("DELETE FROM pushes WHERE at <= ?", (now - SENDER_LIFE,))


def read(connection: sqlite3.Connection, realm: int, table: str, first: int) -> list[Tallied]:
    """The tallies of a table from a bucket on; none in a file of an older version that could only be read."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tallies'").fetchone():
        return []
    found: dict[tuple[int, bytes], dict[str, int]] = {}
    for at, label, name, count in connection.execute(_READ, (realm, table, first)):
        found.setdefault((at, label), {})[name] = count
    return [Tallied(at, label, counts) for (at, label), counts in found.items()]


class TallyVerbs:
    """The part of a SQLiteStore that concerns tallies."""

    _file: File
    _realm: int
    _clock: Clock

    async def _write(self, verb: Callable[[Any], Any], share: float) -> Any:
        raise NotImplementedError

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        raise NotImplementedError

    async def tally(self, push: Push) -> None:
        """Add what a process gathered; a push that came before counts once."""
        if not self._file.writable:
            raise StoreTrouble("store-readonly", f"{self._file.path} cannot be written")
        await self._write(lambda rows: rows.tally(push), KEEPING)

    async def tallied(self, table: str, back: int) -> tuple[int, list[Tallied]]:
        """The time, ms, and the tallies of a table in the last `back` buckets."""
        now = self._clock() // 1000
        first = max(now // TABLES[table].span - back + 1, oldest(table, now))
        found = await self._in_thread(
            lambda: self._file.read(lambda connection: read(connection, self._realm, table, first))
        )
        return now, found
