"""How the commands to a Cluster wait: in a thread, or in a task of an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from askonce.runtime.task_signal import running_loop
from askonce.runtime.wakeup import Wakeup

T = TypeVar("T")
Begin = Callable[[Callable[[], object]], object]  # begins something that calls what it is given when it is over


class Waits(Protocol):
    """The ways to wait of one mode."""

    async def pause(self, seconds: float) -> None:
        """Wait that long."""
        ...

    async def until_told(self, begin: Begin, timeout: float) -> None:
        """Begin something, and wait until it is over, at most `timeout` s."""
        ...

    async def side_by_side(self, works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run all of them, at the same time where that is possible."""
        ...


class ThreadWaits:
    """In a thread: these never suspend."""

    async def pause(self, seconds: float) -> None:
        """Wait that long."""
        _sleep(seconds)

    async def until_told(self, begin: Begin, timeout: float) -> None:
        """Begin something, and wait until it is over, at most `timeout` s."""
        wakeup = Wakeup()
        begin(wakeup.set)
        wakeup.wait(timeout)

    async def side_by_side(self, works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run them one after another."""
        return [await work for work in works]


class TaskWaits:
    """In a task."""

    async def pause(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)

    async def until_told(self, begin: Begin, timeout: float) -> None:
        """Begin something, and wait until it is over, at most `timeout` s."""
        loop = running_loop()
        told = loop.create_future()

        def tell() -> None:
            if not told.done():
                told.set_result(None)

        def over() -> None:
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:
                return  # the loop is closed, and nothing waits in it

        begin(over)
        await asyncio.wait((told,), timeout=timeout)

    async def side_by_side(self, works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run them at the same time."""
        return [await works[0]] if len(works) == 1 else await asyncio.gather(*works)


_sleep = time.sleep  # a coroutine of a thread blocks it
