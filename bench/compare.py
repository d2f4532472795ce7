"""Two things done in turn, call by call, in one loop, so that any disturbance affects both.

A run's ratio is that of the two medians: the few turns in which the machine was busy elsewhere would dominate sums. The
ratio of the sums is shown beside it, because it includes what a median omits (garbage collection). A row takes the
median of three separate runs, each in a process and with a store of its own, and shows their range: a single process
may be lucky with its memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from askonce.runtime.drive import drive

RUNS = 3
WARM = 50  # turns before a run
SMALL = 0.1  # ms: a bar below this is told in us

median = statistics.median


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


class Pair(NamedTuple):
    """One run of two things: their medians in us, the ratio of the sums, a note, and whether all answers were right."""

    first: float
    second: float
    sums: float = 0.0
    note: str = ""
    right: bool = True

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return self.first / self.second


class Ratio(NamedTuple):
    """How a row judges its runs: two names, the bar, those of variants with one of their own.

    `added`: the bar is for the difference in ms, not the ratio.
    """

    first: str
    second: str
    most: float | None
    added: bool = False
    by_variant: Mapping[str, float] = MappingProxyType({})

    def of(self, one: Pair) -> float:
        """The value that is compared with the bar."""
        return (one.first - one.second) / 1000 if self.added else one.ratio

    def judged(self, runs: Sequence[Pair], variant: str = "") -> tuple[str, bool | None, dict[str, float]]:
        """The words for people, whether the bar is met, and the numbers."""
        ranked = sorted(runs, key=self.of)
        low, value, high = (self.of(one) for one in (ranked[0], ranked[len(ranked) // 2], ranked[-1]))
        middle, unit = ranked[len(ranked) // 2], " ms more" if self.added else ""
        if self.added and self.most is not None and self.most < SMALL:
            low, value, high, unit = 1000 * low, 1000 * value, 1000 * high, " us more"
        measured = (
            f"{value:.2f}{unit} ({low:.2f} to {high:.2f} in {len(runs)} runs"
            + (f"; of the sums {middle.sums:.2f}" if middle.sums else "")
            + f"); p50: {self.first} {_time(middle.first)}, {self.second} {_time(middle.second)}{middle.note}"
        )
        most = self.by_variant.get(variant, self.most)
        met = None if most is None else self.of(middle) <= most and all(one.right for one in runs)
        return measured, met, {"value": value, "low": low, "high": high, "first_us": middle.first}


def _time(microseconds: float) -> str:
    return f"{microseconds:.1f} us" if microseconds < 200 else f"{microseconds / 1000:.2f} ms"


def pair(first: Callable[[], Any], second: Callable[[], Any], turns: int) -> Pair:
    """Measure both in turn, in this thread."""
    return drive(_pair(first, second, turns, awaited=False))


async def pair_async(first: Callable[[], Any], second: Callable[[], Any], turns: int) -> Pair:
    """Measure both in turn, in this task."""
    return await _pair(first, second, turns, awaited=True)


async def _pair(first: Callable[[], Any], second: Callable[[], Any], turns: int, *, awaited: bool) -> Pair:
    await _turns(first, second, WARM, awaited)
    return paired(*await _turns(first, second, turns, awaited))


def paired(ones: Sequence[float], others: Sequence[float]) -> Pair:
    """A Pair of times in ns."""
    return Pair(median(ones) / 1000, median(others) / 1000, sum(ones) / sum(others))


async def _turns(
    first: Callable[[], Any],
    second: Callable[[], Any],
    turns: int,
    awaited: bool,
) -> tuple[list[int], list[int]]:
    now = time.perf_counter_ns
    ones: list[int] = []
    others: list[int] = []
    for _ in range(turns):
        # One loop for both modes: the look at a flag takes 10 ns, on either side.
        began = now()
        await first() if awaited else first()
        between = now()
        await second() if awaited else second()
        ended = now()
        ones.append(between - began)
        others.append(ended - between)
    return ones, others
