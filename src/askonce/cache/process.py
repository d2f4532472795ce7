"""The caches of this process, and what a fork and the end of the interpreter do to them."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from askonce.engine.batch import BatchEngine
from askonce.engine.closing import Closing
from askonce.events import log
from askonce.runtime import exits
from askonce.runtime.forks import around_forks


class OfProcess(Protocol):
    """A cache, as far as the process concerns it."""

    def after_fork(self) -> None:
        """In a forked child: drop the parent's threads, connections and flights."""
        ...

    def engine(self) -> BatchEngine:
        """The engine of this process."""
        ...


known_caches: weakref.WeakSet[OfProcess] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(known_caches):
        cache.after_fork()


around_forks(in_child=_after_fork)


def _last_of(cache: OfProcess, until: float) -> None:
    cache.engine().last(until)


def _last() -> None:
    """The interpreter ends: give flights without a caller a moment more, in all caches at once."""
    until = time.monotonic() + (0.0 if exits.interrupted() else exits.LAST)
    all_last: list[Callable[[float], object]] = [partial(_last_of, cache) for cache in list(known_caches)]
    # Of caches that are gone, too: a flight under way keeps what ends it.
    all_last += [closing.last for closing in list(Closing.known) if not closing.given_up]
    for last in all_last:
        try:
            last(until)
        except (KeyboardInterrupt, SystemExit):  # a signal: the user or the supervisor waits for this end
            until = 0.0
            last(until)  # once more: what is left is still given up, and reported
        except Exception:  # noqa: BLE001 - whatever it is, the other caches end as they should
            log.exception("a cache could not end as it should: what it had under way may be paid for once more")


exits.before_exit(_last)
