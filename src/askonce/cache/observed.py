"""What shows from outside what a cache does: the statuses of lookups, events, counts, savings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from askonce.core.wording import shown
from askonce.engine.batch import BatchEngine
from askonce.errors import UsageError
from askonce.events import Event, Events, Status, watching

if TYPE_CHECKING:
    from askonce.cache.savings import Since
    from askonce.core.savings import Activity, Savings


class Observed:
    """The part of a cache that is looked at."""

    events: Events

    def engine(self) -> BatchEngine:
        """The engine of this process."""
        raise NotImplementedError

    @contextmanager
    def watch(self) -> Iterator[list[Status]]:
        """Collect the statuses of the lookups made inside the block, in order, frameworks' and SDKs' included."""
        seen: list[Status] = []
        token = watching.set((*watching.get(), (self.events, seen)))
        try:
            yield seen
        finally:
            watching.reset(token)

    def on_event(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every Event, in the thread where it happens. Return a function that ends this.

        UsageError if it is no function. What it raises is logged once, and reaches no caller.
        """
        if not callable(listener):
            raise UsageError(f"on_event({shown(listener)}): give a function that is called with each Event")
        return self.events.listen(listener)

    def stats(self) -> dict[str, Any]:
        """Counts of events since this cache was made, and what is under way now.

        ``near cache``: the state of this process's near cache at this address, its entries, bytes and bound. ``notes
        dropped``: those that will explain no miss, because too many waited or the store had trouble.
        """
        engine = self.engine()
        breakers = engine.background.breakers
        return {
            **self.events.counts(),
            "flights": len(engine.board.flights()),
            "waiting": engine.background.waiting(),
            "breaker": breakers.kind(),
            "breakers": breakers.kinds(),
            "background": engine.background.state,
            **({} if not (dropped := engine.background.notes.dropped) else {"notes dropped": dropped}),
            **({} if (near := engine.store.near) is None else {"near cache": near.stats()}),
        }

    async def saved(self, since: Since | None, by: str | Sequence[str]) -> Savings:
        """The savings of some days, for sync and async."""
        from askonce.cache.savings import saved  # late: for people, and no lookup needs it

        return await saved(self.engine(), since, by)

    async def active(self, days: int) -> Activity:
        """What happened in the last days, for sync and async."""
        from askonce.cache.savings import active  # likewise

        return await active(self.engine(), days)
