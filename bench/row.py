"""A Row is one line of the table: a bar, and the function that measures it, once for each of its cases.

Cases are the product of stores, modes and variants. The function gets a Case, with a store of its own, and returns what
was Seen. A comparison (`ratio=`) returns a Pair, and runs three times, each in a process and with a store of its own. A
case that raises has failed, and its error is its reading: a table with a hole would read like a table without the
failure.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from bench.compare import RUNS, Pair, Ratio
from bench.places import BOTH, MODES, Opener, Place, Skipped
from bench.workers import Failed, Parent, Workers


class Case(NamedTuple):
    """What a row's function gets; `quick`: only whether it works."""

    place: Place
    mode: str
    variant: Any
    quick: bool
    workers: Workers


class Seen(NamedTuple):
    """What a row's function saw, in words; whether it meets the bar, None without one; more about the case."""

    measured: str
    passed: bool | None
    numbers: Mapping[str, float] = MappingProxyType({})
    case: str = ""


class Reading(NamedTuple):
    """A line of a row's table."""

    case: str
    measured: str
    passed: bool | None
    numbers: Mapping[str, float] = MappingProxyType({})


class Row(NamedTuple):
    """`heavy` rows are left out of `python -m bench` unless they are named."""

    name: str
    what: str
    bar: str
    run: Callable[..., Any]
    heavy: bool = False
    stores: Sequence[Opener] = BOTH
    modes: Sequence[str] = MODES
    variants: Mapping[str, Any] = MappingProxyType({"": None})
    ratio: Ratio | None = None


ROWS: dict[str, Row] = {}
LONGEST = 900.0  # s of one run of a comparison
Function = TypeVar("Function", bound=Callable[..., Any])


def row(**more: Any) -> Callable[[Function], Function]:
    """Make a function a row, whose docstring says what it measures, and the bar; `more` are fields of Row."""

    def made(function: Function) -> Function:
        what, bar, *_ = (" ".join(part.split()).removesuffix(".") for part in (function.__doc__ or "").split("\n\n"))
        name = function.__name__.removesuffix("_").replace("_", "-")
        ROWS[name] = Row(name, what, bar.removeprefix("Bar: "), function, **more)
        return function

    return made


class Outcome(NamedTuple):
    """A row that was run."""

    row: Row
    readings: list[Reading]
    seconds: float

    @property
    def passed(self) -> bool | None:
        """Whether every reading met its bar; None if there was no bar."""
        said = {reading.passed for reading in self.readings}
        return False if False in said else True if True in said else None


def run(one: Row, *, quick: bool, tell: Callable[[Reading], None] = lambda _: None) -> Outcome:
    """Run a row to its end, whatever happens in it except Ctrl-C."""
    began = time.monotonic()
    readings = []
    for opener, mode, variant in _cases(one, quick=quick):
        for reading in _readings(one, opener, mode, variant, quick=quick):
            readings.append(reading)
            tell(reading)
    return Outcome(one, readings, time.monotonic() - began)


def _cases(one: Row, *, quick: bool) -> Iterator[tuple[Opener, str, str]]:
    for number, opener in enumerate(one.stores):
        # quick: each store and each mode once, not every pair
        for mode in [one.modes[number % len(one.modes)]] if quick else one.modes:
            for variant in one.variants:
                yield opener, mode, variant


def _readings(one: Row, opener: Opener, mode: str, variant: str, *, quick: bool) -> Iterator[Reading]:
    name = ", ".join(filter(None, (opener.__name__, mode, variant)))
    try:
        yield from measured(one, opener, mode, variant, quick=quick)
    except Skipped as skipped:
        yield Reading(f"{name}: skipped", str(skipped), None)
    except Failed as failed:
        yield Reading(f"{name}: failed", str(failed), False)
    except Exception as error:  # noqa: BLE001 - see above
        traceback.print_exc()
        yield Reading(f"{name}: failed", f"{type(error).__name__}: {error}".splitlines()[0], False)


def measured(one: Row, opener: Opener, mode: str, variant: str = "", *, quick: bool) -> Iterator[Reading]:
    """One case: what its function saw, or the outcome of its three runs."""
    if one.ratio is not None:
        runs = [_separate(one, opener, mode, variant, quick=quick) for _ in range(1 if quick else RUNS)]
        yield _named(one, runs[0][0], mode, variant, Seen(*one.ratio.judged([pair for _, pair in runs], variant)))
        return
    with opener() as place, Workers() as workers:
        found = one.run(Case(place, mode, one.variants[variant], quick, workers))
        for seen in [found] if isinstance(found, Seen) else found:
            yield _named(one, place.name, mode, variant, seen)


def _named(one: Row, place: str, mode: str, variant: str, seen: Seen) -> Reading:
    parts = (place, mode if "tasks" in one.modes else "", variant, seen.case)
    return Reading(", ".join(filter(None, parts)), *seen[:3])


def _separate(one: Row, opener: Opener, mode: str, variant: str, *, quick: bool) -> tuple[str, Pair]:
    with opener() as place, Workers() as workers:
        case = Case(place.bare, mode, one.variants[variant], quick, Workers())
        return place.name, workers.start(_alone, one.run, case).hear(LONGEST)


def _alone(_: Parent, function: Callable[[Case], Pair], case: Case) -> Pair:
    with Workers() as workers:
        return function(case._replace(workers=workers))
