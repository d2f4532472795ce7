"""The verbs of a SQLiteStore that go through what a prefix has in a file: for commands and pages, never for lookups."""

# ruff: noqa: D102 - the contract documents what a verb does

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from askonce.core.lease import Generations
from askonce.core.notes import RING, Note, Noted
from askonce.core.tallies import Push, Tallied, first
from askonce.store import Clock, Record, Running, StoreTrouble
from askonce.store.sqlite.file import GROWING, KEEPING, File
from askonce.store.sqlite.ledger import Rows, running, scan
from askonce.store.sqlite.notes import read as read_notes
from askonce.store.sqlite.tallies import read as read_tallies

T = TypeVar("T")


class Contents:
    """The part of a SQLiteStore that walks through its prefix."""

    _file: File
    _realm: int
    _clock: Clock

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run what may have to wait."""
        raise NotImplementedError

    async def _write(self, verb: Callable[[Rows], T], share: float = GROWING) -> T:
        """Run a verb in a transaction."""
        raise NotImplementedError

    def _rows(self, connection: sqlite3.Connection) -> Rows:
        """What a verb reads."""
        raise NotImplementedError

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(lambda: self._file.read(read))

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        return await self._read(lambda connection: scan(connection, self._realm, cursor, count))

    async def flights(self, count: int) -> list[Running]:
        return await self._read(lambda connection: running(connection, self._realm, self._rows(connection).now, count))

    async def standing(self) -> Sequence[Generations]:
        return [await self._read(self._standing)]

    def _standing(self, connection: sqlite3.Connection) -> Generations:
        generations = self._rows(connection).generations()
        return generations._replace(moved=dict(generations.moved))

    async def discard(self, seen: Sequence[Record]) -> int:
        return await self._write(lambda rows: rows.discard(seen))

    async def note(self, notes: Sequence[Note]) -> None:
        if notes:
            await self._write(lambda rows: rows.note(notes), KEEPING)

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Noted]:
        return await self._read(lambda connection: read_notes(connection, self._realm, owner, name, count))

    async def tally(self, push: Push) -> None:
        if not self._file.writable:
            raise StoreTrouble("store-readonly", f"{self._file.path} cannot be written")
        await self._write(lambda rows: rows.tally(push), KEEPING)

    async def tallied(self, table: str, back: int) -> tuple[int, list[Tallied]]:
        now = self._clock() // 1000
        since = first(table, now, back)
        return now, await self._read(lambda connection: read_tallies(connection, self._realm, table, since))

    async def raze(self, count: int) -> int:
        return await self._write(lambda rows: rows.raze(count))
