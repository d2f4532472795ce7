"""What runs an engine's work, in threads or in tasks: `threads.Threads` and `tasks.Tasks`.

Each Job that is started learns what owns it, what cancels it, and that it has ended, in whatever way.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar


class Signal(Protocol):
    """Wakes a waiting caller; `wake` may be called from any thread."""

    def wake(self) -> None:
        """Wake the caller; a wake-up before the wait is not lost."""
        ...

    async def wait(self, timeout: float) -> bool:
        """Wait for a wake-up, at most `timeout` s; return whether it came."""
        ...


class Owner(Protocol):
    """Code that holds something here, and may end without giving it back."""

    def alive(self) -> bool:
        """Whether it still runs, or may yet run. Called from any thread."""
        ...


# Refreshes under way at once; one more is not started, for its stale answer was already served. Not a handful: entries
# that were filled together end together, and 200 keys that end within 4 s have 50 calls of 1 s under way at once.
BACKGROUND = 128


Work = Callable[[], Coroutine[Any, Any, None]]  # makes what is to be run


class Cancel(Protocol):
    """Cancels what runs a job."""

    def __call__(self, unless: Callable[[], bool] | None = None) -> object:
        """Cancel it, from any thread; not if `unless` says so at the moment when it would be cancelled."""
        ...


class Job(Protocol):
    """Something to run. It learns what runs it, what cancels it, and that it is over, in whatever way."""

    owner: Owner
    cancel: Cancel | None

    def ended(self, why: BaseException | None) -> None:
        """What ran it is over, perhaps before its first line; `why` is the exception that ended it, if any."""
        ...


J = TypeVar("J", bound=Job)


class Mode(Protocol):
    """How an engine runs and waits."""

    asynchronous: bool

    def signal(self) -> Signal:
        """A signal that wakes the current caller."""
        ...

    def owner(self) -> Running:
        """An owner for what the current caller does."""
        ...

    async def start(self, jobs: Sequence[Job], work: Work, /) -> None:
        """Run jobs that a caller waits for. Sync: to their end, in its own thread. Async: in a task that owns them."""
        ...

    def run_in_background(self, jobs: Sequence[Job], work: Work, /) -> str:
        """Run jobs that no caller waits for, in a thread or task that owns them. If they are not run, return why."""
        ...

    def run_in_thread(self, began: Callable[[Owner], object], work: Work, /) -> bool:
        """Run in a thread what callers otherwise run in turns; `began` gets its owner. False if there is no thread."""
        ...

    def send(self, to: Signal, work: Work, /) -> Owner:
        """Run work where the caller of `to` belongs: in a thread, or in a task of its loop. From any thread."""
        ...

    def when(self, ready: Callable[[], bool], work: Work, /) -> Callable[[], object]:
        """Run work once, as soon as it is ready. Call what this returns, from any thread, when that may have changed.

        In a task of the current loop, or in a thread. A loop that ends runs it before it is closed.
        """
        ...

    def later(self, job: J, seconds: float, act: Callable[[J], object]) -> None:
        """Call `act` with a job after `seconds`, if the job has not ended by then, and if the mode can."""
        ...

    def for_caller(self, why: BaseException) -> BaseException:
        """The exception that a caller gets for one that ended its job and is not an error of its call."""
        ...

    def must_not_wait(self) -> bool:
        """Whether the current caller is being ended, and must not wait."""
        ...

    async def give_way(self) -> None:
        """Let other tasks of the loop run: in threads they do so anyway."""
        ...

    async def settle(self, seconds: float) -> None:
        """Wait for cancelled jobs, at most `seconds`."""
        ...


class Running(Owner, Protocol):
    """An Owner of code that runs as its `work`."""

    work: Any
