"""A File: one SQLite file as a process sees it: how it is created, its connections, its lock for writers.

All stores of a process that name one path share a File. Connections are pooled, not one per thread: a reader takes the
one used last. So short-lived threads open no connections, and a fork can tell which ones are in use.

Connections are closed before a fork, not dropped after it. SQLite keeps a table of its process's locks, and a child
inherits that table without the locks. Its new connections would believe in them, the parent's last close would delete
the log, and what the child writes then is lost (this was observed). With nothing open, nothing is inherited. For the
same reason no file descriptor of an existing file is ever opened here: closing it would drop every lock that this
process has on the file.

The file is created empty with mode 0600 before SQLite opens it; its log and index get the same mode. Nothing is changed
before the file is known to be askonce's: another program's database is left as it was.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from askonce.core.hot_keys import Visits
from askonce.runtime.exits import when_dropped
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.store import TIMEOUT, StoreTrouble
from askonce.store.sqlite.connection import NOWHERE, Identity, PooledConnection, close_all, logged
from askonce.store.sqlite.creating import create
from askonce.store.sqlite.inherited import adopt
from askonce.store.sqlite.owner import check_owner, writable
from askonce.store.sqlite.schema import roll_back, settle
from askonce.store.sqlite.trouble import SharedTrouble, is_busy, is_full, patiently, trouble_of
from askonce.store.sqlite.wal import Log
from askonce.store.sqlite.worker import WorkerThread

T = TypeVar("T")

GROWING, KEEPING, URGENT = 1.0, 1.5, 64.0  # shares of max_bytes: for what adds, what keeps a lease, what invalidates
LOG_LEAST = 6 * 2**20  # bytes that a log may always have
QUEUE = 1.0  # s that a write may queue behind others of this process while none of them fails
SPARE = 16  # connections kept open while unused
FORK_PATIENCE = 0.5  # s that a fork waits for calls under way
CHECK_PATH = 5_000  # us between two checks whether the path names another file: a check costs a fifth of a hit


class File:
    """One path of this process. `idle` holds the unused connections."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._path = Path(path)
        self._log = Log(path)
        self.idle: deque[PooledConnection] = deque()
        self.spare = SPARE
        self.max_bytes = 0
        self.visits = Visits()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self.swept = 0  # ms by the store's clock
        self.inode: Identity = NOWHERE  # the file that had the path's name at the last check
        self.looked = 0  # us by the store's clock
        self.private = True
        self._fixed = False  # opened as a file that this process cannot write
        self._named = 0.0  # monotonic s: since when this process knows that file by this name
        self._fork_until = 0.0  # monotonic s: a fork that has begun waits for connections until then
        self._connections: weakref.WeakSet[PooledConnection] = weakref.WeakSet()
        # The File of the last dropped store: closed before it is collected, or Python would warn of open connections.
        when_dropped(self, close_all, self.idle)
        self._reset()

    def _reset(self) -> None:
        self._opening = OwnedLock()
        self._turn = OwnedLock()
        self._opening_trouble = SharedTrouble()
        self._writing_trouble = SharedTrouble()
        self._writer: PooledConnection | None = None  # in a transaction
        self.worker = WorkerThread()

    @property
    def writable(self) -> bool:
        """Whether this process may write the file, as far as it knows."""
        return not self._fixed

    # users

    def enter(self, store: object, max_bytes: int, *, private: bool = True) -> None:
        """Add a store, until it leaves or is dropped. Not `private`: anybody may read what the file holds."""
        registering.nested(partial(self._enter, store, max_bytes, private=private))

    def _enter(self, store: object, max_bytes: int, *, private: bool) -> None:
        self.private = private or (len(self._users) > 0 and self.private)  # the stricter of two stores decides
        self._users.add(store)
        self.spare = SPARE
        self.max_bytes = max(self.max_bytes, max_bytes)

    def leave(self, store: object) -> None:
        """Remove a store; the last one closes the connections."""
        worker = registering.nested(partial(self._leave, store))
        if worker is not None:
            worker.close()
            self.close_surplus()

    def _leave(self, store: object) -> WorkerThread | None:
        self._users.discard(store)
        if self._users:
            return None
        self.spare = 0
        worker, self.worker = self.worker, WorkerThread()
        return worker

    # connections

    def take(self) -> PooledConnection:
        """Take a connection. Append it to `idle` to give it back; close it if it had trouble."""
        try:
            return self.idle.pop()
        except IndexError:
            return self.open()

    def give(self, pooled: PooledConnection) -> None:
        """Give a connection back."""
        if pooled.inode != self.inode:
            pooled.close()
            return
        self.idle.append(pooled)
        if len(self.idle) > self.spare:
            self.close_surplus()

    def close_surplus(self) -> None:
        """Close the surplus connections, those first that were idle longest."""
        with contextlib.suppress(IndexError):
            while len(self.idle) > self.spare:
                self.idle.popleft().close()

    def open(self) -> PooledConnection:
        """Open a connection. Threads queued behind a failure share it, or each would wait for its own timeout."""
        try:
            return self._opening.run(partial(self._open, time.monotonic()))
        except Busy as busy:
            text = f"{self.path}: this thread is opening it already, {busy}"
            raise StoreTrouble("store-error", text, busy.at) from None

    def _open(self, asked: float) -> PooledConnection:
        self._opening_trouble.share(asked)
        try:
            pooled = self._opened()
        except (sqlite3.Error, OSError, StoreTrouble) as error:
            raise self._opening_trouble.met(self.path, error) from error
        self._connections.add(pooled)
        return pooled

    def _opened(self) -> PooledConnection:
        writing = create(self._path)
        self._fixed = not writing
        if self.private:
            check_owner(self.path, writing=writing)
        before = self._identity()
        pooled = PooledConnection(self.path, writing=writing)
        try:
            self._settle(pooled.connection)
            pooled.inode = self._identity()
            if pooled.inode != before:
                raise StoreTrouble("store-error", f"{self.path}: it was replaced while it was being opened")
        except BaseException:
            pooled.close()
            raise
        self._name(pooled.inode)
        return pooled

    def _identity(self) -> Identity:
        """Which file has the path's name now. Not the inode alone: a deleted file's inode is reused by the next file.

        A file opened as immutable becomes another one as soon as it changes or may be written: SQLite then looks for no
        change, and would go on with what it has read.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116 - asked on hits: a Path doubles its price
        except OSError:
            return NOWHERE
        if not self._fixed:
            return found.st_dev, found.st_ino
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, logged(self.path), writable(self.path)

    def _name(self, inode: Identity) -> None:
        if inode != self.inode:
            self.inode, self._named = inode, time.monotonic()

    def check_path(self, now: int) -> None:
        """Drop connections to a file that lost its name; on a read, at most every CHECK_PATH us."""
        self.looked = now
        inode = self._identity()
        if inode != self.inode:
            self._name(inode)
            for _ in range(len(self.idle)):
                with contextlib.suppress(IndexError):
                    self.give(self.idle.popleft())

    def settled(self) -> None:
        """Wait until no reader of any process still takes an older file of this name for this one."""
        left = self._named + 2 * CHECK_PATH / 1e6 - time.monotonic()
        if left > 0:
            time.sleep(left)

    def _settle(self, connection: sqlite3.Connection) -> None:
        settle(connection, self.path, fresh=self._path.stat().st_size == 0, writing=not self._fixed)

    # reading and writing

    def again(
        self, pooled: PooledConnection, sql: str, values: tuple[object, ...], error: sqlite3.Error
    ) -> tuple[object, ...] | None:
        """Repeat a read that failed with `error`, patiently if that helps; else close the connection: StoreTrouble."""
        try:
            if not is_busy(error):
                raise error
            row: tuple[object, ...] | None = patiently(
                lambda: pooled.execute(sql, values).fetchone(), time.monotonic() + TIMEOUT
            )
        except sqlite3.Error as last:
            pooled.close()
            raise trouble_of(self.path, last) from last
        return row

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, on a connection."""
        pooled = self.take()
        try:
            result = patiently(lambda: work(pooled.connection), time.monotonic() + TIMEOUT)
        except sqlite3.Error as error:
            self._after(pooled, error)
            raise trouble_of(self.path, error) from error
        except BaseException:
            pooled.close()
            raise
        self.give(pooled)
        return result

    def transaction(self, work: Callable[[sqlite3.Connection], T], asked: float = 0.0, *, share: float = GROWING) -> T:
        """Run `work` in a write transaction, wholly or not at all. `asked`: when the wait for it began (monotonic s).

        `share`: the part of max_bytes that the log may have while a reader that stays keeps it from being emptied.

        Waiting for other programs ends after TIMEOUT. Queueing behind threads of this process is not trouble, unless
        one of them meets it: then all that queue behind it have it too, or each would wait for its own timeout.
        """
        asked = asked or time.monotonic()
        left = asked + QUEUE - time.monotonic()
        try:
            # Threads queue here, not at SQLite's lock: there they would sleep, and others would overtake them.
            pooled, result = self._turn.run(
                partial(self._written, work, asked, max(LOG_LEAST, int(share * self.max_bytes))),
                left,
                partial(self._writing_trouble.share, asked),
            )
        except Busy as busy:
            raise StoreTrouble("store-timeout", f"{self.path}: {busy}, for longer than {QUEUE} s", busy.at) from None
        self._tend_log(pooled)
        return result

    def _written(self, work: Callable[[sqlite3.Connection], T], asked: float, most: int) -> tuple[PooledConnection, T]:
        self._close_left()
        self._writing_trouble.share(asked)
        pooled = self._writer = self._current()
        pooled.near.forget()
        try:
            if not self._log.within(pooled.connection, most):
                raise _crowded(self.path)
            result = _transact(pooled.connection, work, time.monotonic() + TIMEOUT)
        except sqlite3.Error as error:
            self._writer = None  # before another thread may use it
            self._after(pooled, error)
            raise (self._writing_trouble.met if is_busy(error) else trouble_of)(self.path, error) from error
        except StoreTrouble:
            self._writer = None
            self.give(pooled)
            raise
        except BaseException:
            pooled.close()
            raise
        self._writer = None
        return pooled, result

    def _close_left(self) -> None:
        """Close an interrupted writer's connection: its open transaction would keep every other writer out."""
        pooled, self._writer = self._writer, None
        if pooled is not None:
            pooled.close()

    def mend(self) -> None:
        """The same for the sake of other processes, if no thread of this one is writing."""
        if self._writer is not None and not self._turn.held:
            with contextlib.suppress(Busy):
                self._turn.run(self._close_left, 0.0)

    def _after(self, pooled: PooledConnection, error: sqlite3.Error) -> None:
        """Keep a connection whose trouble is not its own."""
        if is_busy(error) or is_full(error):
            self.give(pooled)
        else:
            pooled.close()

    def _current(self) -> PooledConnection:
        """A connection to the file that has the path's name now: deleting a cache file must empty the cache."""
        return self.at_hand() or self.open()

    def at_hand(self) -> PooledConnection | None:
        """An idle connection to the file that has the path's name now, or None."""
        inode = self._identity()
        self._name(inode)
        with contextlib.suppress(IndexError):
            while True:
                pooled = self.idle.pop()
                if pooled.inode == inode:
                    return pooled
                pooled.close()
        return None

    def _tend_log(self, pooled: PooledConnection) -> None:
        """Keep the log short, and give the connection back."""
        try:
            self._log.tend(pooled.connection, self.max_bytes)
        except (sqlite3.Error, OSError):
            pooled.close()  # the write has succeeded; the next caller meets the trouble, and reports it
        else:
            self.give(pooled)

    # forks

    def pause(self) -> None:
        """Before a fork: close every connection, and let no thread open one until it is over.

        A child inherits SQLite's mutexes too: one that a thread holds at that moment is held there forever.
        """
        # Bounded: a fork from a signal handler may find its own thread in here. Its connection is left as it is.
        now = time.monotonic()
        if now > self._fork_until + FORK_PATIENCE:
            self._fork_until = now + FORK_PATIENCE  # of both calls of this hook together
        until = self._fork_until
        self.spare = 0  # a thread that reads now closes its connection afterwards
        self._opening.pause(max(FORK_PATIENCE / 5, until - now))
        while True:
            self.close_surplus()
            if all(pooled.closed for pooled in list(self._connections)) or time.monotonic() >= until:
                return
            time.sleep(0.0005)

    def resume(self) -> None:
        """After a fork, in the parent: open connections again."""
        self._fork_until = 0.0
        self.spare = SPARE if self._users else 0
        self._opening.resume()

    def start_over(self) -> None:
        """After a fork, in the child: an open connection is the parent's; keep it from every finalizer."""
        adopt(self.path, [pooled for pooled in list(self._connections) if not pooled.closed])
        self._connections.clear()
        self.idle.clear()
        self._fork_until = 0.0
        self.spare = SPARE if self._users else 0
        self._reset()


def _crowded(path: str) -> StoreTrouble:
    what = (
        "a program that keeps reading it keeps its log from being emptied, and the log has its share: end that program"
    )
    return StoreTrouble("store-full", f"{path}: {what}")


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], until: float) -> T:
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"), until)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return result


registering = OwnedLock()
