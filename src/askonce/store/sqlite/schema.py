"""What askonce's files hold, how they are told from other files, and how an empty file becomes one.

The number of an entry's row is its digest folded into 64 bits: one descent finds it, and its pages need no second tree.
A reader checks the whole digest, so two questions with one number cost a call and are not an error. Leases are filed
under their whole name, because a wrong lease could share a wrong answer.

What evicts (core.eviction) came later. It is made of what an older version may ignore: `touched` has an entry's place
and not a date, so that an older version evicts in the same order; visits and ghosts have tables of their own, which are
added to an older file when it is opened for writing. What an older version deletes loses its visits by a trigger.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time

from askonce.store import CONNECT_TIMEOUT, TIMEOUT, StoreTrouble
from askonce.store.sqlite.trouble import foreign, patiently

APPLICATION = 0x61736B31  # "ask1"
VERSION = 1

_SCHEMA = f"""
CREATE TABLE entries (
  id INTEGER PRIMARY KEY, realm INTEGER NOT NULL, ends INTEGER NOT NULL, touched INTEGER NOT NULL,
  size INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX entries_ends ON entries (ends, size);
-- with the realm, so that what a prefix has is found without a look at the entries themselves
CREATE INDEX entries_touched ON entries (touched, size, realm);
CREATE TABLE leases (
  name BLOB PRIMARY KEY, realm INTEGER NOT NULL, flight BLOB NOT NULL, rank INTEGER NOT NULL,
  deadline INTEGER NOT NULL, epoch BLOB NOT NULL, clock INTEGER NOT NULL, fields BLOB NOT NULL,
  expire INTEGER NOT NULL, want INTEGER NOT NULL, idle INTEGER NOT NULL, fails INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE generations (
  realm INTEGER PRIMARY KEY, epoch BLOB NOT NULL, clock INTEGER NOT NULL, floor INTEGER NOT NULL
);
CREATE TABLE moved (
  realm INTEGER NOT NULL, field INTEGER NOT NULL, clock INTEGER NOT NULL, PRIMARY KEY (realm, field)
) WITHOUT ROWID;
CREATE TABLE hits (
  id INTEGER PRIMARY KEY, realm INTEGER NOT NULL, half INTEGER NOT NULL, running INTEGER NOT NULL,
  before INTEGER NOT NULL, ends INTEGER NOT NULL
);
CREATE INDEX hits_ends ON hits (ends);
-- a log in pieces, each at its offset, so that appending does not write again what is there
CREATE TABLE tapes (
  id INTEGER PRIMARY KEY, name BLOB NOT NULL, at INTEGER NOT NULL, realm INTEGER NOT NULL, ends INTEGER NOT NULL,
  log BLOB NOT NULL, UNIQUE (name, at)
);
CREATE TABLE news (
  -- AUTOINCREMENT, for a listener remembers the last number it read: none may come twice
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, name BLOB NOT NULL, word BLOB NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""
_ADDED = (
    "CREATE TABLE IF NOT EXISTS visits (id INTEGER PRIMARY KEY, frequency INTEGER NOT NULL)",
    # entries that were evicted, numbered by all bytes evicted so far; the newest one has the highest place of them
    "CREATE TABLE IF NOT EXISTS ghosts (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, place INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ghosts_at ON ghosts (at)",
    # counters by bucket and label (core.tallies), and the last push of each sender
    """CREATE TABLE IF NOT EXISTS tallies (
      realm INTEGER NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL, label BLOB NOT NULL, name TEXT NOT NULL,
      count INTEGER NOT NULL, PRIMARY KEY (realm, kind, at, label, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS pushes (
      sender BLOB PRIMARY KEY, number INTEGER NOT NULL, at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    # what explains a miss (core.notes); total: all bytes noted so far
    """CREATE TABLE IF NOT EXISTS notes (
      id INTEGER PRIMARY KEY, at INTEGER NOT NULL, realm INTEGER NOT NULL, owner BLOB NOT NULL, name BLOB NOT NULL,
      data BLOB NOT NULL, total INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS notes_owner ON notes (realm, owner, id)",
    "CREATE INDEX IF NOT EXISTS notes_name ON notes (realm, name)",
    "CREATE TRIGGER IF NOT EXISTS entries_gone AFTER DELETE ON entries BEGIN DELETE FROM visits WHERE id = OLD.id; END",
)


_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",  # after a crash of the machine, a cache may lack the last seconds, no more
    "PRAGMA cache_size = -1024",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA journal_size_limit = 0",  # a log that starts over is cut, so its size says how much is in it
    "PRAGMA trusted_schema = OFF",
    # No mmap_size: it would save 0.7 us of 4, and truncating the file would kill this process.
)


def settle(connection: sqlite3.Connection, path: str, *, fresh: bool, writing: bool) -> None:
    """Make a new connection ready; StoreTrouble if the file is another program's. `fresh`: it was empty just now."""
    began = time.monotonic()
    if patiently(lambda: is_new(connection, path), began + (CONNECT_TIMEOUT if fresh else TIMEOUT)):
        patiently(lambda: found(connection, path), began + CONNECT_TIMEOUT)
    if writing and patiently(lambda: _is_older(connection), began + TIMEOUT):
        patiently(lambda: _update(connection), began + CONNECT_TIMEOUT)
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def is_new(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file is empty; StoreTrouble if it is another program's."""
    if connection.in_transaction:
        return _is_new(connection, path)
    # One read of everything: between two reads another process may turn an empty file into a cache.
    connection.execute("BEGIN")
    try:
        return _is_new(connection, path)
    finally:
        roll_back(connection)


def _is_new(connection: sqlite3.Connection, path: str) -> bool:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise foreign(path, "this is another program's database")
        return True
    if version != VERSION:
        raise foreign(
            path, f"another version of askonce made this file (its schema is {version}, this version needs {VERSION})"
        )
    return False


def found(connection: sqlite3.Connection, path: str) -> None:
    """Turn an empty file into a cache, unless another process has done so meanwhile."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only before the first page is written
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreTrouble(
            "store-error", f"{path}: no write-ahead log is possible here; use a local disk and not a network drive"
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        if is_new(connection, path):
            for statement in (*_SCHEMA.split(";"), *_ADDED):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the file has a table: one of an older version that could only be read lacks some."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None


def _is_older(connection: sqlite3.Connection) -> bool:
    """Whether the file was made by a version that knows no visits, tallies or notes."""
    sql = "SELECT count(*) FROM sqlite_master WHERE name IN ('entries_gone', 'pushes', 'notes_name')"
    (found,) = connection.execute(sql).fetchone()
    return bool(found < 3)


def _update(connection: sqlite3.Connection) -> None:
    """Add what an older file lacks."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _ADDED:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End a failed transaction, if SQLite has not done so already."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
