"""One cold key, asked by a whole fleet at one moment: one call is paid, and all have its answer at about one time."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.testing import Receipts
from bench.asking import Asked, Load, Report, work
from bench.crew import SLACK, Crew
from bench.places import BOTH, MODES, Opener
from bench.row import Reading

SPREAD = 0.25  # s between the first and the last answer


def cold(quick: bool) -> Iterator[Reading]:
    """8 processes of 25 callers, a call of 12 s."""
    processes, callers, seconds = (4, 10, 1.0) if quick else (8, 25, 12.0)
    for opener in BOTH:
        for mode in MODES:
            yield _cold(opener, mode, processes, callers, seconds)


def _cold(opener: Opener, mode: str, processes: int, callers: int, seconds: float) -> Reading:
    with opener() as place, Crew() as crew:
        for number in range(processes):
            load = Load(place.url, place.receipts, f"process {number}", mode, callers, seconds)
            crew.hire(work, load)
        crew.ready()
        crew.start()
        reports: list[Report] = crew.results(seconds + SLACK)
        paid = Receipts(place.receipts).paid()
    asked = [one for report in reports for one in report.asked]
    return _judged(f"{place.name}, {mode}", asked, paid, processes * callers, seconds)


def _judged(case: str, asked: list[Asked], paid: int, callers: int, seconds: float) -> Reading:
    ended = [one.ended for one in asked]
    spread = max(ended) - min(ended)
    over = max(ended) - min(one.began for one in asked) - seconds
    names = {one.name for one in asked if not one.error}
    wrong = sum(bool(one.error) for one in asked)
    return Reading(
        case,
        f"{paid} call; {callers} answers within {spread:.3f} s, the last {over:.3f} s after the call could end",
        paid == 1 and spread <= SPREAD and len(names) == 1 and not wrong,
        {"calls": paid, "spread_s": spread, "over_s": over, "errors": wrong},
    )
