"""Near: what one connection has read lately, valid while SQLite says that no other connection has written.

``PRAGMA data_version`` changes when any other connection, of any process, has committed. It costs half of a SELECT of
an entry, and answers for all entries. While the number stands, an entry may be returned again without being read or
verified again: a lookup that begins after an invalidation returned sees that the number changed. A connection's own
writes do not change its number, so a writer forgets first.

A key is kept when it is read for the second time: a key that is read once costs nothing here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from askonce.core.keys import Key
from askonce.core.lease import Generations
from askonce.core.model import Head
from askonce.core.providers.named_tuples import NamedTuple

ROOM = 2 * 2**20  # bytes of entries that a connection keeps
SEEN = 4096  # keys remembered as read once


class Kept(NamedTuple):
    """An entry that was read and verified, and its partition's generation."""

    head: Head
    entry: bytes
    generations: Generations


class Near:
    """The near cache of one connection. Used by one thread at a time, as the connection is."""

    __slots__ = ("_execute", "_kept", "_room", "_seen", "_version")

    def __init__(self, execute: Callable[[str], sqlite3.Cursor]) -> None:
        self._execute = execute
        self._version: Any = None
        self._kept: dict[Key, Kept] = {}
        self._seen: set[Key] = set()
        self._room = ROOM

    def get(self, key: Key) -> Kept | None:
        """What was read for a key, if it still stands."""
        if key not in self._kept:
            return None
        if self._moved():
            self.forget()
            return None
        return self._kept[key]

    def wants(self, key: Key) -> bool:
        """Whether a key that is about to be read should be kept. Asked before the read: afterwards is too late."""
        if key not in self._seen:
            if len(self._seen) >= SEEN:
                self._seen.clear()
            self._seen.add(key)
            return False
        if self._moved():
            self._kept.clear()
            self._room = ROOM
        return True

    def keep(self, key: Key, kept: Kept) -> None:
        """Keep what was read after `wants` returned True."""
        self._room -= len(kept.entry)
        if self._room < 0:
            self._kept.clear()
            self._room = ROOM - len(kept.entry)
        if self._room >= 0:
            self._kept[key] = kept

    def forget(self) -> None:
        """Drop everything: it no longer stands."""
        self._kept.clear()
        self._seen.clear()
        self._room = ROOM

    def _moved(self) -> bool:
        (version,) = self._execute("PRAGMA data_version").fetchone()
        moved, self._version = version != self._version, version
        return bool(moved)
