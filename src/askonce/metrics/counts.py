"""What the caches of one registry did in this process, counted by labels as it happens.

The counts begin when a cache is given to `prometheus()`.
"""

from __future__ import annotations

import time
from bisect import bisect_left

from askonce.core.spent import Balance, Spent
from askonce.events import OUTCOMES, Event, Status, Subject
from askonce.metrics.series import Durations, LabelValues, Row, Series

# s. A hit of the near cache takes some us, one over a network some ms, a call up to minutes.
LOOKUP_BOUNDS = (2e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20, 60)
CALL_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)


SAVED = {"hits": "hit", "joined": "joined", "stale": "stale"}
PAID = {"led": "led", "refreshes": "refresh", "doubled": "doubled"}
TIMED = tuple(outcome for outcome in OUTCOMES if outcome != "bypass")  # what passes is not looked up


class Money:
    """Tokens, nano-dollars and milliseconds by kind, model and tenant: whole numbers, which add up exactly."""

    def __init__(self, models: LabelValues, tenants: LabelValues) -> None:
        self.tokens, self.nanodollars, self.ms = (Series(None, models, tenants) for _ in range(3))

    def add(self, row: Row, spent: Spent) -> None:
        """Add what calls cost, or would have cost."""
        if spent.calls or spent.tokens:
            self.tokens.settle(row, spent.tokens)
            self.nanodollars.settle(row, spent.nanodollars)
            self.ms.settle(row, spent.ms)

    def all(self) -> tuple[Series, Series, Series]:
        """The three."""
        return self.tokens, self.nanodollars, self.ms


class Counts:
    """An Observer that counts; every metric of askonce that is no gauge comes from here."""

    def __init__(self) -> None:
        models, tenants, details = LabelValues(), LabelValues(), LabelValues()
        self._labels = (models, tenants, details)
        self.lookups = Series(None, details, models, tenants)
        self.calls = Series(models, tenants)
        self.stored = Series(models, tenants)
        self.failures = Series(details, models, tenants)
        self.unstored = Series(details, models, tenants)
        self.events = Series(None, details)
        self.saved, self.paid = Money(models, tenants), Money(models, tenants)
        self.unpriced = Series(models, tenants)
        self.lookup_seconds = Durations(LOOKUP_BOUNDS, None)
        self.call_seconds = Durations(CALL_BOUNDS, models)
        self._outcomes = self._by_outcome()

    def _by_outcome(self) -> dict[str, list[int]]:
        rows = self.lookup_seconds.rows
        for outcome in TIMED:
            rows[outcome] = [0] * (len(LOOKUP_BOUNDS) + 1)
            self.lookup_seconds.sums[outcome] = 0.0
        return rows

    def looked_up(self, outcome: str, status: Status, subject: Subject | None, entry: bytes | None) -> None:  # noqa: ARG002
        """Count a lookup. This is on the path of a hit: two additions to a dict, one to a list."""
        if subject is None:
            row = (outcome, status.detail, "", "")
        else:
            row = (outcome, status.detail, subject.model, subject.tenant)
            if subject.began:
                seconds = time.perf_counter() - subject.began
                self._outcomes[outcome][bisect_left(LOOKUP_BOUNDS, seconds)] += 1
                self.lookup_seconds.sums[outcome] += seconds
        try:
            self.lookups.counts[row] += 1
        except KeyError:
            self.lookups.add(row, proven=status.hit or status.stored)

    def happened(self, event: Event) -> None:
        """Count an event that is no lookup."""
        model, tenant = str(event.data.get("model", "")), str(event.data.get("tenant", ""))
        match event.name:
            case "call":
                self.calls.add((model, tenant))
            case "called":
                seconds = event.data.get("seconds")
                self.call_seconds.observe(model, seconds if isinstance(seconds, float) else 0.0)
            case "stored":
                self.stored.add((model, tenant), proven=True)
            case "failed":
                self.failures.add((event.detail, model, tenant))
            case "unstored":
                self.unstored.add((event.detail, model, tenant))
            case _:
                self.events.add((event.name, event.detail))

    def balanced(self, model: str, tenant: str, balance: Balance) -> None:
        """Add what lookups saved and what calls cost; told by the background thread, about once a second."""
        for kind, word in SAVED.items():
            self.saved.add((word, model, tenant), getattr(balance, kind))
        for kind, word in PAID.items():
            self.paid.add((word, model, tenant), getattr(balance, kind))
        if unpriced := balance.asked.unpriced + balance.refreshes.unpriced + balance.doubled.unpriced:
            self.unpriced.settle((model, tenant), unpriced)

    def plain(self) -> tuple[Series, ...]:
        """Lookups, calls, failures, stored, unstored, events, unpriced."""
        return self.lookups, self.calls, self.failures, self.stored, self.unstored, self.events, self.unpriced

    def clear(self) -> None:
        """Begin anew."""
        for series in (*self.plain(), *self.saved.all(), *self.paid.all()):
            series.clear()
        for durations in (self.lookup_seconds, self.call_seconds):
            durations.rows.clear()
            durations.sums.clear()
        for label in self._labels:
            label.clear()
        self._by_outcome()
