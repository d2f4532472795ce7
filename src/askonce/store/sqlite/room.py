"""Room: what keeps a SQLite file within its bytes, and which entries go when it is full.

SQLite itself knows how full the file is (pages less free pages), so no counter of ours can drift from the truth. An
entry that does not fit first makes room, in the transaction that stores it: expired data goes first, then the entries
that save least (core.eviction), then tapes.

An entry's place is its `touched`, whose index also has its size. So victims are found without a search, and a fill
writes no more than without eviction. A visit writes a short row beside the entry, and only while its frequency is below
the highest: an entry in steady use is not written at all.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence

from askonce.core.eviction import MOST, MOVES, OVERHEAD, Candidate, Chosen, chosen, oldest_ghost, stored
from askonce.core.hot_keys import Visits
from askonce.core.keys import Key
from askonce.core.model import FORMS
from askonce.store import ledger
from askonce.store.sqlite.wal import PAGE

LARGEST = 8  # no entry may take more than this part of the file: an eighth
BATCH = 32  # entries evicted at a time
ROUNDS = 64  # batches that a transaction may evict, because others wait for it
SWEPT = 256  # rows of a kind that one sweep deletes
TOLD = 256  # keys whose visits a fill tells before it evicts: about a millisecond
_WORDS = struct.Struct(">qqqq").unpack
_FORM = dict(zip(FORMS, (0, 1 << 62, 1 << 61), strict=True))

_NEWEST = "SELECT at, place FROM ghosts ORDER BY at DESC LIMIT 1"
_LOWEST = (
    "SELECT e.id, e.touched, e.size, coalesce(v.frequency, 0) FROM entries e LEFT JOIN visits v ON v.id = e.id"
    " ORDER BY e.touched LIMIT ?"
)
# Only for entries that are there: they may have been evicted since they were visited.
_VISITED = (
    f"INSERT INTO visits SELECT id, ? FROM entries WHERE id = ? ON CONFLICT (id) DO"  # noqa: S608 - a number
    f" UPDATE SET frequency = min({MOST}, frequency + excluded.frequency) WHERE frequency < {MOST}"
)


def number_of(key: Key) -> int:
    """The number of a key's row: its digest folded into 64 bits, turned by its form."""
    a, b, c, d = _WORDS(key.digest)
    number: int = a ^ b ^ c ^ d ^ _FORM[key.form]
    return number


def untold(connection: sqlite3.Connection, visits: Sequence[tuple[Key, int]]) -> list[tuple[Key, int]]:
    """The visits that would change a frequency."""
    full = "SELECT 1 FROM visits WHERE id = ? AND frequency >= ?"
    return [one for one in visits if connection.execute(full, (number_of(one[0]), MOST)).fetchone() is None]


class Room:
    """The room of a file during one write transaction; `now` in ms. `visits` are told before anything is evicted."""

    def __init__(self, connection: sqlite3.Connection, now: int, max_bytes: int, visits: Visits) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._now = now
        self._max_bytes = max_bytes
        self._visits = visits
        self._patience = MOVES

    def surplus(self) -> int:
        """Free pages that the file has beyond its bounds."""
        return min(self._free_pages(), self._pages() - self._max_bytes // PAGE)

    def _spare_pages(self) -> int:
        """Pages that may be filled before the file has its full size; negative if it is larger."""
        return self._max_bytes // PAGE - self._pages() + self._free_pages()

    def _pages(self) -> int:
        count: int = self._execute("PRAGMA page_count").fetchone()[0]
        return count

    def _free_pages(self) -> int:
        count: int = self._execute("PRAGMA freelist_count").fetchone()[0]
        return count

    def place(self, number: int, worth: int) -> int:
        """The place of an entry that is stored now. One that replaces another falls behind it in nothing."""
        # Two short statements: one with subqueries takes twice as long.
        newest = self._execute(_NEWEST).fetchone()
        before = self._execute("SELECT touched FROM entries WHERE id = ?", (number,)).fetchone()
        known = newest is not None and self._comes_back(number)
        place = stored(newest[1] if newest else 0, worth, self._now, known=known)
        return max(place, before[0]) if before else place

    def _comes_back(self, number: int) -> bool:
        known = self._execute("SELECT 1 FROM ghosts WHERE id = ?", (number,)).fetchone() is not None
        if known:
            self._forget("id = ?", number)
        return known

    def visited(self, visits: Sequence[tuple[Key, int]]) -> None:
        """Add visits to their entries."""
        rows = [(min(MOST, times), number_of(key)) for key, times in visits]
        self._connection.executemany(_VISITED, rows)

    def make(self, size: int) -> bool:
        """Evict until `size` bytes fit; return whether they do."""
        need = size // (PAGE - 100) + 4
        for _ in range(ROUNDS):
            lack = need - self._spare_pages()
            if lack <= 0:
                return True
            self.visited(self._visits.take(TOLD))
            if not self._evict(lack * PAGE):
                break
        # A file made under a larger max_bytes shrinks over many transactions: enough that this one adds nothing.
        return self._free_pages() >= need

    def _evict(self, size: int) -> bool:
        """Delete about `size` bytes of what matters least; False if nothing is left to delete."""
        return (
            self._evict_expired(size)
            or bool(self.evict_entries(size))
            or self._evict_tape()
            or self._evict_counters()
            or self.forget()
        )

    def _evict_expired(self, size: int) -> bool:
        sql = "SELECT id, size FROM entries WHERE ends <= ? ORDER BY ends LIMIT ?"
        rows = self._execute(sql, (self._now, BATCH)).fetchall()
        for number, one in rows:
            self._delete(number)
            size -= one
            if size <= 0:
                break
        return bool(rows)

    def evict_entries(self, size: int) -> list[int]:
        """Delete about `size` bytes of entries; return their numbers."""
        while True:
            cursor = self._execute(_LOWEST, (BATCH,))
            found: Chosen[int] = chosen(map(Candidate._make, cursor), size, self._worth, self._now, self._patience)
            cursor.close()
            self._patience = found.patience
            self._move(found)
            if found.victims:
                self._bury(found.victims)
            if found.victims or not found.moved:
                return [one.name for one in found.victims]

    def _worth(self, number: int) -> int:
        """What a byte of an entry saves. Its header is read: few are reached that were visited."""
        body, size = self._execute("SELECT body, size FROM entries WHERE id = ?", (number,)).fetchone()
        return ledger.worth_of(body, size)

    def _move(self, found: Chosen[int]) -> None:
        for one in found.moved:
            self._execute("UPDATE entries SET touched = ? WHERE id = ?", (one.place, one.name))
            if one.frequency:
                self._execute("UPDATE visits SET frequency = ? WHERE id = ?", (one.frequency, one.name))
            else:
                self._execute("DELETE FROM visits WHERE id = ?", (one.name,))

    def _bury(self, victims: Sequence[Candidate[int]]) -> None:
        evicted, level = self._execute(_NEWEST).fetchone() or (0, 0)
        for one in victims:
            self._delete(one.name)
            evicted, level = evicted + one.size + OVERHEAD, max(level, one.place)
            self._execute("INSERT OR REPLACE INTO ghosts VALUES (?, ?, ?)", (one.name, evicted, level))
        self._forget("at <= ?", oldest_ghost(evicted, self._max_bytes))

    def _delete(self, number: int) -> None:
        self._execute("DELETE FROM entries WHERE id = ?", (number,))
        self._execute("DELETE FROM hits WHERE id = ?", (number,))

    def _evict_tape(self) -> bool:
        sql = "DELETE FROM tapes WHERE name = (SELECT name FROM tapes ORDER BY ends LIMIT 1)"
        return self._execute(sql).rowcount > 0

    def _evict_counters(self) -> bool:
        """Delete the counters that expire first, also those of deleted entries."""
        sql = "DELETE FROM hits WHERE id IN (SELECT id FROM hits ORDER BY ends LIMIT ?)"
        return self._execute(sql, (SWEPT,)).rowcount > 0

    def forget(self) -> bool:
        """Forget what was evicted; False if there was nothing to forget."""
        return self._forget("?", 1) > 0

    def _forget(self, which: str, value: int) -> int:
        # Never the newest: it is the level.
        sql = f"DELETE FROM ghosts WHERE {which} AND at < (SELECT max(at) FROM ghosts)"  # noqa: S608
        return self._execute(sql, (value,)).rowcount
