"""The numbers of one process at one moment, and the sum of several processes' numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from askonce.metrics.series import Row

Histogram = tuple[list[int], float]  # the counts of the buckets, and the sum of what was measured
LARGEST = frozenset({"askonce_breaker_open"})  # gauges whose largest value counts; others add up


@dataclass(slots=True)
class Snapshot:
    """Numbers by the name of a metric and by its labels."""

    counters: dict[str, dict[Row, float]] = field(default_factory=dict)
    histograms: dict[str, dict[str, Histogram]] = field(default_factory=dict)
    gauges: dict[str, dict[Row, float]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The snapshot as JSON."""
        said = {
            "counters": {name: list(rows.items()) for name, rows in self.counters.items()},
            "histograms": {name: list(rows.items()) for name, rows in self.histograms.items()},
            "gauges": {name: list(rows.items()) for name, rows in self.gauges.items()},
        }
        return orjson.dumps(said)

    @classmethod
    def from_json(cls, data: bytes) -> Snapshot:
        """The reverse of to_json; ValueError, KeyError or TypeError for anything else."""
        said: dict[str, dict[str, list[Any]]] = orjson.loads(data)
        counters, gauges = (
            {name: {tuple(row): value for row, value in rows} for name, rows in said[kind].items()}
            for kind in ("counters", "gauges")
        )
        histograms = {
            name: {text: (buckets, total) for text, (buckets, total) in rows}
            for name, rows in said["histograms"].items()
        }
        return cls(counters, histograms, gauges)


def summed(parts: Iterable[Snapshot]) -> Snapshot:
    """The sum of snapshots."""
    made = Snapshot()
    for part in parts:
        for name, rows in part.counters.items():
            _add(made.counters.setdefault(name, {}), rows)
        for name, rows in part.gauges.items():
            gauges = made.gauges.setdefault(name, {})
            if name in LARGEST:
                gauges.update({row: max(value, gauges.get(row, 0)) for row, value in rows.items()})
            else:
                _add(gauges, rows)
        for name, measured in part.histograms.items():
            _add_histograms(made.histograms.setdefault(name, {}), measured)
    return made


def _add(sums: dict[Row, float], rows: dict[Row, float]) -> None:
    for row, value in rows.items():
        sums[row] = sums.get(row, 0) + value


def _add_histograms(sums: dict[str, Histogram], measured: dict[str, Histogram]) -> None:
    for text, (buckets, total) in measured.items():
        before, so_far = sums.get(text, ([0] * len(buckets), 0.0))
        sums[text] = [one + more for one, more in zip(before, buckets, strict=True)], so_far + total
