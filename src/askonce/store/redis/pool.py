"""The connections of one process to one Redis, for whichever thread needs one: few, and shared by short-lived threads.

A thread takes the line that was used last and gives it back. One that finds none waits for the first that is given
back, or that a dial brings; dials are made by a thread or two, whoever waits. So 400 threads that start at the same
moment dial a handful of connections, and a thread that ends leaves none of its own.

While others of its process are answered, a thread waits on. Nobody answered for a timeout is trouble; so is one second
in line. The first connection of a process may take as long as connecting may.

Only who has taken a line out closes it: `close` empties the pool, and a line that is in use is closed by its user. No
lock is held, so that a finaliser, a signal or a fork cannot find one held: each step is one of a deque's.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque

from askonce.runtime.exits import start_thread
from askonce.runtime.wakeup import Wakeup
from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connecting import first, open_line, was_first
from askonce.store.redis.connection import TRUSTED, Line
from askonce.store.redis.trouble import over, unconnected

MOST = 32  # lines of one process: more callers than that at once wait their turn, a tenth of a millisecond each
SPARE = 4  # lines kept although nobody has used them for long
DIALS = 2  # lines being made at the same time
LOOK = 0.05  # s between two looks of a thread that waits: a line may have been lost with the thread that had it


class _Waiter:
    """A thread that waits for a line."""

    __slots__ = ("line", "trouble", "wakeup")

    def __init__(self) -> None:
        self.line: Line | None = None
        self.trouble: StoreTrouble | None = None
        self.wakeup = Wakeup()


class _Dial:
    """A line being made by a `thread`, in an epoch of the address. `until`: when it must be over (monotonic s)."""

    __slots__ = ("epoch", "thread", "until")

    def __init__(self, epoch: int, until: float) -> None:
        self.epoch = epoch
        self.until = until
        self.thread: threading.Thread | None = None

    @property
    def died(self) -> bool:
        """Whether its thread ended without a word."""
        thread = self.thread
        return thread is not None and thread.ident is not None and not thread.is_alive()


class Pool:
    """The lines of one process. `progress`: when the store last answered one of ours whom another waited for."""

    def __init__(self, address: RedisAddress) -> None:
        self.idle: deque[Line] = deque()
        self.progress = 0.0
        self.closed = False
        self._address = address
        self._epoch = address.epoch
        self._waiting: deque[_Waiter] = deque()
        self._lines: dict[int, weakref.ref[Line]] = {}  # all that are open, by the ids of their objects
        self._dials: dict[int, _Dial] = {}  # under way, by their places
        self._failed = -CONNECT_TIMEOUT  # when one failed last

    def take(self, now: float) -> Line | None:
        """A line that is there and may be trusted."""
        while True:
            try:
                line = self.idle.pop()
            except IndexError:
                return None
            if line.epoch == self._epoch.number and now - line.used < TRUSTED:
                return line
            line.close()  # it may have been dropped on the way without a word, or leads to what is no primary any more

    def give(self, line: Line) -> None:
        """A line is free again: for who waits longest, or for who comes next."""
        idle = self.idle
        idle.append(line)
        if self._waiting or self.closed:
            self.progress = time.monotonic()
            self._settle()
        elif len(idle) > SPARE:
            self._thin(line.used - TRUSTED)

    def _settle(self) -> None:
        if self.closed:
            self.close()
        while self._waiting and (line := self.take(time.monotonic())) is not None:
            self._hand(line)

    def _thin(self, since: float) -> None:
        """Close the lines that are too many, if nobody has used them since then (monotonic s)."""
        idle = self.idle
        with contextlib.suppress(IndexError):
            while len(idle) > SPARE and idle[0].used < since:
                idle.popleft().close()

    def _hand(self, line: Line) -> None:
        try:
            waiter = self._waiting.popleft()
        except IndexError:
            self.idle.append(line)
            return
        waiter.line = line
        waiter.wakeup.set()

    def wait(self, began: float) -> Line:
        """A line for a caller who began then (monotonic s); StoreTrouble when there is none in time."""
        waiter = _Waiter()
        self._waiting.append(waiter)
        try:
            while waiter.line is None:
                if (line := self.take(time.monotonic())) is not None:
                    return line
                self._dial()
                left = self._until(began) - time.monotonic()
                if self.closed:
                    raise over()
                if waiter.trouble is not None or left <= 0:
                    was_first(self._address)
                    raise waiter.trouble or unconnected(self._address.timeout)
                waiter.wakeup.wait(min(left, LOOK))
            line, waiter.line = waiter.line, None
            return line
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
            if waiter.line is not None:
                self.give(waiter.line)

    def _until(self, began: float) -> float:
        """How long a caller waits (monotonic s)."""
        since = first(self._address)
        if since is None:
            return began + CONNECT_TIMEOUT
        served = max(began, self.progress) + self._address.timeout
        return min(served, max(began, since) + CONNECT_TIMEOUT)

    def open(self) -> int:
        """How many lines there are, in use or not."""
        for name, known in list(self._lines.items()):
            line = known()
            if line is None or line.closed:
                self._lines.pop(name, None)
        return len(self._lines)

    # dialling

    def _dial(self) -> None:
        """See to it that a line is being made, if one more may be."""
        now = time.monotonic()
        self._forget(now)
        if len(self._dials) >= DIALS or self._enough() or (now < self._failed + self._address.timeout and self.open()):
            return
        for place in range(DIALS if self.open() else 1):
            dial = _Dial(self._epoch.number, now + 2 * CONNECT_TIMEOUT)
            if self._dials.setdefault(place, dial) is dial:
                self._start(place, dial)
                return

    def _forget(self, now: float) -> None:
        """No more count dials whose threads were ended before they began, and those that lead nowhere, as is known."""
        for place, dial in list(self._dials.items()):
            if now > dial.until or dial.died or dial.epoch != self._epoch.number:
                self._dials.pop(place, None)

    def _start(self, place: int, dial: _Dial) -> None:
        dial.thread = start_thread("askonce-dial", self._dialling, place, dial)
        if dial.thread is None:
            self._dialling(place, dial)

    def _enough(self) -> bool:
        return self.closed or not self._waiting or self.open() >= MOST

    def _dialling(self, place: int, dial: _Dial) -> None:
        """Make lines for as long as somebody waits for one."""
        try:
            while not self._enough() and self._dials.get(place) is dial:
                asked = list(self._waiting)
                dial.until = time.monotonic() + 2 * CONNECT_TIMEOUT
                try:
                    line = open_line(self._address)
                except StoreTrouble as trouble:
                    self._missed(trouble, asked)
                    return
                self._lines[id(line)] = weakref.ref(line)
                if was_first(self._address):
                    self.progress = time.monotonic()
                self.idle.append(line)
                self._settle()
        finally:
            if self._dials.get(place) is dial:
                self._dials.pop(place, None)

    def _missed(self, trouble: StoreTrouble, asked: list[_Waiter]) -> None:
        """Whoever waited for this dial has its trouble, unless there are lines to wait for."""
        self._failed = time.monotonic()
        was_first(self._address)
        if not self.open():
            for waiter in asked:
                waiter.trouble = trouble
                waiter.wakeup.set()

    # ending

    def close(self) -> None:
        """Close what nobody uses; what is in use is closed when it comes back. A finaliser may call it."""
        self.closed = True
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()
