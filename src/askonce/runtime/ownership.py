"""Who holds something, as the interpreter knows it: a lock or a lease is held while the code that took it runs.

An exception may come between any two instructions: a Ctrl-C, a time limit that a signal enforces, a MemoryError. Then
a flag that says "I hold it" is never reset. A lock is never released if the exception comes between `acquire()` and the
`try`, or between the last line of a ``with`` and its end. A running generator is different: the interpreter knows that
it runs, and that ends with the generator, whatever ends it. So a generator takes what is to be held, and code that
finds it taken asks whether that generator still runs.
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

LOOK = 0.02  # s between two checks of a thread that waits for a lock: a wake-up may be lost with its sender


class Busy(Exception):
    """The lock was not free in time. `by_me`: this thread holds it, further up its stack, so it cannot become free."""

    def __init__(self, *, by_me: bool = False) -> None:
        super().__init__("held by this very thread" if by_me else "held by another thread")
        self.by_me = by_me

    @property
    def at(self) -> Literal["command", "key"]:
        """Where the trouble is (StoreTrouble.at): a thread that waits for itself proves nothing about the store."""
        return "key" if self.by_me else "command"


class Owner:
    """Code that holds something. `work` is the generator that runs it; one that has not begun counts until `until`."""

    __slots__ = ("over", "pid", "thread", "until", "work")

    def __init__(self, until: float = 0.0) -> None:
        self.work: Any = None  # a generator
        self.until = until  # monotonic s
        self.over = False
        self.pid = os.getpid()
        self.thread = threading.get_ident()

    @property
    def runs(self) -> bool:
        """Whether the code runs now, in any thread of this process."""
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
    """A coroutine that is a generator, for an Owner: no warning is printed if an exception keeps it from beginning."""
    return _owned(work)


class _Ticket(Owner):
    """An Owner in a queue: the first in `after` owns the lock when this one no longer does."""

    __slots__ = ("after",)

    def __init__(self) -> None:
        super().__init__()
        self.after: list[_Ticket] = []


class OwnedLock:
    """Mutual exclusion that nothing can leave locked. It is free in a forked child, whatever held it in the parent.

    For what one thread at a time may do. To pass data, threads use dicts and deques, each of whose methods is one step
    of the interpreter.
    """

    def __init__(self) -> None:
        self._last = _Ticket()
        self._waiting: deque[threading.Lock] = deque()
        self._paused = 0.0  # monotonic s

    @property
    def held(self) -> bool:
        """Whether the lock is held."""
        return self._end().runs

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        last = self._end()
        return last.runs and last.thread == threading.get_ident()

    def run(self, section: Callable[[], T], patience: float = float("inf"), waits: Callable[[], object] = int) -> T:
        """Run `section` when no other code runs one; Busy if that was impossible for `patience` s.

        `waits` is called between two attempts, and may raise.
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
        """The same for a `section` that takes no lock, and that a signal handler may run in the middle of itself."""
        try:
            return self.run(section)
        except Busy:
            return section()

    def pause(self, seconds: float) -> None:
        """Let no section begin until `resume`, or for so many s; wait as long for the one that runs."""
        until = time.monotonic() + seconds
        self._paused = until + seconds
        while self.held and not self.mine and time.monotonic() < until:
            time.sleep(0.0005)

    def resume(self) -> None:
        """Let sections begin again."""
        self._paused = 0.0
        self._wake()

    def _held(
        self, ticket: _Ticket, section: Callable[[], T], patience: float, waits: Callable[[], object]
    ) -> Generator[None, None, T]:
        yield from ()  # this makes it a generator
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
        self._last = ticket  # only a shorter way to the end: if this is lost, `after` still leads there
        return True

    def _wait(self, ticket: _Ticket, patience: float, waits: Callable[[], object]) -> None:
        until = time.monotonic() + patience
        wakeup = threading.Lock()
        wakeup.acquire()
        self._waiting.append(wakeup)
        try:
            while not self._took(ticket):
                if self.mine:
                    raise Busy(by_me=True)
                if (left := until - time.monotonic()) <= 0:
                    raise Busy
                if sys.is_finalizing():
                    raise Busy  # held by a thread that was stopped for good
                waits()
                if wakeup.acquire(timeout=min(left, LOOK)):
                    self._waiting.appendleft(wakeup)  # it was first in line, and is again if it was overtaken
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(wakeup)

    def _wake(self) -> None:
        with contextlib.suppress(IndexError):
            self._waiting.popleft().release()
