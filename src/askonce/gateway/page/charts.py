"""What the cards of the overview say: pure functions from the results of the view to words and series."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from askonce.core.savings import Hour, Latency
from askonce.core.spent import Spent
from askonce.core.why import meaning
from askonce.gateway.page import words

HOUR = 3600.0  # s
HOURS = 24  # of the chart
LONGEST = 8  # rows of a list on the overview


@dataclass(frozen=True, slots=True)
class Saved:
    """One card. `micros`: micro-dollars, None if no price of these calls is known."""

    title: str
    calls: int
    tokens: int
    seconds: float
    micros: int | None
    unpriced: int


def saved(title: str, spent: Spent) -> Saved | None:
    """The card of a period; None if nothing is known of it, for a zero would say that nothing was saved."""
    if spent == Spent():
        return None
    known = spent.unpriced < spent.calls or spent.nanodollars
    micros = spent.micros if known else None
    return Saved(title, spent.calls, spent.tokens, spent.seconds, micros, max(0, spent.unpriced))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chart: `ratio` is None without lookups."""

    at: float
    lookups: int
    hits: int
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """The hit ratio over time: `chart` is JSON for the script, `told` the same in one sentence."""

    steps: Sequence[Step]
    whole: float | None
    chart: str
    told: str


def ratio(hours: Sequence[Hour]) -> Ratio:
    """The chart of the last HOURS hours; one in which nothing was asked has no ratio."""
    steps = _steps(hours)
    lookups, hits = sum(one.lookups for one in steps), sum(one.hits for one in steps)
    series = {
        "at": [one.at for one in steps],
        "ratio": [None if one.ratio is None else round(one.ratio, 4) for one in steps],
        "lookups": [one.lookups for one in steps],
    }
    told = f"{words.things(lookups, 'lookup')} in 24 hours, by the hour (UTC)" if steps else ""
    return Ratio(steps, hits / lookups if lookups else None, json.dumps(series), told)


def _steps(hours: Sequence[Hour]) -> list[Step]:
    known = {one.at.timestamp(): _step(one) for one in hours if one.balance.asked.calls}
    if not known:
        return []
    first = max(known) - (HOURS - 1) * HOUR
    every = (first + HOUR * number for number in range(HOURS))
    return [known.get(at) or Step(at, 0, 0, None) for at in every]


def _step(hour: Hour) -> Step:
    asked = hour.balance.asked.calls
    return Step(hour.at.timestamp(), asked, asked - hour.balance.led.calls, hour.balance.hit_ratio)


@dataclass(frozen=True, slots=True)
class Speed:
    """One row of the card of latency: s that half of them take at most, and 99 of 100."""

    kind: str
    name: str
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Speeds:
    """The card of latency. `instead`: s that half of the calls take at most, where hits are shown beside them."""

    rows: Sequence[Speed]
    instead: float | None


def speeds(hits: Latency, calls: Latency) -> Speeds:
    """The card of what was measured."""
    both = (("hit", "hits", hits), ("up", "upstream", calls))
    rows = [Speed(kind, name, _quantile(one, 0.5), _quantile(one, 0.99)) for kind, name, one in both if one.count]
    return Speeds(rows, rows[1].p50 if len(rows) == 2 else None)


def _quantile(latency: Latency, share: float) -> float:
    return (latency.quantile(share) or 0.0) / 1000


def reasons(counted: Mapping[str, int]) -> list[dict[str, Any]]:
    """Reasons with what they mean, the most frequent first; the rest is one row."""
    several = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    rows = [{"word": word, "said": meaning(word) or word, "times": times} for word, times in several[:LONGEST]]
    if rest := sum(times for _, times in several[LONGEST:]):
        rows.append({"word": "", "said": words.things(len(several) - LONGEST, "other reason"), "times": rest})
    return rows
