"""The notes in a SQLite file (core.notes): one ring for all prefixes, of rows that are numbered by all bytes so far."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from askonce.core.notes import LIFE, RING, RING_BYTES, Note, Noted
from askonce.store import ledger
from askonce.store.sqlite.schema import has_table

SHARE = 32  # part of the file that notes may take: a thirty-second
RINGS = 16  # of core.notes, at most: a file is shared by all the tenants of a machine
OVERHEAD = 100  # bytes of a row and its places in the indexes
SWEPT = 256  # rows that one transaction deletes

_NEWEST = "SELECT id, total FROM notes ORDER BY id DESC LIMIT 1"
_ADD = "INSERT INTO notes (at, realm, owner, name, data, total) VALUES (?, ?, ?, ?, ?, ?)"
_OLD = "DELETE FROM notes WHERE id IN (SELECT id FROM notes ORDER BY id LIMIT ?) AND (total <= ? OR id <= ? OR at <= ?)"
_COLUMNS = "SELECT at, owner, name, data FROM notes WHERE realm = ?"


def add(connection: sqlite3.Connection, notes: Sequence[Note], now: int, max_bytes: int) -> None:
    """Store.note, in an open transaction; `now` in ms."""
    newest, total = connection.execute(_NEWEST).fetchone() or (0, 0)
    rows = []
    for prefix, owner, name, data in notes:
        total += len(data) + OVERHEAD
        rows.append((now, ledger.realm(prefix), owner, name, data, total))
    connection.executemany(_ADD, rows)
    room, many = min(RINGS * RING_BYTES, max_bytes // SHARE), newest + len(rows) - RINGS * RING
    connection.execute(_OLD, (SWEPT + len(rows), total - room, many, now - LIFE))


def read(connection: sqlite3.Connection, realm: int, owner: bytes, name: bytes, count: int) -> list[Noted]:
    """Store.notes; none in a file of an older version that could only be read."""
    if not has_table(connection, "notes"):
        return []
    sql = _COLUMNS
    values: list[object] = [realm]
    for column, wanted in (("owner", owner), ("name", name)):
        if wanted:
            sql += f" AND {column} >= ? AND {column} < ?"
            values += [wanted, wanted + b"\xff" * 40]
    rows = connection.execute(f"{sql} ORDER BY id DESC LIMIT ?", (*values, count))
    return [Noted(*row) for row in rows]
