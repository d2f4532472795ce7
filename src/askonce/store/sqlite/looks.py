"""The verbs of a SQLiteStore that a lookup begins with: plain reads over one connection, inline.

What a connection has read lately is kept with it (near.py), and read again only after another connection wrote.
"""

# ruff: noqa: D102 - the contract documents what a verb does

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from askonce.core.keys import Key
from askonce.core.lease import Generations
from askonce.core.model import Corrupt, Head, read_entry
from askonce.store import Clock, Look
from askonce.store.sqlite.connection import PooledConnection
from askonce.store.sqlite.file import CHECK_PATH, File
from askonce.store.sqlite.near import Kept
from askonce.store.sqlite.room import number_of

T = TypeVar("T")

_CLOCK_AT = slice(72, 76)  # an entry's own clock (core.model)
_NONE = (None, b"", 0, 0)
_LOOK = "SELECT e.body, g.epoch, g.clock, g.floor FROM generations g LEFT JOIN entries e ON e.id = ? WHERE g.realm = ?"


class Looks:
    """The part of a SQLiteStore that reads single rows."""

    _file: File
    _realm: int
    _clock: Clock
    _known: Generations

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run what may have to wait."""
        raise NotImplementedError

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        # _row written out: its coroutine would cost a hit a twentieth more.
        file, now = self._file, self._clock()
        if not 0 <= now - file.looked < CHECK_PATH:
            file.check_path(now)
        try:
            pooled = file.idle.pop()
        except IndexError:
            pooled, now = await self._in_thread(file.open), self._clock()
        kept = None
        try:
            kept = pooled.near.get(key)
            look = self._looked(pooled, key, now) if kept is None else None
        except sqlite3.Error as error:
            values = (number_of(key), self._realm)
            look = self._look(await self._in_thread(partial(file.again, pooled, _LOOK, values, error)), now)
        except BaseException:
            pooled.close()
            raise
        file.give(pooled)
        if kept is not None:  # its counter has not moved
            return Look(kept.entry, kept.generations, now, kept.head)
        assert look is not None
        if fields and self._may_have_moved(look):
            moved = await self._moved(fields)
            return look._replace(generations=look.generations._replace(moved=moved))
        return look

    def at_hand(self, key: Key, fields: Sequence[int]) -> Look | None:
        file, now = self._file, self._clock()
        if not 0 <= now - file.looked < CHECK_PATH:
            file.check_path(now)
        try:
            pooled = file.idle.pop()
        except IndexError:
            return None
        try:
            kept = pooled.near.get(key)
            look = self._looked(pooled, key, now) if kept is None else None
        except BaseException as error:
            pooled.close()
            if isinstance(error, sqlite3.Error):
                return None  # `look` meets it too, and may wait
            raise
        file.give(pooled)
        if kept is not None:
            return Look(kept.entry, kept.generations, now, kept.head)
        return None if look is None or (fields and self._may_have_moved(look)) else look

    def _looked(self, pooled: PooledConnection, key: Key, now: int) -> Look:
        """A look without the moves of fields, over this connection, which has not kept the entry."""
        wanted = pooled.near.wants(key)
        row: Any = pooled.execute(_LOOK, (number_of(key), self._realm)).fetchone()
        return self._look(row, now, self._keep(pooled, key, row) if wanted and row and row[0] is not None else None)

    def _look(self, row: Any, now: int, head: Head | None = None) -> Look:
        entry, epoch, clock, floor = row or _NONE
        known = self._known
        if known.clock != clock or known.epoch != epoch or known.floor != floor:
            known = self._known = Generations(epoch, clock, floor)
        return Look(entry, known, now, head)

    @staticmethod
    def _may_have_moved(look: Look) -> bool:
        """Whether the partition's counter has moved since the entry was made."""
        return look.entry is not None and int.from_bytes(look.entry[_CLOCK_AT], "big") != look.generations.clock

    def _keep(self, pooled: PooledConnection, key: Key, row: tuple[bytes, bytes, int, int]) -> Head | None:
        """Keep a row in the near cache, if it is whole and its partition's counter has not moved since it was made."""
        entry, epoch, clock, floor = row
        try:
            head = read_entry(entry, key.digest, key.form)
        except Corrupt:
            return None  # the reader of the bytes will report that
        if head.clock == clock:
            pooled.near.keep(key, Kept(head, entry, Generations(epoch, clock, floor)))
        return head

    async def _moved(self, fields: Sequence[int]) -> dict[int, int]:
        moved = {}
        for field in fields:
            sql = "SELECT clock FROM moved WHERE realm = ? AND field = ?"
            if (row := await self._row(sql, (self._realm, field))) is not None:
                moved[field] = row[0]
        return moved

    async def _row(self, sql: str, values: tuple[object, ...]) -> Any:
        """One row, or None. Runs inline; a read that has to wait runs in the thread."""
        file = self._file
        try:
            pooled = file.idle.pop()
        except IndexError:
            pooled = await self._in_thread(file.open)
        try:
            row = pooled.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            row = await self._in_thread(partial(file.again, pooled, sql, values, error))
        except BaseException:
            pooled.close()
            raise
        file.give(pooled)
        return row
