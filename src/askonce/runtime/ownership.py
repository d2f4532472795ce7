"""Who holds something, as the interpreter knows it: a lock or a lease is held while the code that took it runs.

An exception may come between any two instructions: a Ctrl-C, a time limit that a signal enforces, a MemoryError. A flag
that says "I hold it" is then never taken back, and neither is a lock: between `acquire()` and the `try`, or between the
last line of a ``with`` and its end, nobody gives it back. Whether a generator runs is different. The interpreter knows
it, and it ends with the generator, whatever ends that. So what is to be held is taken by a generator, and whoever finds
it taken asks whether that one still runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal, TypeVar

T = TypeVar("T")

LOOK = 0.02  # s between two looks of a thread that waits for a lock: a wake-up may have been lost with its sender


class Busy(Exception):
    """The lock was not free in time; `by_me`: it is held further down in this very thread, and cannot become free."""

    def __init__(self, *, by_me: bool = False) -> None:
        super().__init__("held by this very thread" if by_me else "held by another thread")
        self.by_me = by_me

    @property
    def at(self) -> Literal["command", "key"]:
        """Whose trouble that is, as a StoreTrouble says it: what waits for itself says nothing of the store."""
        return "key" if self.by_me else "command"


class Owner:
    """Code that holds something. `work` is the generator that runs it; one that has not begun may until `until`."""

    __slots__ = ("over", "pid", "thread", "until", "work")

    def __init__(self, until: float = 0.0) -> None:
        self.work: Any = None  # a generator
        self.until = until  # monotonic s
        self.over = False
        self.pid = os.getpid()
        self.thread = threading.get_ident()

    @property
    def runs(self) -> bool:
        """Whether the code runs at this moment, in whatever thread of this process."""
        work = self.work
        return work is not None and work.gi_running and not self.over and self.pid == os.getpid()

    def alive(self) -> bool:
        """Whether it holds what it took: it runs, or is about to."""
        if self.runs:
            return True
        begins = self.work is not None and self.work.gi_frame is not None and not self.over
        return begins and time.monotonic() < self.until


@types.coroutine
def _owned(work: Callable[[], Coroutine[Any, Any, T]]) -> Generator[Any, Any, T]:
    result: T = yield from work()
    return result


def owned(work: Callable[[], Coroutine[Any, Any, T]]) -> Any:
    """A coroutine that is a generator, for an Owner: nothing warns of one that an exception kept from beginning."""
    return _owned(work)


class _Ticket(Owner):
    """An Owner in a queue: the first in `after` owns the lock when this one does not any more."""

    __slots__ = ("after",)

    def __init__(self) -> None:
        super().__init__()
        self.after: list[_Ticket] = []


class OwnedLock:
    """Mutual exclusion that nothing can leave locked. Free in a forked child, whoever held it in the parent.

    For what one thread at a time may do. What threads only tell each other goes through dicts and deques, each of whose
    methods is one step of the interpreter.
    """

    def __init__(self) -> None:
        self._last = _Ticket()
        self._waiting: deque[threading.Lock] = deque()
        self._paused = 0.0  # monotonic s

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self._end().runs

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        last = self._end()
        return last.runs and last.thread == threading.get_ident()

    def run(self, section: Callable[[], T], patience: float = float("inf"), waits: Callable[[], object] = int) -> T:
        """Do `section` when nobody else does; Busy when that was not possible for `patience` s.

        `waits` is called between two looks, and may raise.
        """
        ticket = _Ticket()
        ticket.work = self._held(ticket, section, patience, waits)
        try:
            next(ticket.work)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            ticket.over = True
            if self._waiting:
                self._wake()
        raise AssertionError("a locked section never suspends")

    def nested(self, section: Callable[[], T]) -> T:
        """The same, for a `section` that may come in the middle of itself, in a signal's handler, and takes no lock."""
        try:
            return self.run(section)
        except Busy:
            return section()

    def pause(self, seconds: float) -> None:
        """Let nobody begin until `resume`, or so many s from now; whoever is at it is waited for as long."""
        until = time.monotonic() + seconds
        self._paused = until + seconds
        while self.held and not self.mine and time.monotonic() < until:
            time.sleep(0.0005)

    def resume(self) -> None:
        """They may begin again."""
        self._paused = 0.0
        self._wake()

    def _held(
        self, ticket: _Ticket, section: Callable[[], T], patience: float, waits: Callable[[], object]
    ) -> Generator[None, None, T]:
        yield from ()  # what makes it a generator
        if not self._took(ticket):
            self._wait(ticket, patience, waits)
        return section()

    def _end(self) -> _Ticket:
        last = self._last
        while last.after:
            last = last.after[0]
        return last

    def _took(self, ticket: _Ticket) -> bool:
        last = self._end()
        if last.runs or (self._paused and time.monotonic() < self._paused):
            return False
        last.after.append(ticket)
        if last.after[0] is not ticket:
            return False
        self._last = ticket  # only a shorter way to the end: where this is lost, it is found through `after`
        return True

    def _wait(self, ticket: _Ticket, patience: float, waits: Callable[[], object]) -> None:
        until = time.monotonic() + patience
        bell = threading.Lock()
        bell.acquire()
        self._waiting.append(bell)
        try:
            while not self._took(ticket):
                if self.mine:
                    raise Busy(by_me=True)
                if (left := until - time.monotonic()) <= 0:
                    raise Busy
                if sys.is_finalizing():
                    raise Busy  # by a thread that was stopped for good
                waits()
                if bell.acquire(timeout=min(left, LOOK)):
                    self._waiting.appendleft(bell)  # it was its turn, and it is again if it was overtaken
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(bell)

    def _wake(self) -> None:
        with contextlib.suppress(IndexError):
            self._waiting.popleft().release()
