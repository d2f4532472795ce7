"""Paired measuring: two things done in turn, call by call, in one loop, so that what disturbs one disturbs the other.

A run's ratio is that of the two medians: sums would be ruled by the few turns in which the machine did something else.
They are told beside it, since they hold what a median leaves out (a collection of garbage). A row takes the median of
its runs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from bench.row import Reading, median

RUNS = 5
WARM = 50  # turns before the first run


class Pair(NamedTuple):
    """What two things took: their medians in us, the ratio of these in each run, and that of the sums of all runs."""

    first: float
    second: float
    ratios: list[float]
    sums: float

    @property
    def ratio(self) -> float:
        """The median of the runs."""
        return median(self.ratios)

    def reading(self, case: str, first: str, second: str, bar: float | None) -> Reading:
        """As a line of the table."""
        low, high = min(self.ratios), max(self.ratios)
        return Reading(
            case,
            f"{self.ratio:.2f} ({low:.2f} to {high:.2f} in {len(self.ratios)} runs; of the sums {self.sums:.2f});"
            f" p50: {first} {self.first:.1f} us, {second} {self.second:.1f} us",
            None if bar is None else self.ratio <= bar,
            {"ratio": self.ratio, "sums": self.sums, "first_us": self.first, "second_us": self.second},
        )


def pair(first: Callable[[], Any], second: Callable[[], Any], turns: int) -> Pair:
    """Both in turn, `turns` times a run."""
    _run(first, second, WARM)
    return _paired([_run(first, second, turns) for _ in range(RUNS)])


async def pair_async(first: Callable[[], Awaitable[Any]], second: Callable[[], Awaitable[Any]], turns: int) -> Pair:
    """Both in turn in one task."""
    await _run_async(first, second, WARM)
    return _paired([await _run_async(first, second, turns) for _ in range(RUNS)])


Times = tuple[list[int], list[int]]  # ns of each


def _run(first: Callable[[], Any], second: Callable[[], Any], turns: int) -> Times:
    now = time.perf_counter_ns
    ones: list[int] = []
    others: list[int] = []
    for _ in range(turns):
        began = now()
        first()
        between = now()
        second()
        ended = now()
        ones.append(between - began)
        others.append(ended - between)
    return ones, others


async def _run_async(first: Callable[[], Awaitable[Any]], second: Callable[[], Awaitable[Any]], turns: int) -> Times:
    now = time.perf_counter_ns
    ones: list[int] = []
    others: list[int] = []
    for _ in range(turns):
        began = now()
        await first()
        between = now()
        await second()
        ended = now()
        ones.append(between - began)
        others.append(ended - between)
    return ones, others


def _paired(runs: list[Times]) -> Pair:
    ones = [one for run in runs for one in run[0]]
    others = [other for run in runs for other in run[1]]
    ratios = [median(run[0]) / median(run[1]) for run in runs]
    return Pair(median(ones) / 1000, median(others) / 1000, ratios, sum(ones) / sum(others))
