"""SQLiteLink: how waiters get notices from a store that cannot call anybody.

Ending a flight that others may wait for writes a notice into a table, in the same transaction. A process that waits
for anything reads the new rows every few milliseconds, once for all its waiters: one index descent over cached pages.
So 200 waiters cost what one costs. A process that waits for nothing reads nothing.
"""

# ruff: noqa: D102 - the contract documents what a link does

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from askonce.core.keys import Key
from askonce.core.tape import SAID, Notice, read_notice
from askonce.runtime.wakeup import Wakeup
from askonce.store import TAPE_LIFE, Clock, Held, StoreTrouble, ledger
from askonce.store.sqlite.file import File
from askonce.store.sqlite.ledger import Rows

TICK = 0.015  # s between two reads: a notice takes some 8 ms, and 8 waiting processes take 4 % of a core

_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'news'"
_PIECE = "SELECT log FROM tapes WHERE name = ? AND at = ?"
_NEWS = "SELECT seq, name, word FROM news WHERE seq > ? ORDER BY seq"


class SQLiteLink:
    """The background thread's reader of one file."""

    trouble: StoreTrouble | None = None

    def __init__(self, file: File, write: Callable[[Callable[[Rows], Any]], Any], clock: Clock) -> None:
        self._file = file
        self._write = write
        self._clock = clock
        self._keys: dict[bytes, Key] = {}
        self._fresh: list[Key] = []
        self._last: int | None = None  # the number of the last news read; None: not listening yet
        self._read_at = 0
        self._wakeup = Wakeup()

    def subscribe(self, key: Key) -> None:
        self._keys[key.name] = key
        self._fresh.append(key)

    def unsubscribe(self, key: Key) -> None:
        self._keys.pop(key.name, None)
        if not self._keys:
            self._last = None

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        until = time.monotonic() + timeout
        self._file.mend()
        while True:
            notices = self._news() if self._keys else []
            ready, self._fresh = self._fresh, []
            left = until - time.monotonic()
            if notices or ready or left <= 0:
                return notices, ready
            if self._wakeup.wait(min(left, TICK) if self._keys else left):
                return [], []

    def _news(self) -> list[tuple[Key, Notice]]:
        now = self._clock() // 1000
        if self._last is None or not 0 <= now - self._read_at < TAPE_LIFE // 2:
            # It never listened, or slept so long that unread news may be gone: start here, and wake every waiter.
            self._last = self._rows(_LAST, ())[0][0]
            self._fresh = list(self._keys.values())
        self._read_at = now
        rows = self._rows(_NEWS, (self._last,))
        if rows:
            self._last = rows[-1][0]
        received = [(self._keys[name], read_notice(notice)) for _, name, notice in rows if name in self._keys]
        return [(key, whole) for key, notice in received if notice and (whole := self._whole(key, notice))]

    def _whole(self, key: Key, notice: Notice) -> Notice | None:
        """A notice with its piece of the log: the piece is stored once, and the notice row says only where."""
        if notice.kind != SAID:
            return notice
        name = ledger.tape_name(key, notice.flight, notice.order)
        piece = self._rows(_PIECE, (name, int.from_bytes(notice.outcome, "big")))
        return notice._replace(outcome=notice.outcome + piece[0][0]) if piece else None

    def _rows(self, sql: str, values: tuple[object, ...]) -> list[Any]:
        return self._file.read(lambda connection: connection.execute(sql, values).fetchall())

    def wake(self) -> None:
        self._wakeup.set()

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        said: list[str] = self._write(lambda rows: ledger.renew(rows, held, heartbeat))
        return said

    def say(self, key: Key, notice: Notice) -> None:
        self.say_all([(key, notice)])

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        def verb(rows: Rows) -> None:
            for key, notice in said:
                rows.say(key, notice)

        self._write(verb)

    def probe(self) -> None:
        """Take the write lock and give it back: the trouble may have been a writer that does not end."""
        self._file.transaction(lambda _: None)

    def close(self) -> None:
        """Do nothing: a link borrows the file's connections."""
