"""How to run and to wait in threads: the counterpart of tasks.Tasks. Only they know which mode the engine runs in."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from askonce.runtime.drive import drive
from askonce.runtime.exits import hook_process_end, interrupted, over, start_thread
from askonce.runtime.mode import BACKGROUND, J, Job, Signal, Work
from askonce.runtime.ownership import Owner, owned
from askonce.runtime.wakeup import Wakeup

BEGIN = 2.0  # s for a started thread to begin


class ThreadSignal:
    """Wakes a thread."""

    def __init__(self) -> None:
        self._wakeup = Wakeup()

    def wake(self) -> None:
        """Wake it; a wake-up before the wait is not lost."""
        self._wakeup.set()

    async def wait(self, timeout: float) -> bool:
        """Block this thread for at most `timeout` s; return whether it was woken."""
        return self._wakeup.wait(timeout)


class Threads:
    """Sync: a call runs in its caller's own thread, a refresh in a daemon thread."""

    asynchronous = False

    def __init__(self) -> None:
        self._refreshing: dict[Owner, None] = {}

    def signal(self) -> Signal:
        """A signal that wakes the current thread."""
        return ThreadSignal()

    def owner(self) -> Owner:
        """An owner for the current thread's code: it lives while the code runs."""
        return Owner()

    async def start(self, _: Sequence[Job], work: Work) -> None:
        """Run the work to its end, here."""
        await work()

    def run_in_background(self, jobs: Sequence[Job], work: Work) -> str:
        """Run it in a daemon thread: a pool's threads would delay the interpreter's exit behind a hanging upstream."""
        if over():
            return "exit"
        if self._full():
            return "too-many-refreshes"
        hook_process_end()
        owner = Owner()
        owner.work = owned(partial(self._refreshed, owner, work))
        self._refreshing[owner] = None
        if self._begun(owner, "askonce-refresh", contextvars.copy_context().run, drive):
            for job in jobs:
                job.owner = owner  # not earlier: until then the lookup is the owner
            return ""
        self._refreshing.pop(owner, None)
        return "no-thread"

    @staticmethod
    def _begun(owner: Owner, name: str, *run: Any) -> bool:
        begun = False
        try:
            owner.until = time.monotonic() + BEGIN  # if this line is not reached, no thread is about to begin
            begun = start_thread(name, *run, owner.work) is not None
        finally:
            if not begun:
                owner.until = 0.0  # from here on it lives only if it runs already
        return begun

    def _full(self) -> bool:
        """Whether the limit is reached. Before it says so, it forgets threads that ended without notice."""
        if len(self._refreshing) >= BACKGROUND:
            for owner in list(self._refreshing):
                if not owner.alive():
                    self._refreshing.pop(owner, None)
        return len(self._refreshing) >= BACKGROUND

    async def _refreshed(self, owner: Owner, work: Work) -> None:
        try:
            await work()
        finally:
            self._refreshing.pop(owner, None)

    def run_in_thread(self, began: Callable[[Owner], object], work: Work) -> bool:
        """Run it in a thread of its own."""
        owner = Owner()  # without `until`: an exception may come before the thread is started
        owner.work = owned(work)
        began(owner)
        return self._begun(owner, "askonce-pump", drive)

    def send(self, _: Signal, work: Work) -> Owner:
        """Run it in a thread of its own, or in this one if none can be started."""
        owner = Owner()
        owner.work = owned(work)
        if not self._begun(owner, "askonce-close", drive):
            drive(owner.work)
        return owner

    def when(self, ready: Callable[[], bool], work: Work) -> Callable[[], object]:
        """Run it in a thread of its own, by who finds that it is ready: no thread waits for it."""
        left = [work]

        def look() -> None:
            if left and ready():
                with contextlib.suppress(IndexError):  # another thread has it
                    self.send(ThreadSignal(), left.pop())

        return look

    def later(self, job: J, seconds: float, act: Callable[[J], object]) -> None:
        """Do nothing: only its caller can end a call in a thread."""

    def for_caller(self, why: BaseException) -> BaseException:
        """The exception itself: nothing else was given it."""
        return why

    def must_not_wait(self) -> bool:
        """Whether a Ctrl-C ends the current thread."""
        return interrupted()

    async def give_way(self) -> None:
        """Do nothing: the interpreter lets other threads run."""

    async def settle(self, seconds: float) -> None:
        """Do nothing: no job can be cancelled."""
