"""The caches of this process, and what a fork and the end of the interpreter do to them."""

from __future__ import annotations

import time
import weakref
from typing import Protocol

from askonce.engine.batch import BatchEngine
from askonce.runtime import exits
from askonce.runtime.forks import around_forks


class OfProcess(Protocol):
    """A cache, as far as it is concerned by what happens to its process."""

    def after_fork(self) -> None:
        """In a child: nothing of the parent's threads, connections and flights is ours."""
        ...

    def engine(self) -> BatchEngine:
        """The engine of this process."""
        ...


known_caches: weakref.WeakSet[OfProcess] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(known_caches):
        cache.after_fork()


around_forks(in_child=_after_fork)


def _last() -> None:
    """The interpreter ends: what nobody waits for has a moment more, in all caches at once."""
    until = time.monotonic() + (0.0 if exits.interrupted() else exits.LAST)
    for cache in list(known_caches):
        cache.engine().last(until)


exits.at_the_end(_last)
