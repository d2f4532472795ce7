"""How to run and to wait in tasks: the twin of flight.Threads.

In a file of its own, because a program of threads has no use for asyncio, and loading it takes as long as all of us.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from askonce.ear import Signal
from askonce.flight import BACKGROUND, Flight

if TYPE_CHECKING:
    from askonce.pump import Pump


class TaskSignal:
    """Wakes a task from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake it; a ring before the wait is not lost."""
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - asyncio's own fast test for "on this loop"
            self._ring()
            return
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            return  # the loop is closed: nobody waits there any more

    def _ring(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float) -> bool:
        """Suspend for at most `timeout` s; whether it was rung."""
        if not self._rung:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout, self._expire, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        rung, self._rung = self._rung, False
        return rung

    @staticmethod
    def _expire(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)


class Tasks:
    """Async: every flight is a task of its own with its caller's context; cancelling a caller never cancels it."""

    asynchronous = True

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._behind = 0

    def signal(self) -> Signal:
        """A task's."""
        return TaskSignal()

    async def start(self, flight: Flight, work: Coroutine[Any, Any, None]) -> None:
        """Under way when this returns."""
        self._spawn(flight, work)

    def behind(self, flight: Flight, work: Coroutine[Any, Any, None]) -> bool:
        """The same, bounded."""
        if self._behind >= BACKGROUND:
            work.close()
            return False
        self._behind += 1
        self._spawn(flight, work).add_done_callback(self._finished)
        return True

    def help(self, _: Flight, pump: Pump) -> None:
        """Its task runs already; it may be waiting for its readers."""
        if pump.tape.held is not None:
            pump.tape.held.ring()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """On the running loop."""
        asyncio.get_running_loop().call_later(seconds, act)

    async def settle(self, seconds: float) -> None:
        """For those of this loop."""
        here = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is here and task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _finished(self, _: asyncio.Task[None]) -> None:
        self._behind -= 1

    def _spawn(self, flight: Flight, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name="askonce-flight")
        self._tasks.add(task)  # a loop keeps only weak references: an unreferenced task may vanish under way
        task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and so is the task
                loop.call_soon_threadsafe(task.cancel)  # the last caller may have waited on another loop

        flight.cancel = cancel
        return task
