"""How a task is woken, from any thread: wakeup.Wakeup for code that loads asyncio."""

from __future__ import annotations

import asyncio

from askonce.errors import UsageError


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop; UsageError under another library's loop, which cannot run asyncio tasks."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "no asyncio event loop runs here: AsyncCache needs one (asyncio.run, or anyio.run with backend='asyncio');"
            " under trio use Cache in a thread: await trio.to_thread.run_sync(...)"
        ) from None


class TaskSignal:
    """Wakes a task from any thread."""

    __slots__ = ("_waiter", "_woken", "loop")

    def __init__(self) -> None:
        self.loop = running_loop()
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake it; a wake-up before the wait is not lost."""
        if asyncio._get_running_loop() is self.loop:  # noqa: SLF001 - asyncio's own fast test for "on this loop"
            self._wake()
            return
        try:
            self.loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            return  # the loop is closed: nothing waits there any more

    def _wake(self) -> None:
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float) -> bool:
        """Suspend for at most `timeout` s; return whether it was woken."""
        if not self._woken:
            await self._wait(timeout)
        woken, self._woken = self._woken, False
        return woken

    async def _wait(self, timeout: float) -> None:
        task = asyncio.current_task(self.loop)
        cancelled = task.cancelling() if task is not None else 0
        self._waiter = waiter = self.loop.create_future()
        # A method of the future, not a function of ours: an exception at the function's first step would end it,
        # and the wait would never end.
        timer = self.loop.call_later(timeout, waiter.cancel)
        try:
            await waiter
        except asyncio.CancelledError:
            if task is None or task.cancelling() > cancelled or not waiter.cancelled():
                raise  # not caused by the timer, or not only
        finally:
            timer.cancel()
            self._waiter = None
