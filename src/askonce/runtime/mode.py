"""What runs the work of an engine, in threads or in tasks: `threads.Threads` and `tasks.Tasks` are the two.

Whoever starts something here is told who owns it, what cancels it, and that it has ended, in whatever way.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar


class Signal(Protocol):
    """What a waiting caller is woken by; `ring` may come from any thread."""

    def ring(self) -> None:
        """Wake the caller; a ring before the wait is not lost."""
        ...

    async def wait(self, timeout: float) -> bool:
        """Wait for a ring, at most `timeout` s; whether it came."""
        ...


class Owner(Protocol):
    """Who has something here, and may end without giving it back."""

    def alive(self) -> bool:
        """Whether it still runs, or may yet. Asked from any thread."""
        ...


# Refreshes under way at once; one more is given up, for its stale answer was served already. Not a handful: what was
# filled together ends together, and 200 keys whose lives end within 4 s have 50 calls of 1 s under way at once.
BACKGROUND = 128


Work = Callable[[], Coroutine[Any, Any, None]]  # makes what is to be run


class Job(Protocol):
    """What is to be run: told who runs it and what cancels that, and that it is over, in whatever way."""

    owner: Owner
    cancel: Callable[[], object] | None

    def ended(self, why: BaseException | None) -> None:
        """What ran it is over, perhaps before its first line; `why` is what that raised, if it did."""
        ...


J = TypeVar("J", bound=Job)


class Mode(Protocol):
    """How an engine runs and waits."""

    asynchronous: bool

    def signal(self) -> Signal:
        """Something to be woken by, for the caller of this moment."""
        ...

    def owner(self) -> Running:
        """An owner for what the caller of this moment does."""
        ...

    async def start(self, jobs: Sequence[Job], work: Work, /) -> None:
        """Run jobs that a caller waits for: sync in its own thread to their end, async in a task that owns them."""
        ...

    def behind(self, jobs: Sequence[Job], work: Work, /) -> str:
        """Run jobs that nobody waits for, in what owns them; or run nothing, and say why."""
        ...

    def beside(self, began: Callable[[Owner], object], work: Work, /) -> bool:
        """Run what otherwise its callers run by turns, in a thread; `began` is told of it. False without one."""
        ...

    def send(self, to: Signal, work: Work, /) -> Owner:
        """Run something where the one that `to` wakes belongs: a thread, a task of its loop. From any thread."""
        ...

    def later(self, job: J, seconds: float, act: Callable[[J], object]) -> None:
        """Do something about a job in a while, if it has not ended by then, and if this is possible here."""
        ...

    def told(self, why: BaseException) -> BaseException:
        """What a caller is told of the exception that ended its job, which is none of its call's errors."""
        ...

    def hurried(self) -> bool:
        """Whether the caller of this moment is being ended, and is not to wait."""
        ...

    async def settle(self, seconds: float) -> None:
        """Wait for jobs that were cancelled, at most `seconds`."""
        ...


class Running(Owner, Protocol):
    """An Owner of code that is to be run as its `work`."""

    work: Any
