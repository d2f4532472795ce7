"""How to run and to wait in tasks: the counterpart of threads.Threads.

It has a file of its own: a program of threads needs no asyncio, and loading it takes as long as the whole library.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from askonce.runtime.exits import LAST, ending, interrupted
from askonce.runtime.mode import BACKGROUND, J, Job, Owner, Signal, Work
from askonce.runtime.task_signal import TaskSignal, running_loop

# s that an event loop may stand still between two runs: as long as a lease lives without renewal. A loop that is run
# and blocked lives: its calls go on, and their answers are paid for.
STALLED = 5.0
LOOK = 60.0  # s after which what waits to be told looks by itself
GIVEN_BACK = 0.5  # s in which a refresh that is cancelled gives its lease back


class LoopOwner:
    """A lookup or a job in a task. It lives until it has ended, and while its loop is run.

    `work` is a weak reference: so a task that is dropped with its loop is closed at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, task: asyncio.Task[None] | None = None) -> None:
        self.task = task  # alone says whether it has ended, if there is one
        self._loop = loop or running_loop()
        self._pid = os.getpid()
        self._work: Callable[[], Any] = _nothing
        by = asyncio.current_task(self._loop) if task is None else None
        self._by = None if by is None else weakref.ref(by)
        self._seen = time.monotonic()

    @property
    def work(self) -> Any:
        """The generator that runs it."""
        return self._work()

    @work.setter
    def work(self, work: Any) -> None:
        self._work = weakref.ref(work)

    def alive(self) -> bool:
        """Whether it has not ended, and may go on."""
        if self._ended() or self._loop.is_closed() or self._pid != os.getpid():
            return False
        now = time.monotonic()
        if self._loop.is_running():
            self._seen = now
        elif ending():
            return False  # the loop will not run it again
        return now - self._seen < STALLED

    def _ended(self) -> bool:
        if self.task is not None:
            return self.task.done()
        # A traceback also keeps suspended code: that of the exception which ended its task.
        if self._by is not None and ((by := self._by()) is None or by.done()):
            return True
        work = self._work()
        return work is None or not (work.gi_running or work.gi_suspended)


def _nothing() -> None:
    """No work."""


async def _when(ready: Callable[[], bool], signal: TaskSignal, work: Work) -> None:
    """Run work when it is ready. If the loop ends, what goes on here has a moment more; what is not over then runs in
    another loop, and the work would harm it.
    """
    try:
        await _until(ready, signal, math.inf)
    except asyncio.CancelledError:
        with contextlib.suppress(asyncio.CancelledError):
            await _until(ready, signal, LAST + GIVEN_BACK)
        if not ready():
            return
    await work()


async def _until(ready: Callable[[], bool], signal: TaskSignal, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not ready() and (left := until - time.monotonic()) > 0:
        await signal.wait(min(left, LOOK))


class _Sent(LoopOwner):
    """Work sent to a loop from any thread: it has not ended before it has begun."""

    def _ended(self) -> bool:
        return self.task is not None and self.task.done()


class Tasks:
    """Async: every job is a task of its own with its caller's context; cancelling a caller never cancels it."""

    asynchronous = True

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: set[asyncio.Task[None]] = set()

    def signal(self) -> Signal:
        """A signal that wakes the current task."""
        return TaskSignal()

    def owner(self) -> LoopOwner:
        """An owner that is the current task."""
        return LoopOwner()

    async def start(self, jobs: Sequence[Job], work: Work) -> None:
        """Start a task for the jobs; it runs when this returns."""
        self._spawn(jobs, asyncio.get_running_loop().create_task(work(), name="askonce-flight"))

    def run_in_background(self, jobs: Sequence[Job], work: Work) -> str:
        """The same, with a limit on the tasks that run at once."""
        if self._full():
            return "too-many-refreshes"
        task = Refresh(work(), loop=asyncio.get_running_loop(), name="askonce-refresh")
        _make_parts_of(task)
        self._spawn(jobs, task)
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)
        return ""

    def _full(self) -> bool:
        """Whether the limit is reached. Before it says so, it forgets tasks that a closed loop took with it."""
        if len(self._refreshing) >= BACKGROUND:
            for task in list(self._refreshing):
                if task.get_loop().is_closed():
                    self._refreshing.discard(task)
        return len(self._refreshing) >= BACKGROUND

    def run_in_thread(self, _: Callable[[Owner], object], __: Work) -> bool:
        """True: the jobs' own task runs already."""
        return True

    def send(self, to: Signal, work: Work) -> Owner:
        """Run it in a task of the signal's loop; not at all if that loop is closed."""
        assert isinstance(to, TaskSignal)
        owner = _Sent(to.loop)
        with contextlib.suppress(RuntimeError):
            to.loop.call_soon_threadsafe(self._sent, owner, work)
        return owner

    def _sent(self, owner: LoopOwner, work: Work) -> None:
        owner.task = self._kept(asyncio.get_running_loop().create_task(work(), name="askonce-close"))

    def when(self, ready: Callable[[], bool], work: Work) -> Callable[[], object]:
        """Have a task wait for it: a loop that ends waits for its tasks, and runs none that begins after that."""
        signal = TaskSignal()
        task = signal.loop.create_task(_when(ready, signal, work), name="askonce-close")
        self._kept(task)._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - as of a Refresh
        return signal.wake

    def later(self, job: J, seconds: float, act: Callable[[J], object]) -> None:
        """Set a timer on the running loop."""
        loop = asyncio.get_running_loop()
        # Keep neither the job nor its caller's context so long: thousands of streams may be abandoned meanwhile.
        timer = loop.call_later(seconds, _if_there, weakref.ref(job), act, context=contextvars.Context())
        task = job.owner.task if isinstance(job.owner, LoopOwner) else None
        if task is not None and task.get_loop() is loop:
            task.add_done_callback(lambda _: timer.cancel())

    def for_caller(self, why: BaseException) -> BaseException:
        """An exception that ends the program was given to the loop by the job's task; the caller must not repeat it."""
        return asyncio.CancelledError() if isinstance(why, KeyboardInterrupt | SystemExit) else why

    def must_not_wait(self) -> bool:
        """Whether a Ctrl-C, or a cancellation, ends the current task."""
        task = asyncio.current_task(running_loop())
        return interrupted() or (task is not None and task.cancelling() > 0)

    async def give_way(self) -> None:
        """Begin again in the next turn of the loop."""
        await asyncio.sleep(0)

    async def settle(self, seconds: float) -> None:
        """Wait for the tasks of this loop."""
        here = running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is here and task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _kept(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """A task that stays until it is done: a loop has only weak references, and it might vanish while it runs."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn(self, jobs: Sequence[Job], task: asyncio.Task[None]) -> None:
        loop = task.get_loop()
        owner = LoopOwner(loop, task)
        self._kept(task).add_done_callback(partial(_ended, jobs))

        def cancel(unless: Callable[[], bool] | None = None) -> None:
            with contextlib.suppress(RuntimeError):  # its loop is closed, and so is the task
                # The last caller may have waited on another loop.
                loop.call_soon_threadsafe(_cancel, task, unless)

        for job in jobs:
            job.owner = owner
            job.cancel = cancel


# The refreshes around this code. A task, a timer and a callback that a refresh begins copy it.
_around: contextvars.ContextVar[tuple[weakref.ref[Refresh], ...]] = contextvars.ContextVar("around", default=())


class Refresh(asyncio.Task[None]):
    """A refresh. An event loop that ends cancels all tasks and waits for them: this one then gets LAST s more.

    No caller waits for it. So what cancels it from outside is the end of its loop; this library uses `end`. From
    inside, a time limit, a task group or a cancel scope of its own call cancels it and catches that: anyio does so
    whenever it has connected. Such a cancellation is not put off.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        context = contextvars.copy_context()
        context.run(_around.set, (*_around.get(), weakref.ref(self)))
        super().__init__(*arguments, context=context, **more)
        self._log_destroy_pending = False  # a loop may end without cancelling its tasks; the background thread notices
        self._ending = False

    def cancel(self, msg: Any = None) -> bool:
        """Cancel in LAST s; at once if its own call asks, if asked again, or after a Ctrl-C."""
        if self.done() or self._ending or interrupted() or any(one() is self for one in _around.get()):
            return super().cancel(msg)
        self._ending = True
        self.get_loop().call_later(LAST, self.end)
        return True

    def end(self) -> bool:
        """Cancel now."""
        return super().cancel()


class _Part(asyncio.Task[Any]):
    """A task that the call of a refresh began, perhaps without knowing it: `wait_for`, a task group, a connection that
    is opened. A loop that ends cancels it too, which would end the call. So it has the moment that its refresh has.
    """

    def __init__(self, refresh: Refresh, *arguments: Any, **more: Any) -> None:
        self._refresh = weakref.ref(refresh)
        self._ending = False
        super().__init__(*arguments, **more)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel now; if a loop that ends asks, when its refresh is over."""
        refresh, loop = self._refresh(), self.get_loop()
        # Who cancels it while the loop runs means it: its parent, or its refresh, whose time is over.
        meant = loop.is_running() or self.done() or self._ending or interrupted()
        if meant or refresh is None or refresh.done():
            return super().cancel(msg)
        self._ending = True
        refresh.add_done_callback(self._end)
        loop.call_later(LAST, self._end)
        return True

    def _end(self, _: object = None) -> None:
        super().cancel()


class _Factory:
    """A loop's task factory while it has refreshes, of whatever cache: what one of them begins is a part of it."""

    def __init__(self) -> None:
        self._refreshes = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        context = more.get("context")
        around = _around.get() if context is None else context.get(_around, ())
        refresh = next((one for ref in reversed(around) if (one := ref()) is not None and not one.done()), None)
        if refresh is None:
            return asyncio.Task(work, loop=loop, **more)
        return _Part(refresh, work, loop=loop, **more)

    def count(self, refresh: Refresh) -> None:
        """Stay until it is over."""
        self._refreshes += 1
        refresh.add_done_callback(self._over)

    def _over(self, refresh: asyncio.Task[None]) -> None:
        self._refreshes -= 1
        loop = refresh.get_loop()
        if not self._refreshes and loop.get_task_factory() is self:
            loop.set_task_factory(None)


def _make_parts_of(refresh: Refresh) -> None:
    """Have the tasks that its call begins made as its parts, unless the program has a task factory of its own."""
    loop = refresh.get_loop()
    if (factory := loop.get_task_factory()) is None:
        loop.set_task_factory(factory := _Factory())
    if isinstance(factory, _Factory):
        factory.count(refresh)


def _cancel(task: asyncio.Task[None], unless: Callable[[], bool] | None) -> None:
    """Cancel a task of this loop, which takes no step meanwhile."""
    if unless is None or not unless():
        (task.end if isinstance(task, Refresh) else task.cancel)()


def _if_there(job: weakref.ref[J], act: Callable[[J], object]) -> None:
    if (found := job()) is not None:
        act(found)


def _ended(jobs: Sequence[Job], task: asyncio.Task[None]) -> None:
    """Tell the jobs that their task ended, even before its first line."""
    why = None if task.cancelled() else task.exception()
    for job in jobs:
        job.ended(why)
