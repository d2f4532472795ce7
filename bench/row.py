"""A Row is one line of the table: a bar, and what measures it. It yields Readings, one a case (a store, a mode).

A reading says what was seen, for people, and whether the bar is met; None where there is no bar. A row that raises has
failed, with its error for a reading: a table with a hole in it would read like a table without the failure.
"""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class Reading(NamedTuple):
    """One case of a row: what it is, what was seen, whether that meets the bar."""

    case: str
    measured: str
    passed: bool | None
    numbers: Mapping[str, float] = MappingProxyType({})


class Skipped(Exception):
    """What the row needs is not on this machine; the message says what."""


class Failed(Exception):
    """The row saw what must not be; the message says what."""


class Row(NamedTuple):
    """`run(quick)` measures; `heavy` rows are left out of `python -m bench` unless they are named."""

    name: str
    what: str
    bar: str
    run: Callable[[bool], Iterable[Reading]]
    heavy: bool = False


class Outcome(NamedTuple):
    """A row that was run."""

    row: Row
    readings: list[Reading]
    seconds: float

    @property
    def passed(self) -> bool | None:
        """Whether every reading met its bar; None when there was no bar to meet."""
        said = {reading.passed for reading in self.readings}
        return False if False in said else True if True in said else None


def run(row: Row, *, quick: bool, tell: Callable[[Reading], None] = lambda _: None) -> Outcome:
    """Run a row to its end, whatever happens in it short of Ctrl-C."""
    began = time.monotonic()
    readings = []
    for reading in _readings(row, quick):
        readings.append(reading)
        tell(reading)
    return Outcome(row, readings, time.monotonic() - began)


def _readings(row: Row, quick: bool) -> Iterator[Reading]:
    try:
        yield from row.run(quick)
    except Skipped as skipped:
        yield Reading("skipped", str(skipped), None)
    except Failed as failed:
        yield Reading("failed", str(failed), False)
    except Exception as error:  # noqa: BLE001 - see above
        traceback.print_exc()
        yield Reading("failed", f"{type(error).__name__}: {error}".splitlines()[0], False)


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
