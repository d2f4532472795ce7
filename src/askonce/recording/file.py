"""The file of a recording: one SQLite file, complete without a log beside it, so that it can be committed.

A row is one answer: the key of the request (the digest of what is left without secrets), the form, its number among
equal requests of one test, the request as JSON, the answer's bytes, and a checksum of both. A replay opens the file
only to read and creates nothing, so a checkout may be read-only. Files are opened for each look-up and closed again:
tests fork, several pytest processes share a file, and a look-up takes a fraction of a millisecond.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from askonce.core.codec import NO_CODEC, NO_KEY, PLAIN, UNENCRYPTED, Codec
from askonce.core.keys import Key
from askonce.core.model import Corrupt
from askonce.store import StoreTrouble

APPLICATION = 0x61736B72  # "askr"
VERSION = 1
PATIENCE = 30.0  # s that a recording process waits for others, which hold the file for milliseconds
ANY_SIZE = 2**30  # bytes of an answer, as of the policy of a recording
READING = 5.0  # s that a reading process waits

_SCHEMA = """
CREATE TABLE answers (
  key TEXT NOT NULL, form TEXT NOT NULL, nth INTEGER NOT NULL, asked TEXT NOT NULL, answer BLOB NOT NULL,
  checksum INTEGER NOT NULL, PRIMARY KEY (key, form, nth)
) WITHOUT ROWID
"""
_FOUND = (_SCHEMA, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}")
_ANSWER = "SELECT asked, answer, checksum FROM answers WHERE key = ? AND form = ? AND nth = ?"
_UNOPENED = {
    NO_KEY: "it is encrypted with a key that is not here: write askonce_encryption = true in the ini file, and set "
    "$ASKONCE_KEYS to the ring with which it was recorded",
    NO_CODEC: "it is compressed, and the library or its dictionary is missing: pip install 'askonce[zstd]'",
    UNENCRYPTED: "it is not encrypted: remove askonce_encryption from the ini file, or delete it and record again",
}
_DAMAGED = "an answer cannot be opened with the keys that are here: restore the file from version control"
_KEEP = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)"


class Place(NamedTuple):
    """Where an answer is: 64 digits of the key, the form, and how many equal requests of this test came before."""

    key: str
    form: str
    nth: int = 0

    @property
    def as_key(self) -> Key:
        """The key for which an answer here is compressed and encrypted."""
        return Key(bytes.fromhex(self.key), self.form)  # type: ignore[arg-type]  # a Form

    @property
    def turn(self) -> bytes:
        """What tells it apart from other answers to the same question, as the id of a flight does in a store."""
        return self.nth.to_bytes(16, "big")


class RecordingFile:
    """One file of recorded answers. Every method raises StoreTrouble; its text says what is wrong and what to do."""

    def __init__(self, path: Path, *, writes: bool = False, codec: Codec = PLAIN) -> None:
        self.path = path
        self._codec = codec
        self._writes = writes

    def answer(self, place: Place) -> bytes | None:
        """The answer recorded at a place."""
        with self._reading() as file:
            row = file.execute(_ANSWER, place).fetchone() if file else None
        if row is None:
            return None
        asked, answer, checksum = row
        if checksum != _checksum(asked, answer):
            raise self._trouble("store-corrupt", f"the answer under {place.key[:16]} is damaged: restore the file from "
                                "version control, or delete it and record again")  # fmt: skip
        with self._as_trouble():
            return self._codec.open_body(place.as_key, place.turn, bytes(answer), ANY_SIZE)

    def count(self, place: Place) -> int:
        """How many answers to this question are recorded."""
        with self._reading() as file:
            sql = "SELECT count(*) FROM answers WHERE key = ? AND form = ?"
            return file.execute(sql, place[:2]).fetchone()[0] if file else 0

    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        """Every recorded request, with its form."""
        with self._reading() as file:
            rows = file.execute("SELECT key, form, nth, asked FROM answers").fetchall() if file else []
        with self._as_trouble():
            texts = {(form, self._asked(Place(key, form, nth), asked)): None for key, form, nth, asked in rows}
        return [(form, json.loads(asked)) for form, asked in texts]  # exact for large numbers

    def _asked(self, place: Place, asked: str | bytes) -> str:
        # Text in a file that is not encrypted.
        return asked if isinstance(asked, str) else self._codec.open_text(place.as_key, place.turn, asked).decode()

    def _said(self, place: Place, asked: bytes) -> str | bytes:
        text = asked.decode("utf-8", "replace")  # a file cannot hold half a letter
        return self._codec.close_text(place.as_key, place.turn, text.encode()) if self._codec.encrypts else text

    def writable(self) -> None:
        """Check that answers can be recorded, before a call is paid for; StoreTrouble if not."""
        with self._writing() as file:
            file.execute(f"PRAGMA user_version = {VERSION}")  # really a write: BEGIN alone succeeds in a read-only file
            file.execute("ROLLBACK")

    def keep(self, place: Place, asked: bytes, answer: bytes) -> None:
        """Record an answer, unless there is one already."""
        with self._writing() as file:
            text = self._said(place, asked)
            body = self._codec.close_body(place.as_key, place.turn, answer)
            file.execute(_KEEP, (*place, text, body, _checksum(text, body)))
            file.execute("COMMIT")

    # opening

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """The file for reading; None if there is none yet."""
        with self._as_trouble():
            if not self.path.exists() or self.path.stat().st_size == 0:
                yield None
                return
            with closing(self._to_read()) as file:
                yield file if self._is_ours(file) else None

    def _to_read(self) -> sqlite3.Connection:
        until, mode = time.monotonic() + READING, "mode=ro"
        while True:
            file = self._opened(mode, READING)
            try:
                # One transaction for all reads, so that the checks made here hold to its end.
                file.execute("BEGIN")
                file.execute("PRAGMA application_id").fetchone()
            except sqlite3.Error as error:
                file.close()
                if self._became_wal(error):
                    return self._opened("mode=ro&immutable=1", READING)
                # SQLite takes the journal of a commit that ends just now for one that was left behind.
                if _extended(error) != sqlite3.SQLITE_READONLY_ROLLBACK or time.monotonic() >= until:
                    raise
                time.sleep(0.005)
                mode = "mode=rw" if self._writes else mode  # plays back a journal that was left
            else:
                return file

    def _became_wal(self, error: sqlite3.Error) -> bool:
        """Whether it became, by some tool, an empty file with a write-ahead log, which cannot be opened here."""
        code = _extended(error)
        cannot = code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        return cannot and code != sqlite3.SQLITE_READONLY_ROLLBACK and not Path(f"{self.path}-wal").exists()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The file in a writing transaction; it is created if necessary."""
        with self._as_trouble(), closing(self._opened("mode=rwc", PATIENCE)) as file:
            if file.execute("PRAGMA journal_mode").fetchone() == ("wal",):  # a tool's: all must be in the file
                file.execute("PRAGMA journal_mode = DELETE")
            file.execute("BEGIN IMMEDIATE")
            if not self._is_ours(file):
                for statement in _FOUND:
                    file.execute(statement)
            yield file

    def _opened(self, mode: str, patience: float) -> sqlite3.Connection:
        uri = f"file:{quote(os.fsencode(self.path.absolute()))}?{mode}"
        return sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)

    def _is_ours(self, file: sqlite3.Connection) -> bool:
        """Whether it is a recording; False for an empty file, StoreTrouble for any other."""
        (application,) = file.execute("PRAGMA application_id").fetchone()
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION and version == VERSION:
            return True
        if application == APPLICATION:
            raise self._trouble("store-foreign", f"it has format {version}, and this askonce reads {VERSION}: "
                                "use the askonce that recorded it, or delete it and record again")  # fmt: skip
        (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise self._trouble("store-foreign", "it is a database, but not a recording of this format: "
                                "if an earlier version of askonce made it, delete it and record again")  # fmt: skip
        return False

    # trouble

    @contextmanager
    def _as_trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._trouble(*self._explanation(error)) from error
        except OSError as error:
            raise self._trouble("store-denied", f"{error.strerror or error}") from error
        except Corrupt as corrupt:
            raise self._trouble(corrupt.reason, _UNOPENED.get(corrupt.reason, _DAMAGED)) from corrupt

    def _explanation(self, error: sqlite3.Error) -> tuple[str, str]:
        code = _extended(error) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            return "store-foreign", self._not_a_database()
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "store-busy", "another process locks it: end the program that records or shows it"
        if _extended(error) == sqlite3.SQLITE_READONLY_ROLLBACK:
            return "store-readonly", "an interrupted recording left a journal beside it: record once more"
        if code == sqlite3.SQLITE_READONLY:
            return "store-readonly", "it cannot be written: record where the file and its folder can be written"
        if code == sqlite3.SQLITE_CANTOPEN:
            return "store-denied", f"it cannot be opened: check the rights of the file and its folder ({error})"
        if code == sqlite3.SQLITE_FULL:
            return "store-full", "the disk is full: free some space"
        return "store-corrupt", f"{error}: restore it from version control, or delete it and record again"

    def _not_a_database(self) -> str:
        with self.path.open("rb") as file:
            lfs = file.read(40).startswith(b"version https://git-lfs")
        return (
            "it is a Git LFS pointer: run git lfs pull"
            if lfs
            else "it is not a database: a merge or a conversion of line endings may have damaged it"
        )

    def _trouble(self, kind: str, what: str) -> StoreTrouble:
        return StoreTrouble(kind, f"{self.path}: {what}")


def _extended(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _checksum(asked: str | bytes, answer: bytes) -> int:
    return zlib.crc32(answer, zlib.crc32(asked.encode() if isinstance(asked, str) else asked))
