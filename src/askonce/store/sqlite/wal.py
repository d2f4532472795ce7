"""The write-ahead log of one SQLite file, kept short by its writers, and never at the cost of waiting callers.

The log is copied into the file when it has grown to its share of max_bytes. SQLite does not do it, because it would do
so inside the commit: a slow disk would then delay every thread of this process. SQLite starts the log over when it
happens to meet no reader. Under a steady stream of readers it never does, so at twice its share the log is truncated by
force. Force waits for present readers; new readers find everything in the file, and are in nobody's way.

A reader that stays (another program's open transaction, a backup) makes force fail for as long as it stays. So force
never delays another writer for long. After failing for a moment, it is used only when everything was copied, and at
growing intervals. Meanwhile the log grows, and the program's log says so.
"""

from __future__ import annotations

import os
import sqlite3
import time

from askonce.events import log

PAGE = 4096
PAGES = 1_000  # pages after which the log is copied into the file, at most
SHARE = 20  # the log's part of max_bytes: a twentieth
PATIENCE = 0.05  # s that force goes on
MORE = 0.2  # s of it when the log has three times its share
HOLD = 0.01  # s that it waits for readers at a time, while every other writer is delayed
FIRST_REST = 0.02  # s after the first failure; doubled after each that follows
LAST_REST = 1.0
MOMENT = 0.25  # s in which readers may come and go
STAYS = 2.0  # s after which a reader in the way is reported


class Log:
    """The log beside a file, as one process sees it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = path + "-wal"
        self._last = 0  # bytes, at the last check
        self._failures = 0  # failures in a row
        self._since = 0.0  # when the first of them was (monotonic s)
        self._pause = FIRST_REST / 2  # s
        self._rest = 0.0  # when the next attempt may be (monotonic s)
        self._warned = False

    def size(self) -> int:
        """Bytes."""
        self._last = os.stat(self._file).st_size  # noqa: PTH116 - asked at each write: a Path doubles its price
        return self._last

    def within(self, connection: sqlite3.Connection, most: int) -> bool:
        """Whether it has at most this many bytes, if need be after it was emptied. Never waits."""
        if self._last <= most:
            return True
        _truncated(connection, 0.0, 0.0)
        return self.size() <= most

    def tend(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        """Copy or truncate the log if it is time, on the connection of the thread that has just written."""
        share = max(16, min(PAGES, max_bytes // PAGE // SHARE))
        shares = self.size() // PAGE / share
        if shares <= 1:
            self._well()
        elif (now := time.monotonic()) >= self._rest:
            stays = self._failures > 0 and now - self._since > MOMENT
            failed = copied(connection) > share and stays
            if not failed and shares > 2:
                failed = not _truncated(connection, PATIENCE if shares <= 3 else MORE)
            if failed:
                self._on_failure(now)

    def _well(self) -> None:
        self._failures, self._pause, self._rest, self._warned = 0, FIRST_REST / 2, 0.0, False

    def _on_failure(self, now: float) -> None:
        self._since = self._since if self._failures else now
        self._failures += 1
        if now - self._since > MOMENT:
            self._pause = min(2 * self._pause, LAST_REST)
            self._rest = now + self._pause
        if now - self._since >= STAYS and not self._warned:
            self._warned = True
            log.warning(
                "%s: a program keeps a read transaction open, so the write-ahead log grows (%.0f MB): end that program",
                self._path,
                self.size() / 1e6,
            )


def copied(connection: sqlite3.Connection) -> int:
    """Copy into the file what no reader prevents; return how many pages are left. Never waits."""
    _, pages, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(pages - done)


def _truncated(connection: sqlite3.Connection, patience: float, hold: float = HOLD) -> bool:
    """Empty the log, waiting up to `patience` s for its readers; return whether that was possible."""
    until = time.monotonic() + patience
    connection.execute(f"PRAGMA busy_timeout = {int(hold * 1000)}")
    try:
        # SQLite waits for readers and writers; while another connection copies the log, it answers "busy" at once.
        while busy := connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= until:
                break
            time.sleep(HOLD / 2)  # for a writer's turn
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
    return not busy
