"""The one thread that waits for a file's locks on behalf of event loops.

Not a ThreadPoolExecutor: it starts its thread in `submit` after queueing the work, and raises if none can be started.
And its futures have locks, which a signal in the event loop's thread can leave locked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from askonce.runtime.exits import start_thread
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from askonce.runtime.task_signal import TaskSignal

T = TypeVar("T")

REST = 5.0  # s that the thread waits for more work before it ends
BEGIN = 0.5  # s for a thread to begin; after that another one is started, and one of them works
LOOK = 1.0  # s after which a waiting task checks by itself
GROUP = 32  # pieces of work that are done in one step


class Joint(Protocol):
    """Work that can be done in one step with other work: either all of it is done, or nothing, and then it raises."""

    def __call__(self) -> Any:
        """Do it alone."""

    def joins(self, other: object) -> bool:
        """Whether the other work may be done in one step with this."""

    def with_others(self, works: Sequence[Any]) -> list[Any]:
        """Do all `works`, of which this is one, in one step; return their results."""


@cache
def _signals() -> type[TaskSignal]:
    from askonce.runtime.task_signal import TaskSignal  # late: a Cache for threads has no use for asyncio

    return TaskSignal


class _Job(Generic[T]):
    """Work to do for a task that waits for it."""

    def __init__(self, work: Callable[[], T], joint: Joint | None = None) -> None:
        self.work = work
        self.joint = joint  # the same work, if others may be done with it
        self.signal = _signals()()
        self.left = False  # the task was cancelled: the work must not begin any more
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def waits(self) -> bool:
        """Whether its task waits for work that was not done."""
        return not (self.left or self.done)

    def do(self) -> None:
        """Do the work, unless its task has left or the work was done."""
        if not self.waits:
            return
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - the task gets it
            self.error = error
        self._over()

    def brought(self, result: T) -> None:
        """The work was done with other work."""
        self.result = result
        self._over()

    def _over(self) -> None:
        self.done = True
        self.signal.wake()


def _do_all(jobs: Sequence[_Job[Any]]) -> None:
    """Do a group's work in one step; if that fails, one after another, so that each task gets its own error."""
    waiting = [job for job in jobs if job.waits]
    first = waiting[0].joint if len(waiting) > 1 else None
    if first is not None:
        try:
            results = first.with_others([job.work for job in waiting])
        except BaseException:  # noqa: BLE001 - whoever has it meets it again
            results = []
        for job, result in zip(waiting, results, strict=False):
            job.brought(result)
    for job in waiting:
        job.do()


class WorkerThread:
    """Does what tasks ask for, one job after another, in a thread that is started when it is needed."""

    def __init__(self) -> None:
        self._jobs: deque[_Job[Any]] = deque()
        self._wakeup = Wakeup()
        self._running = OwnedLock()
        self._thread: threading.Thread | None = None
        self._began = -BEGIN
        self._over = False

    async def do(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, run in the thread; or run here if no thread can be started."""
        return await self._done(_Job(work))

    async def do_joint(self, work: Joint) -> Any:
        """The same for work that is done in one step with what waits beside it."""
        return await self._done(_Job(work, work))

    async def _done(self, job: _Job[T]) -> T:
        try:
            self._jobs.append(job)
            self._start()
            self._wakeup.set()
            while not job.done:
                if not await job.signal.wait(LOOK):
                    self._start()
        finally:
            job.left = True
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _start(self) -> None:
        now = time.monotonic()
        if self._running.held or now - self._began < BEGIN:
            return
        try:
            self._began = now
            thread = start_thread("askonce-sqlite", self._run)
        except BaseException:  # an interrupt: no thread begins
            self._began = now - BEGIN
            raise
        if thread is None:
            self._began = now - BEGIN
            self._here()
        else:
            self._thread = thread

    def _here(self) -> None:
        try:
            self._running.run(self._work, 0.0)
        except Busy:
            return

    def _run(self) -> None:
        try:
            self._running.run(self._rest, 0.0)
        except Busy:
            return

    def _rest(self) -> None:
        self._began = -BEGIN
        while not self._over:
            self._work()
            if not self._wakeup.wait(REST) and not self._jobs:
                return
        self._work()

    def _work(self) -> None:
        while self._jobs:
            group = self._group()
            _do_all(group)
            for _ in group:
                self._jobs.popleft()  # not earlier: if this is interrupted, the jobs are there for the next thread

    def _group(self) -> list[_Job[Any]]:
        """The next job, and those behind it that may be done in one step with it."""
        group = [self._jobs[0]]
        joint = group[0].joint
        if joint is None:
            return group
        for number in range(1, min(len(self._jobs), GROUP)):  # not an iterator: tasks append meanwhile
            job = self._jobs[number]
            if job.joint is None or not joint.joins(job.joint):
                break
            group.append(job)
        return group

    def close(self) -> None:
        """End the thread."""
        self._over = True
        self._wakeup.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
