"""Savings: what a cache's calls cost, what they would have cost without it, and the sums of both.

A lookup ends in one of four ways, and each counts the usage of the answer that its caller got: *led* (its own call), a
*hit*, *joined* (the flight of another caller), *stale* (an old answer). Two kinds of calls have no caller that paid for
its own answer: *refreshes*, in the background, and *doubled* calls. A call is doubled if its caller counts as answered
by another's: it had joined a leader that went silent and took over, or upstream failed and an old answer was served.

So three sums hold, for calls, tokens, money and seconds:

    asked = led + hits + joined + stale          what the same lookups would have cost without the cache
    paid  = led + refreshes + doubled            what went upstream
    saved = asked - paid = hits + joined + stale - refreshes - doubled

A fill is not a cost of the cache: its caller would have paid for it anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from operator import attrgetter
from typing import Any, Literal

By = Literal["model", "scope", "tenant", "day"]
BY: tuple[By, ...] = ("model", "scope", "tenant", "day")
OTHER = "(other)"  # the label of what came after a day's table of labels was full
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls cost, or would have cost.

    `tokens_in` includes those that the provider read from its own prompt cache, which `tokens_cached` counts.
    `tokens_out` includes thoughts. `nanodollars`: 10**-9 US dollars. `ms`: the duration of the calls. `unpriced`:
    answers whose tokens are known and whose price is not; they add nothing to `nanodollars`.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    nanodollars: int = 0
    ms: int = 0
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.tokens_in + self.tokens_out

    @property
    def usd(self) -> float:
        """US dollars."""
        return self.nanodollars / NANO

    @property
    def micros(self) -> int:
        """Micro-dollars, rounded."""
        return round(self.nanodollars / 1000)

    @property
    def seconds(self) -> float:
        """Seconds of calls."""
        return self.ms / 1000

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) + getattr(other, name) for name in SPENT))

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) - getattr(other, name) for name in SPENT))

    def times(self, count: int) -> Spent:
        """The same so many times."""
        return Spent(*(getattr(self, name) * count for name in SPENT))

    def as_dict(self) -> dict[str, Any]:
        """The numbers as JSON, with `tokens`, `usd` and `seconds`."""
        return {**asdict(self), "tokens": self.tokens, "usd": self.usd, "seconds": self.seconds}


SPENT = tuple(one.name for one in fields(Spent))
NOTHING = Spent()


def sum_of(parts: Iterable[Spent]) -> Spent:
    """The sum of costs."""
    return Spent(*map(sum, zip(*map(attrgetter(*SPENT), parts), strict=True)))


@dataclass(frozen=True, slots=True)
class Balance:
    """The sums of some lookups (see above). `unanswered`: lookups that may only be answered by the store, and were not;
    they are no part of the other sums.
    """

    led: Spent = NOTHING
    hits: Spent = NOTHING
    joined: Spent = NOTHING
    stale: Spent = NOTHING
    refreshes: Spent = NOTHING
    doubled: Spent = NOTHING
    unanswered: int = 0

    @property
    def asked(self) -> Spent:
        """What the lookups would have cost without the cache."""
        return self.led + self.hits + self.joined + self.stale

    @property
    def paid(self) -> Spent:
        """What went upstream."""
        return self.led + self.refreshes + self.doubled

    @property
    def saved(self) -> Spent:
        """What was asked and not paid, less what the cache itself paid. It may be negative."""
        return self.hits + self.joined + self.stale - self.refreshes - self.doubled

    @property
    def hit_ratio(self) -> float:
        """The share of the lookups that no call of their own answered, 0 to 1; 0 without lookups."""
        asked = self.asked.calls
        return (asked - self.led.calls) / asked if asked else 0.0

    def __add__(self, other: Balance) -> Balance:
        return Balance(*(getattr(self, name) + getattr(other, name) for name in BALANCE))

    def as_dict(self) -> dict[str, Any]:
        """The numbers as JSON, each kind and the three sums."""
        kinds = {name: getattr(self, name).as_dict() for name in (*KINDS, "asked", "paid", "saved")}
        return {**kinds, "unanswered": self.unanswered, "hit_ratio": self.hit_ratio}


BALANCE = tuple(one.name for one in fields(Balance))
KINDS = BALANCE[:-1]


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one group. `labels`: its values of what the rows are split by, in that order.

    A model, scope or tenant is "" where a question has none, and OTHER after a day's table was full. A day is
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
    """The sums of the days from `since` to `until`, both included (UTC), in all and by group.

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
        """The upper edge, in ms, of the range in which this share (0 to 1) ends; None if nothing was measured."""
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


# Three for each factor of ten, so that a quantile is known to within a factor of two and a half.
EDGES = tuple(float(digit) * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5))


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour (UTC): its sums, and the latency of hits and of calls."""

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
