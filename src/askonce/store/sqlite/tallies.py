"""The tallies in a SQLite file (core.tallies): a row for each counter."""

from __future__ import annotations

import sqlite3

from askonce.core.tallies import COUNT, MOST, OTHER, SENDER_LIFE, TABLES, Push, Tallied, Tally, oldest
from askonce.store import ledger
from askonce.store.sqlite.schema import has_table

_HAS = "SELECT 1 FROM tallies WHERE realm = ? AND kind = ? AND at = ? AND label = ? LIMIT 1"
_LABELS = "SELECT count(DISTINCT label) FROM tallies WHERE realm = ? AND kind = ? AND at = ?"
_COLDEST = (
    "SELECT label FROM tallies WHERE realm = ? AND kind = ? AND at = ? AND name = ? ORDER BY count, label LIMIT 1"
)
_MOVE = "UPDATE tallies SET label = ? WHERE realm = ? AND kind = ? AND at = ? AND label = ?"
_ADD = (
    "INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (realm, kind, at, label, name) DO UPDATE SET count = max(?, min(?, count + excluded.count))"
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
        rows = [(*place, label, name, count, -MOST, MOST) for name, count in tally.counts.items()]
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
    if not has_table(connection, "tallies"):
        return []
    found: dict[tuple[int, bytes], dict[str, int]] = {}
    for at, label, name, count in connection.execute(_READ, (realm, table, first)):
        found.setdefault((at, label), {})[name] = int(count)  # an older version may have left one that is no integer
    return [Tallied(at, label, counts) for (at, label), counts in found.items()]
