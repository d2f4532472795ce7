"""What a cache reports in numbers: of this process, and of all that use its prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from askonce.cache import results
from askonce.engine.batch import BatchEngine
from askonce.events import Events


class Reported:
    """The part of a cache that counts."""

    events: Events

    def engine(self) -> BatchEngine:
        """The engine of this process."""
        raise NotImplementedError

    def open_engine(self) -> BatchEngine:
        """The same, for whatever uses the store."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Counts of events, and what is under way now: what `stats()` returns."""
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

    async def saved(self, since: results.Since | None, by: str | Sequence[str]) -> results.Savings:
        """The savings of some days, for sync and async."""
        from askonce.cache.savings import saved  # late: for people, and no lookup needs it

        return await saved(self.open_engine(), since, by)

    async def active(self, days: int) -> results.Activity:
        """What happened in the last days, for sync and async."""
        from askonce.cache.savings import active  # likewise

        return await active(self.open_engine(), days)
