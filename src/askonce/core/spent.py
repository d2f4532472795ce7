"""What calls cost (Spent), and what a cache's calls cost and would have cost without it (Balance).

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

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What calls cost, or would have cost.

    `calls`: how many. `tokens_in`: tokens, those too that the provider read from its own prompt cache, which are the
    tokens of `tokens_cached`. `tokens_out`: tokens, those of thoughts too. `nanodollars`: 10**-9 US dollars. `ms`: the
    duration of the calls. `unpriced`: answers whose tokens are known and whose price is not; they add nothing to
    `nanodollars`.
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
        """The same `count` times."""
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
    """The sums of some lookups, by how they ended.

    `led`: by a call of their own. `hits`: from the store. `joined`: by another caller's call. `stale`: with an old
    answer. `refreshes`: calls in the background. `doubled`: second calls: a leader went silent or failed; of a batch.
    `unanswered`: how many lookups may only be answered by the store, and were not; they are no part of the other sums.
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
