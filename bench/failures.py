"""Calls that fail, or bring what may not be stored: shared with those who waited, and kept for nobody."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from askonce.testing import Receipts
from askonce.testing.script import Cue
from bench.asking import Load, Report, kept, work
from bench.crew import SLACK, Crew
from bench.places import BOTH, MODES, Opener
from bench.row import Reading

CALLERS = 25


class UpstreamDown(Exception):
    """What the scripted upstream raises here."""


def shared(quick: bool) -> Iterator[Reading]:
    """25 callers in one process, and in each of 4, of a call that raises, and of one that is refused."""
    seconds = 0.3 if quick else 2.0
    cues: tuple[tuple[str, Cue], ...] = (("raises", UpstreamDown("no")), ("refused", "refused"))
    for opener in BOTH:
        for mode in MODES:
            for what, cue in cues:
                for processes in (1, 4):
                    yield _shared(opener, mode, what, cue, processes, seconds)


def _shared(opener: Opener, mode: str, what: str, cue: Cue, processes: int, seconds: float) -> Reading:
    with opener() as place, Crew() as crew:
        for number in range(processes):
            crew.hire(work, Load(place.url, place.receipts, f"{number}", mode, CALLERS, seconds, cue))
        crew.ready()
        began = crew.start()
        reports: list[Report] = crew.results(processes * seconds + SLACK)
        starts = [receipt.at for receipt in Receipts(place.receipts).rows()]
        left = kept(place.url)
    asked = [one for report in reports for one in report.asked]
    answered = sum(one.error == ("UpstreamDown" if what == "raises" else "") for one in asked)
    most = processes if what == "raises" else 1
    alone = all(later - earlier >= seconds for earlier, later in pairwise(starts))
    last = max(one.ended for one in asked) - began
    calls = len(starts)
    return Reading(
        f"{place.name}, {mode}, {what}, {processes} x {CALLERS}",
        f"{calls} calls{'' if alone else ', not one at a time'}; {answered} callers told, the last after {last:.2f} s;"
        f" {'something' if left else 'nothing'} stored",
        1 <= calls <= most and alone and answered == len(asked) and not left,
        {"calls": calls, "last_s": last},
    )
