"""What the pages ask of a view."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Protocol

from askonce.core.savings import Activity, Savings
from askonce.core.why import Miss
from askonce.gateway.results import Answers, Filter, Flight, Invalidated, Rows


class Sight(Protocol):
    """A view of a store, whose methods raise StoreTrouble or StoreUnavailable where the store fails."""

    @property
    def address(self) -> str:
        """The store's address, without a password."""
        ...

    @property
    def prefix(self) -> str:
        """The prefix of its names."""
        ...

    async def now(self) -> float:
        """The store's clock, s since 1970."""
        ...

    async def entries(self, wanted: Filter | None = None, limit: int = 50) -> Rows:
        """Entries, in no order."""
        ...

    async def entry(self, key: str, *, body: bool = False) -> Answers:
        """The forms of one entry."""
        ...

    async def invalidate(self, aim: dict[str, Any], *, dry_run: bool = False) -> Invalidated:
        """Invalidate, or count what would be."""
        ...

    async def flights(self, limit: int = 100) -> Sequence[Flight]:
        """The calls in progress, the longest first."""
        ...

    async def savings(self, since: int | date) -> Savings:
        """The sums since a day, or of so many days (1 is today)."""
        ...

    async def activity(self, days: int = 1) -> Activity:
        """What happened in so many days: by hour, why requests passed, which keys are hottest."""
        ...

    async def misses(self, limit: int = 20) -> Sequence[Miss]:
        """The last misses, the newest first."""
        ...
