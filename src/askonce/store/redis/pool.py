"""The connections of one process to one Redis, for any thread that needs one: few, and shared by short-lived threads.

A thread takes the connection that was used last, and gives it back. If there is none, it waits until one is given back
or made. One or two threads connect, however many wait. So 400 threads that start at the same moment make a handful of
connections, and a thread that ends leaves none behind.

A lookup has two exchanges or more. If a connection that is given back went to the thread that waits longest each time,
its giver would wait for its own next exchange, and soon every thread would wait at each of them, and be woken from each
wait. So a waiting thread is only woken, and whoever comes first takes the connection. A thread that was overtaken for
some milliseconds is handed the next one.

A thread waits on while others of its process get answers. If none gets one for a timeout, that is trouble; so is one
second of waiting. A process's first connection may take as long as connecting may.

Only the thread that took a connection closes it: `close` empties the pool, and a connection in use is closed by its
user. No lock is held, so no finaliser, signal or fork can find one held: each step is one step of a deque.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque

from askonce.runtime.exits import start_thread
from askonce.runtime.wakeup import Wakeup
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connecting import first, open_connection, was_first
from askonce.store.redis.connection import TRUSTED, Connection
from askonce.store.redis.trouble import over, unconnected

MOST = 32  # connections of one process; more callers than that wait a tenth of a millisecond each
SPARE = 4  # connections kept although unused for long
CONNECTING = 2  # connections being made at the same time
OVERTAKEN = 0.01  # s in which others may come before a waiting thread
LOOK = 0.05  # s between two checks of a waiting thread: a connection may be lost with the thread that had it


class _Waiter:
    """A thread that waits for a connection."""

    __slots__ = ("connection", "first", "trouble", "wakeup")

    def __init__(self, first: float) -> None:
        self.first = first  # from when on it comes before others (monotonic s)
        self.connection: Connection | None = None
        self.trouble: StoreTrouble | None = None
        self.wakeup = Wakeup()


class _Connecting:
    """A connection that `thread` makes in an epoch of the address. `until`: when it must be over (monotonic s)."""

    __slots__ = ("epoch", "thread", "until")

    def __init__(self, epoch: int, until: float) -> None:
        self.epoch = epoch
        self.until = until
        self.thread: threading.Thread | None = None

    @property
    def died(self) -> bool:
        """Whether its thread ended without notice."""
        thread = self.thread
        return thread is not None and thread.ident is not None and not thread.is_alive()


class Pool:
    """All connections. `progress`: when the store last answered one that another thread waited for."""

    def __init__(self, address: RedisAddress) -> None:
        self.idle: deque[Connection] = deque()
        self.progress = 0.0
        self.closed = False
        self._address = address
        self._epoch = address.epoch
        self._waiting: deque[_Waiter] = deque()
        self._connections: dict[int, weakref.ref[Connection]] = {}  # all open ones, by the ids of their objects
        self._connecting: dict[int, _Connecting] = {}  # under way, by their places
        self._failed = -address.connect_timeout  # when one failed last

    def take(self, now: float) -> Connection | None:
        """A free connection that may be trusted; None if there is none."""
        while True:
            try:
                connection = self.idle.pop()
            except IndexError:
                return None
            if connection.epoch == self._epoch.number and now - connection.used < TRUSTED:
                return connection
            connection.close()  # dropped on the way without notice, or no longer a primary's

    def give(self, connection: Connection) -> None:
        """Give a connection back, for the next thread that takes one."""
        idle = self.idle
        idle.append(connection)
        if self._waiting or self.closed:
            self.progress = time.monotonic()
            self._settle()
        elif len(idle) > SPARE:
            self._close_surplus(connection.used - TRUSTED)

    def _settle(self, *, hands: bool = False) -> None:
        """See to it that an idle connection is used, if threads wait; `hands`: by the one that waits longest."""
        if self.closed:
            self.close()
        while self.idle and self._waiting:
            now = time.monotonic()
            if not hands and self._woken(now):
                return
            if (connection := self.take(now)) is None:
                return
            self._hand_over(connection)

    def _woken(self, now: float) -> bool:
        """Wake the thread that waits longest, to take a connection if it can; False if it must be handed one."""
        with contextlib.suppress(IndexError):  # none waits any more
            waiter = self._waiting[0]
            if now >= waiter.first:
                return False
            waiter.wakeup.set()
        return True

    def _close_surplus(self, since: float) -> None:
        """Close the surplus connections that were not used since then (monotonic s)."""
        idle = self.idle
        with contextlib.suppress(IndexError):
            while len(idle) > SPARE and idle[0].used < since:
                idle.popleft().close()

    def _hand_over(self, connection: Connection) -> None:
        try:
            waiter = self._waiting.popleft()
        except IndexError:
            self.idle.append(connection)
            return
        waiter.connection = connection
        waiter.wakeup.set()

    def wait(self, began: float) -> Connection:
        """A connection for a caller that began then (monotonic s); StoreTrouble if there is none in time."""
        waiter = _Waiter(time.monotonic() + OVERTAKEN)
        self._waiting.append(waiter)
        try:
            while waiter.connection is None:
                if (connection := self.take(time.monotonic())) is not None:
                    return connection
                self._connect_more()
                left = self._until(began) - time.monotonic()
                if self.closed:
                    raise over()
                if waiter.trouble is not None or left <= 0:
                    was_first(self._address)
                    raise waiter.trouble or unconnected(self._address.timeout)
                waiter.wakeup.wait(min(left, LOOK))
            connection, waiter.connection = waiter.connection, None
            return connection
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
            if waiter.connection is not None:
                self.give(waiter.connection)
            elif self._waiting and self.idle:
                self._settle()  # of several that were given back, this thread alone may have been woken

    def _until(self, began: float) -> float:
        """How long a caller waits (monotonic s)."""
        since = first(self._address)
        if since is None:
            return began + self._address.connect_timeout
        served = max(began, self.progress) + self._address.timeout
        return min(served, max(began, since) + self._address.connect_timeout)

    def open(self) -> int:
        """How many connections there are, in use or not."""
        for name, known in list(self._connections.items()):
            connection = known()
            if connection is None or connection.closed:
                self._connections.pop(name, None)
        return len(self._connections)

    # connecting

    def _connect_more(self) -> None:
        """Make sure that a connection is being made, if one more is allowed."""
        now = time.monotonic()
        self._forget(now)
        if (
            len(self._connecting) >= CONNECTING
            or self._enough()
            or (now < self._failed + self._address.timeout and self.open())
        ):
            return
        for place in range(CONNECTING if self.open() else 1):
            attempt = _Connecting(self._epoch.number, now + 2 * self._address.connect_timeout)
            try:
                if self._connecting.setdefault(place, attempt) is attempt:
                    self._start(place, attempt)
                    return
            except BaseException:  # an interrupt: an attempt without a thread would have the place until its limit
                self._leave(place, attempt)
                raise

    def _leave(self, place: int, attempt: _Connecting) -> None:
        if self._connecting.get(place) is attempt:
            self._connecting.pop(place, None)

    def _forget(self, now: float) -> None:
        """Stop counting attempts whose threads ended before they began, and those that are known to lead nowhere."""
        for place, attempt in list(self._connecting.items()):
            if now > attempt.until or attempt.died or attempt.epoch != self._epoch.number:
                self._connecting.pop(place, None)

    def _start(self, place: int, attempt: _Connecting) -> None:
        attempt.thread = start_thread("askonce-connect", self._connect, place, attempt)
        if attempt.thread is None:
            self._connect(place, attempt)

    def _enough(self) -> bool:
        return self.closed or not self._waiting or self.open() >= MOST

    def _connect(self, place: int, attempt: _Connecting) -> None:
        """Make connections for as long as a thread waits for one."""
        try:
            while not self._enough() and self._connecting.get(place) is attempt:
                asked = list(self._waiting)
                attempt.until = time.monotonic() + 2 * self._address.connect_timeout
                try:
                    connection = open_connection(self._address)
                except StoreTrouble as trouble:
                    self._fail_waiters(trouble, asked)
                    return
                self._connections[id(connection)] = weakref.ref(connection)
                if was_first(self._address):
                    self.progress = time.monotonic()
                self.idle.append(connection)
                self._settle(hands=True)  # else this thread would make one more, for a thread that is being woken
        finally:
            self._leave(place, attempt)

    def _fail_waiters(self, trouble: StoreTrouble, asked: list[_Waiter]) -> None:
        """Give the attempt's trouble to the threads that waited for it, unless there are connections to wait for."""
        self._failed = time.monotonic()
        was_first(self._address)
        if not self.open():
            for waiter in asked:
                waiter.trouble = trouble
                waiter.wakeup.set()

    # ending

    def close(self) -> None:
        """Close unused connections; one in use is closed when it comes back. A finaliser may call it."""
        self.closed = True
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()
