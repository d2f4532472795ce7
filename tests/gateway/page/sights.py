"""What a page shows, made up: a view whose results a test sets, over a real store in memory for entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from askonce.core.savings import Activity, Hour, Latency, Savings
from askonce.core.spent import Balance, Spent
from askonce.core.tallies import EDGES
from askonce.core.why import Miss, Why
from askonce.gateway.results import Flight
from askonce.gateway.view import View

Said = TypeVar("Said")
NOW = 1_795_696_200.0
MODELS = ("gpt-5.2-mini", "claude-sonnet-4-9", "gemini-3.1-flash", "text-embedding-3-large")
SCOPES = ("support/triage", "support/reply", "evals/nightly", "")


def key(number: int) -> str:
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4


@dataclass
class Told:
    """What a made-up view tells."""

    today: Balance = field(default_factory=Balance)
    month: Balance = field(default_factory=Balance)
    flights: list[Flight] = field(default_factory=list)
    activity: Activity = field(default_factory=Activity)
    misses: list[Miss] = field(default_factory=list)
    trouble: Exception | None = None
    address: str = ""
    at: float | None = None  # what its clock says, if not the time


class ToldView(View):
    """A view that tells what a test says, and reads entries from its store."""

    def __init__(self, cache: Any, told: Told) -> None:
        super().__init__(cache)
        self.told = told

    @property
    def address(self) -> str:
        return self.told.address or super().address

    def _say(self, what: Said) -> Said:
        if self.told.trouble is not None:
            raise self.told.trouble
        return what

    async def now(self) -> float:
        return await super().now() if self.told.at is None else self.told.at

    async def savings(self, since: int | date | None = None, by: str | Sequence[str] = ()) -> Savings:
        assert isinstance(since, date)
        today = datetime.fromtimestamp(await self.now(), UTC).date()
        return self._say(Savings(since, today, self.told.today if since == today else self.told.month))

    async def activity(self, days: int = 1) -> Activity:
        return self._say(self.told.activity)

    async def flights(self, limit: int = 100) -> list[Flight]:
        return self._say(self.told.flights[:limit])

    async def misses(self, limit: int = 20) -> list[Miss]:
        return self._say(self.told.misses[:limit])


def miss(at: float, number: int, model: str, scope: str, reason: str, sentence: str) -> Miss:
    return Miss(
        key(number), at, stored=True, detail="", model=model, scope=scope, why=Why(reason, sentence, key(number))
    )


def hour(at: float, lookups: int, hits: int) -> Hour:
    return Hour(datetime.fromtimestamp(at, UTC), Balance(led=Spent(lookups - hits), hits=Spent(hits)))


def latency(p50: float, p99: float) -> Latency:
    """98 of at most `p50` ms, and two of at most `p99`; edges of EDGES."""
    counts = [0] * len(EDGES)
    counts[EDGES.index(p50)] += 98
    counts[EDGES.index(p99)] += 2
    return Latency(tuple(counts))


def busy(now: float = NOW) -> Told:
    """A cache that is in use."""
    hours = []
    for number in range(24):
        lookups = int(320 + 260 * math.sin(number / 3.7) + 61 * (number % 5))
        hits = int(lookups * (0.58 + 0.13 * math.sin(number / 2.9) + 0.004 * number))
        hours.append(hour(now - now % 3600 - 3600 * (23 - number), lookups, hits))
    hours[-1] = replace(hours[-1], hits=latency(0.5, 2.0), calls=latency(2_000.0, 20_000.0))
    return Told(
        today=Balance(hits=Spent(3_214, 2_410_000, 311_000, 0, 12_841_000_000, 8_046_000, 12)),
        month=Balance(hits=Spent(88_120, 66_300_000, 9_120_000, 0, 391_207_000_000, 274_330_000, 340)),
        flights=[
            Flight(key(1)[:32], "s", now - 41, 41.2, now + 4, True, 25, True, 3, MODELS[1], SCOPES[0]),
            Flight(key(2)[:32], "j", now - 6, 6.4, now + 4, True, 2, False, None, MODELS[0], SCOPES[2]),
            Flight(key(3)[:32], "j", now - 1, 0.8, now + 4, False, 0, False, None, "", ""),
        ],
        activity=Activity(
            tuple(hours),
            {"tools": 412, "server-tools": 31, "previous-response": 8},
            {"truncated": 19, "refused": 3},
            [(key(n), 1_204 // (n - 3)) for n in range(4, 14)],
        ),
        misses=[
            miss(
                now - 3,
                21,
                MODELS[0],
                SCOPES[0],
                "near",
                "messages[0].content differs from an earlier request only in digits or a date: it looks like a timestamp or an id",
            ),
            miss(
                now - 75,
                22,
                MODELS[1],
                SCOPES[1],
                "expired",
                "asked before; the answer expired at 2026-11-26 11:50:00 UTC",
            ),
            miss(
                now - 190, 23, MODELS[2], SCOPES[2], "invalidated", "stored before, and invalidated by the tag doc:42"
            ),
            miss(now - 4_000, 24, MODELS[0], "", "never-seen", "never asked, and no earlier request is near"),
        ],
        at=now,
    )
