"""How to run and to wait in threads: the twin of tasks.Tasks. They alone in the engine know which of the two runs."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from askonce.runtime.drive import drive
from askonce.runtime.exits import expect_the_end, interrupted, over, start_thread
from askonce.runtime.mode import BACKGROUND, J, Job, Signal, Work
from askonce.runtime.ownership import Owner, owned
from askonce.runtime.wakeup import Wakeup

BEGIN = 2.0  # s that a thread which was started may take to begin


class ThreadSignal:
    """Wakes a thread."""

    def __init__(self) -> None:
        self._wakeup = Wakeup()

    def ring(self) -> None:
        """Wake it; a ring before the wait is not lost."""
        self._wakeup.set()

    async def wait(self, timeout: float) -> bool:
        """Block this thread for at most `timeout` s; whether it was rung."""
        return self._wakeup.wait(timeout)


class Threads:
    """Sync: a call runs in its caller's own thread, a refresh in a daemon thread."""

    asynchronous = False

    def __init__(self) -> None:
        self._refreshing: dict[Owner, None] = {}

    def signal(self) -> Signal:
        """A thread's."""
        return ThreadSignal()

    def owner(self) -> Owner:
        """A thread's: it lives while the code runs."""
        return Owner()

    async def start(self, _: Sequence[Job], work: Work) -> None:
        """To its end, here and now."""
        await work()

    def behind(self, jobs: Sequence[Job], work: Work) -> str:
        """In a daemon thread: a pool's threads would hold up the interpreter's exit behind a hung upstream."""
        if over():
            return "exit"
        if self._full():
            return "too-many-refreshes"
        expect_the_end()
        owner = Owner()
        owner.work = owned(partial(self._refreshed, owner, work))
        self._refreshing[owner] = None
        if self._begun(owner, "askonce-refresh", contextvars.copy_context().run, drive):
            for job in jobs:
                job.owner = owner  # and not before: until then the lookup is
            return ""
        self._refreshing.pop(owner, None)
        return "no-thread"

    @staticmethod
    def _begun(owner: Owner, name: str, *run: Any) -> bool:
        begun = False
        try:
            owner.until = time.monotonic() + BEGIN  # where this is not come to, it is not about to begin
            begun = start_thread(name, *run, owner.work) is not None
        finally:
            if not begun:
                owner.until = 0.0  # it lives only if it runs already
        return begun

    def _full(self) -> bool:
        """Whether as many run as may. Those that ended without a word are counted out when it seems so."""
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

    def beside(self, began: Callable[[Owner], object], work: Work) -> bool:
        """A thread for it."""
        owner = Owner(time.monotonic() + BEGIN)
        owner.work = owned(work)
        began(owner)
        return self._begun(owner, "askonce-pump", drive)

    def send(self, _: Signal, work: Work) -> Owner:
        """A thread of its own; where there is none left, in this one."""
        owner = Owner()
        owner.work = owned(work)
        if not self._begun(owner, "askonce-close", drive):
            drive(owner.work)
        return owner

    def later(self, job: J, seconds: float, act: Callable[[J], object]) -> None:
        """Never: nobody but its caller can end a call in a thread."""

    def told(self, why: BaseException) -> BaseException:
        """That very exception: nobody else was told."""
        return why

    def hurried(self) -> bool:
        """By a Ctrl-C."""
        return interrupted()

    async def settle(self, seconds: float) -> None:
        """For nothing: likewise."""
