"""What the cards of the overview say: pure functions from the results of the view to words and series."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from askonce.core.savings import Spent
from askonce.core.why import meaning
from askonce.gateway.page import words
from askonce.gateway.results import Latency, Step

DAY = 86400
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
class Ratio:
    """The hit ratio over time: `chart` is JSON for the script, `told` the same in one sentence."""

    steps: Sequence[Step]
    last: float | None
    lookups: int
    chart: str
    told: str


def ratio(steps: Sequence[Step]) -> Ratio:
    """The chart of some steps of time, the oldest first."""
    lookups, hits = sum(one.lookups for one in steps), sum(one.hits for one in steps)
    share = hits / lookups if lookups else None
    series = {
        "at": [one.at for one in steps],
        "ratio": [round(one.ratio, 4) if one.lookups else None for one in steps],
        "lookups": [one.lookups for one in steps],
        "daily": _daily(steps),
    }
    told = f"{words.things(lookups, 'lookup')}, {_over(steps)}" if lookups else ""
    return Ratio(steps, share, lookups, json.dumps(series), told)


def _daily(steps: Sequence[Step]) -> bool:
    return len(steps) > 1 and steps[-1].at - steps[0].at > 2 * DAY


def _over(steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return f"since {words.when(steps[0].at)}"
    return f"by the {'day' if steps[1].at - steps[0].at >= DAY else 'hour'} (UTC) since {words.when(steps[0].at)}"


@dataclass(frozen=True, slots=True)
class Speed:
    """One row of the card of latency."""

    kind: str
    name: str
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Speeds:
    """The card of latency. `instead`: s that half of the calls take at most, where hits are shown beside them."""

    rows: Sequence[Speed]
    instead: float | None


def speeds(latency: Latency) -> Speeds:
    """The card of what was measured."""
    both = (("hit", "hits", latency.hits), ("up", "upstream", latency.upstream))
    rows = [Speed(kind, name, one.p50, one.p99) for kind, name, one in both if one is not None]
    return Speeds(rows, rows[1].p50 if len(rows) == 2 else None)


def reasons(counted: Mapping[str, int]) -> list[dict[str, Any]]:
    """Reasons with what they mean, the most frequent first; the rest is one row."""
    several = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    rows = [{"word": word, "said": meaning(word) or word, "times": times} for word, times in several[:LONGEST]]
    if rest := sum(times for _, times in several[LONGEST:]):
        rows.append({"word": "", "said": words.things(len(several) - LONGEST, "other reason"), "times": rest})
    return rows
