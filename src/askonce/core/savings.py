"""Savings, as people and pages get them: the balances (core.spent) of some days, in all, by group and by the hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from askonce.core.spent import Balance
from askonce.core.tallies import EDGES

By = Literal["model", "scope", "tenant", "day"]
BY: tuple[By, ...] = ("model", "scope", "tenant", "day")


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one group, its `balance`. `labels`: its values of what the rows are split by, in that order.

    A model, scope or tenant is "" where a question has none, and ``(other)`` after a day's table was full. A day is
    ``2026-11-26`` (UTC).
    """

    labels: tuple[str, ...]
    balance: Balance

    @property
    def label(self) -> str:
        """The first label, for rows that are split by one thing."""
        return self.labels[0] if self.labels else ""


@dataclass(frozen=True, slots=True)
class Savings:
    """The sums of the days from `since` to `until`, both included (UTC): `total`, and by group.

    `rows` are sorted by what was saved, most money first, or by day. Without `by` there are none.
    """

    since: date
    until: date
    total: Balance
    by: tuple[By, ...] = ()
    rows: tuple[Row, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The savings as JSON."""
        rows = [{**dict(zip(self.by, row.labels, strict=True)), **row.balance.as_dict()} for row in self.rows]
        said = {"since": self.since.isoformat(), "until": self.until.isoformat(), "by": list(self.by)}
        return {**said, "total": self.total.as_dict(), "rows": rows}


@dataclass(frozen=True, slots=True)
class Latency:
    """How long lookups or calls took. `counts[i]`: those of at most `EDGES[i]` ms and more than the edge before; the
    last one has no upper edge.
    """

    counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many were measured: all calls, and one in 16 hits."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The upper edge, in ms, of the range in which this `share` (0 to 1) ends; None if nothing was measured."""
        left = share * self.count
        for edge, count in zip((*EDGES, EDGES[-1]), self.counts, strict=False):
            left -= count
            if left <= 0 and count:
                return edge
        return None

    def __add__(self, other: Latency) -> Latency:
        longer, shorter = sorted((self.counts, other.counts), key=len, reverse=True)
        filled = (*shorter, *(0,) * (len(longer) - len(shorter)))
        return Latency(tuple(one + two for one, two in zip(longer, filled, strict=True)))


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour (UTC), which begins `at`: its sums (`balance`), and the latency of `hits` and of `calls`."""

    at: datetime
    balance: Balance
    hits: Latency = field(default_factory=Latency)
    calls: Latency = field(default_factory=Latency)


@dataclass(frozen=True, slots=True)
class Activity:
    """What a cache did: `hours` in order, without those in which nothing was asked.

    `passed` and `unstored`: how many requests were not looked up, and answers not stored, by reason. `hottest`: keys
    and about how often each was hit, most first. All but the hours are of whole days.
    """

    hours: tuple[Hour, ...] = ()
    passed: Mapping[str, int] = field(default_factory=dict)
    unstored: Mapping[str, int] = field(default_factory=dict)
    hottest: Sequence[tuple[str, int]] = ()

    @property
    def hits(self) -> Latency:
        """The latency of hits."""
        return total(hour.hits for hour in self.hours)

    @property
    def calls(self) -> Latency:
        """The latency of upstream calls."""
        return total(hour.calls for hour in self.hours)


def total(parts: Iterable[Latency]) -> Latency:
    """The sum of latencies."""
    found = Latency()
    for part in parts:
        found = found + part
    return found
