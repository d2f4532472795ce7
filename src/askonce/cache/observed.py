"""What shows from outside what a cache does: the statuses of lookups, events, counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from askonce.cache.common import CacheOrHandle
from askonce.core.wording import Entered, plain_function, shown
from askonce.errors import UsageError
from askonce.events import ELSEWHERE, Event, Events, Status, left, watching


class Watch(Entered, AbstractContextManager[list[Status]]):
    """A block whose lookups are collected."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._seen: list[Status] = []

    def __enter__(self) -> list[Status]:
        watching.set((*watching.get(), (self._events, self._seen)))
        return self._seen

    def __exit__(self, *raised: object) -> None:
        if not left(watching, self._events, self._seen):
            self._events.warn_once("watch", ELSEWHERE, "watch()")


class Observed(CacheOrHandle):
    """The part of a cache that shows what it does."""

    def watch(self) -> AbstractContextManager[list[Status]]:
        """Collect the statuses of the lookups made inside the block, in order, also those of SDKs and frameworks."""
        return Watch(self._base.events)

    def on_event(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every Event, in the thread where it happens. Return a function that ends this.

        UsageError if it is no function. What it raises is logged once, and reaches no caller.
        """
        if not plain_function(listener):
            raise UsageError(f"on_event({shown(listener)}): give a plain function that is called with each Event")
        return self._base.events.listen(listener)

    def stats(self) -> dict[str, Any]:
        """Return the counts of this cache's events since it was made, by name, and what is under way now.

        ``flights``: upstream calls. ``waiting``: callers that wait for calls of other processes. ``breaker``, and
        ``breakers`` for each direction: the trouble for which the store is not used, or ``closed``. ``background``: the
        connection of the background thread, ``ok``, ``idle`` or its trouble. ``near cache``: the state of this
        process's near cache at this address, its entries, bytes and bound. ``notes dropped``: those that will explain
        no miss, because too many waited or the store had trouble.
        """
        return self._base.state()
