"""Totals: the entries of a store, counted by state, scope and model, on one walk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from askonce.core.codec import PLAIN, Codec
from askonce.store import Store, inventory
from askonce.store.inventory import Listed

STEP = 1000  # entries between two reports of progress


@dataclass(slots=True)
class Group:
    """Some entries: how many, how large in the store, and how long their upstream calls took together, s."""

    entries: int = 0
    bytes: int = 0
    took: float = 0.0

    def add(self, entry: Listed) -> None:
        """One more."""
        self.entries += 1
        self.bytes += entry.size
        self.took += entry.took


@dataclass(slots=True)
class Totals:
    """All entries that were met, dead ones too. An entry without a scope, or a model, is counted under ""."""

    all: Group = field(default_factory=Group)
    states: dict[str, int] = field(default_factory=dict)
    scopes: dict[str, Group] = field(default_factory=dict)
    models: dict[str, Group] = field(default_factory=dict)

    def add(self, entry: Listed, now: float) -> None:
        """One more."""
        self.all.add(entry)
        state = state_of(entry, now)
        self.states[state] = self.states.get(state, 0) + 1
        self.scopes.setdefault(entry.scope, Group()).add(entry)
        self.models.setdefault(entry.model, Group()).add(entry)


def state_of(entry: Listed, now: float) -> str:
    """``fresh``, ``stale``, ``error`` (only on error), ``over`` or ``invalidated``; `now` in s of the store's clock."""
    if not entry.live:
        return "invalidated"
    ends = (("fresh", entry.fresh), ("stale", entry.stale), ("error", entry.error))
    return next((state for state, end in ends if now < end), "over")


async def take(store: Store, progress: Callable[[int], None], codec: Codec = PLAIN) -> Totals:
    """Count everything of the store's prefix; `progress` hears now and then how many entries were met."""
    totals = Totals()
    now = await inventory.now_us(store) / 1_000_000
    async for record, head, live in inventory.records(store):
        totals.add(inventory.listed(record, head, live, codec), now)
        if totals.all.entries % STEP == 0:
            progress(totals.all.entries)
    return totals
