"""What a page shows, made up: a view whose results a test sets, over a real store in memory for entries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from askonce.core.savings import Balance, Savings, Spent
from askonce.gateway.results import Flight, Hot, Latency, Miss, Quantiles, Reasons, Step
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

    savings: dict[int, Balance] = field(default_factory=dict)
    flights: list[Flight] = field(default_factory=list)
    hottest: list[Hot] = field(default_factory=list)
    reasons: Reasons = field(default_factory=lambda: Reasons(0.0))
    misses: list[Miss] = field(default_factory=list)
    latency: Latency = field(default_factory=lambda: Latency(None, None))
    steps: list[Step] = field(default_factory=list)
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

    @property
    def prefix(self) -> str:
        return self.cache.prefix

    def _say(self, what: Said) -> Said:
        if self.told.trouble is not None:
            raise self.told.trouble
        return what

    async def now(self) -> float:
        return await super().now() if self.told.at is None else self.told.at

    async def savings(self, since: date, until: date) -> Savings:
        days = (until - since).days
        return self._say(Savings(since, until, self.told.savings.get(1 if days == 0 else 30, Balance())))

    async def flights(self, limit: int = 100) -> list[Flight]:
        return self._say(self.told.flights[:limit])

    async def hottest(self, limit: int = 10) -> list[Hot]:
        return self._say(self.told.hottest[:limit])

    async def reasons(self, days: int = 1) -> Reasons:
        return self._say(self.told.reasons)

    async def misses(self, limit: int = 20) -> list[Miss]:
        return self._say(self.told.misses[:limit])

    async def latency(self) -> Latency:
        return self._say(self.told.latency)

    async def steps(self) -> list[Step]:
        return self._say(self.told.steps)


def busy(now: float = NOW) -> Told:
    """A cache that is in use."""
    today = Spent(3_214, 2_410_000, 311_000, 0, 12_841_000_000, 8_046_000, 12)
    month = Spent(88_120, 66_300_000, 9_120_000, 0, 391_207_000_000, 274_330_000, 340)
    hours = [now - now % 3600 - 3600 * ago for ago in range(23, -1, -1)]
    steps = []
    for number, at in enumerate(hours):
        lookups = int(320 + 260 * math.sin(number / 3.7) + 61 * (number % 5))
        steps.append(Step(at, lookups, int(lookups * (0.58 + 0.13 * math.sin(number / 2.9) + 0.004 * number))))
    return Told(
        savings={1: Balance(hits=today), 30: Balance(hits=month)},
        flights=[
            Flight(key(1)[:32], "s", now - 41, 41.2, now + 4, True, 25, True, 3, MODELS[1], SCOPES[0]),
            Flight(key(2)[:32], "j", now - 6, 6.4, now + 4, True, 2, False, None, MODELS[0], SCOPES[2]),
            Flight(key(3)[:32], "j", now - 1, 0.8, now + 4, False, 0, False, None, "", ""),
        ],
        hottest=[Hot(key(n), 1_204 // (n - 3), MODELS[n % 4], SCOPES[n % 4]) for n in range(4, 14)],
        reasons=Reasons(
            now - 40_000, {"tools": 412, "server-tools": 31, "previous-response": 8}, {"truncated": 19, "refused": 3}
        ),
        misses=[
            Miss(
                now - 3,
                key(21),
                MODELS[0],
                SCOPES[0],
                "near",
                "messages[0].content differs from an earlier request in digits or a date only: it looks like a timestamp or an id",
            ),
            Miss(
                now - 75, key(22), MODELS[1], SCOPES[1], "expired", "asked before; the answer expired at 11:50:00 UTC"
            ),
            Miss(now - 190, key(23), MODELS[2], SCOPES[2], "invalidated", "stored, and invalidated by tag doc:42"),
            Miss(now - 4_000, key(24), MODELS[0], "", "never-seen", "never asked, and no earlier request is near"),
        ],
        latency=Latency(Quantiles(3_000, 0.0005, 0.001, 0.002, 0.01), Quantiles(1_200, 2.0, 5.0, 20.0, 50.0)),
        steps=steps,
        at=now,
    )
