"""A Load: many callers of one process that ask one question; and what each of them saw.

Most rows about processes use this worker: it opens its cache, reports that it is ready, lets all callers ask at the
time that the row names, and reports. Each worker's answers carry its name, so that a row sees whose call made an
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from askonce import Cache, NotCached
from askonce.testing import Receipts, ScriptedCall, Step
from askonce.testing.script import Cue
from bench.callers import Asked, Callers
from bench.places import Place
from bench.questions import answer, question
from bench.row import Case
from bench.workers import Parent, Worker


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker does. `cue` None: a complete answer with the worker's name. `blocks`: its call blocks the loop."""

    name: str = "worker"
    callers: int = 1
    seconds: float = 1.0
    cue: Cue | None = None
    blocks: bool = False


class Report(NamedTuple):
    """What a worker saw: its callers, and its cache's counts."""

    asked: list[Asked]
    stats: dict[str, Any]


QUESTION = question("the question")


async def work(c: Callers, parent: Parent, place: Place, load: Load) -> Report:
    """A worker."""
    call = ScriptedCall(delay=load.seconds, receipts=place.receipts)
    call.script(None, load.cue or Step(body=answer(load.name)))

    async def blocking() -> Any:
        return call(QUESTION)  # sleeps in the loop's own thread

    async with c.cache(place.url) as cache:
        at = await parent.begin(c)
        paid = blocking if load.blocks else call
        asked = await c.gather(*[c.ask(cache, QUESTION, paid, at) for _ in range(load.callers)])
        return Report(asked, cache.stats())


def together(case: Case, loads: Sequence[Load], seconds: float) -> tuple[list[Asked], float]:
    """What all callers saw of loads that begin at one time, a process each; and that time."""
    for load in loads:
        case.workers.start(work, case.place.bare, load, mode=case.mode)
    at = case.workers.begin()
    return [one for report in case.workers.results(seconds) for one in report.asked], at


def begun(case: Case, load: Load) -> Worker:
    """A worker whose callers ask now."""
    return case.workers.start(work, case.place.bare, load, mode=case.mode).begin()


def kept(place: Place) -> str:
    """The name of the stored answer, "" for none."""
    with Cache(place.url) as cache:
        try:
            return str(cache.fetch(QUESTION, lambda: {"id": ""}, control="only-if-cached").value["id"])
        except NotCached:
            return ""


def paid(place: Place) -> int:
    return Receipts(place.receipts).paid()
