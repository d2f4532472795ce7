"""A storm: lookups, fills, joins and invalidations of few questions, from processes of threads and of tasks at once.

Promise 3: after `invalidate()` returned, no lookup that starts later, in any process, gets an answer whose call began
before `invalidate()` was called. Every call writes the time at which it began into its answer. Callers note when their
lookup began, when they called `invalidate`, and when it returned, on the one monotonic clock of the machine. An
observer compares these notes afterwards. Equal times are no violation.

In plain weather, questions are invalidated one by one. In full weather, they are invalidated by scope, tag and model,
each of which reaches several; answers live so briefly that they are refreshed in the background, and some readers name
no tags and never call, so that they must respect tags of an entry which they do not know.

Planted faults show that the observer works. They are plausible readings of the protocol that break the promise: to join
a flight of this process by its key, without asking the store; and to read the generation of a fill after the call that
made the answer, not before.
"""

from __future__ import annotations

import os
import random
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple

from askonce import Policy
from askonce.core.lease import Ask, Follow
from askonce.engine.engine import Engine
from askonce.engine.leader import Leader
from askonce.errors import PartialInvalidation, StoreUnavailable
from askonce.flight.flight import NoResult
from bench.callers import Callers
from bench.places import MODES, Place
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import Failed, Parent

QUESTIONS = 16
PROCESSES = 4
ASKERS = 6  # in each process
CALLS = (0.002, 0.03)  # s of an upstream call, at random between these
PAUSES = (0.0, 0.004)  # s between two lookups of one caller
EVERY = (0.005, 0.04)  # s between two invalidations of one process
SPARSE = (0.05, 0.3)  # the same if one invalidation reaches many: answers must get old enough to be refreshed
WAYS = {"scope": 4, "tag": 5, "model": 3}  # into how many parts each way divides the questions
BRIEF = Policy(ttl=0.1, grace=1.0, stale_if_error=1.0, max_age=2.0)
BLIND = 0.3  # the share of lookups that name no tags and never call
LEAST = 20  # turns of each caller, however long they take on a busy machine


# --- the observer -----------------------------------------------------------------------------------------------------


class Lookup(NamedTuple):
    """A lookup of a question, and when its answer's call began."""

    question: int
    began: float
    born: float


class Invalidation(NamedTuple):
    """An acknowledged invalidation that reaches a question."""

    question: int
    called: float
    returned: float


def violations(lookups: Iterable[Lookup], invalidations: Iterable[Invalidation]) -> list[Lookup]:
    """The lookups that got an answer which was already invalid."""
    returned: dict[int, list[float]] = defaultdict(list)
    latest: dict[int, list[float]] = defaultdict(list)  # for each that has returned, the latest time of a call
    for one in sorted(invalidations, key=lambda one: one.returned):
        before = latest[one.question][-1] if latest[one.question] else 0.0
        returned[one.question].append(one.returned)
        latest[one.question].append(max(before, one.called))
    return [one for one in lookups if _violates(one, returned[one.question], latest[one.question])]


class Counted(NamedTuple):
    """What an observer counts where some acknowledged invalidations may be lost, with a primary that was replaced."""

    lookups: int
    kept: int  # acknowledged invalidations that may not be lost
    bad: int  # violations of these
    raw: int  # violations with those that may be lost
    failed: int  # invalidations that were not acknowledged

    def __str__(self) -> str:
        return (
            f"{self.bad} violations ({self.raw} with those that were lost) in {self.lookups} lookups and {self.kept}"
            f" acknowledged invalidations, {self.failed} not acknowledged"
        )


def counted(logs: Sequence[Log], lost: Callable[[Invalidation], bool]) -> Counted:
    """The counts of a storm; `lost`: whether an acknowledged invalidation may be lost."""
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    kept = [one for one in invalidations if not lost(one)]
    bad, raw = len(violations(lookups, kept)), len(violations(lookups, invalidations))
    return Counted(len(lookups), len(kept), bad, raw, sum(len(log.failed) for log in logs))


def _violates(lookup: Lookup, returned: list[float], latest: list[float]) -> bool:
    before = bisect_left(returned, lookup.began)
    return before > 0 and lookup.born < latest[before - 1]


# --- one process ------------------------------------------------------------------------------------------------------


class Storm(NamedTuple):
    """The work of one process."""

    seconds: float
    seed: int
    fault: str
    full: bool


class Log(NamedTuple):
    """What one process did: lookups, acknowledged invalidations, the other ones, and counts."""

    lookups: list[Lookup]
    invalidations: list[Invalidation]
    failed: list[str]
    stats: dict[str, Any]


def _request(number: int) -> dict[str, Any]:
    return {**question(number, 200), "model": f"model-{number % WAYS['model']}"}


def _own(storm: Storm, number: int, draw: random.Random) -> dict[str, Any]:
    """The keywords of a lookup."""
    if not storm.full:
        return {}
    own = {"scope": f"scope-{number % WAYS['scope']}/below", "policy": BRIEF}
    if draw.random() < BLIND:
        return {**own, "control": "only-if-cached"}
    return {**own, "tags": [f"tag-{number % WAYS['tag']}"]}


def _aimed(storm: Storm, number: int, draw: random.Random) -> tuple[dict[str, Any], list[int]]:
    """The keywords of an invalidation, and the questions that it reaches."""
    if not storm.full:
        return {"request": _request(number)}, [number]
    way, parts = draw.choice(list(WAYS.items()))
    part = number % parts
    return {way: f"{way}-{part}"}, [one for one in range(QUESTIONS) if one % parts == part]


async def blow(c: Callers, parent: Parent, place: Place, storm: Storm) -> Log:
    """A worker."""
    if storm.fault:
        FAULTS[storm.fault]()
    log = Log([], [], [], {})
    async with c.cache(place.url) as cache:
        until = await parent.begin(c) + storm.seconds

        async def ask(draw: random.Random) -> None:
            number, began = draw.randrange(QUESTIONS), time.monotonic()
            asked = await c.ask(cache, _request(number), lambda: _call(c), **_own(storm, number, draw))
            if asked.error not in {"", "NotCached"}:
                raise Failed(asked.error)
            if not asked.error:
                log.lookups.append(Lookup(number, began, float(asked.name)))
            await c.sleep(draw.uniform(*PAUSES))

        async def invalidate(draw: random.Random) -> None:
            how, reached = _aimed(storm, draw.randrange(QUESTIONS), draw)
            called = time.monotonic()
            try:
                await c.invalidate(cache, **how)
            except (StoreUnavailable, PartialInvalidation) as error:
                log.failed.append(str(error))
            else:
                returned = time.monotonic()
                log.invalidations.extend(Invalidation(number, called, returned) for number in reached)
            await c.sleep(draw.uniform(*(SPARSE if storm.full else EVERY)))

        async def repeat(work: Callable[[random.Random], Coroutine[Any, Any, None]], draw: random.Random) -> None:
            turns = 0
            while time.monotonic() < until or turns < LEAST:
                await work(draw)
                turns += 1

        works = [ask] * ASKERS + [invalidate]
        await c.gather(*[repeat(work, random.Random(f"{storm.seed} {at}")) for at, work in enumerate(works)])
        return log._replace(stats=cache.stats())


async def _call(c: Callers) -> Any:
    born = time.monotonic()
    await c.sleep(random.uniform(*CALLS))
    return answer(born, 600)


# --- planted faults ---------------------------------------------------------------------------------------------------


def join_by_key() -> None:
    """Join any flight of the key in this process (a planted fault)."""
    asked = Engine.ask

    async def ask(engine: Engine, asking: Any, call: Any) -> Any:
        for flight in engine.board.flights():
            if flight.key == asking.key:
                try:
                    return await engine._join(asking, flight)  # noqa: SLF001 - a fault is planted behind the face
                except NoResult:
                    break
        return await asked(engine, asking, call)

    Engine.ask = ask  # type: ignore[method-assign,assignment]


def late_generation() -> None:
    """Fill under a lease and generation that are taken after the call (a planted fault)."""
    landed = Leader._land_answer  # noqa: SLF001

    async def land(leader: Leader, flight: Any, asking: Any, *rest: Any) -> Any:
        if flight.grant is not None:
            ask = Ask(os.urandom(16), os.urandom(4), asking.fields, asking.limits)
            said = await leader._store.claim(flight.key, ask)  # noqa: SLF001
            flight.grant = (None if isinstance(said, Follow) else said.grant) or flight.grant
        return await landed(leader, flight, asking, *rest)

    Leader._land_answer = land  # type: ignore[method-assign,assignment]  # noqa: SLF001


FAULTS: dict[str, Callable[[], None]] = {
    "join by key": join_by_key,
    "generation read after the call": late_generation,
}


# --- rows -------------------------------------------------------------------------------------------------------------

BAR = "0 answers born before an acknowledged invalidation that preceded the lookup; planted faults are caught"
WEATHER: dict[str, Any] = {
    "heavy": True,
    "modes": ("threads",),  # both, in each case
    "variants": {"": "", **{f"planted: {fault}": fault for fault in FAULTS}},
}


@row(**WEATHER)
def storm(case: Case) -> Seen:
    """invalidate(request=) racing lookups, fills, joins from 4 processes, 30 s.

    Bar: 0 answers born before an acknowledged invalidation that preceded the lookup; planted faults are caught.
    """
    return judged(case, 30.0, full=False)


@row(**WEATHER)
def storm_all(case: Case) -> Seen:
    """a storm of lookups, fills, refreshes and invalidations by scope, tag, model from 4 processes for 60 s.

    Bar: 0 answers born before an acknowledged invalidation that preceded the lookup; planted faults are caught.
    """
    return judged(case, 60.0, full=True)


def judged(case: Case, seconds: float, *, full: bool) -> Seen:
    seconds = 1.0 if case.quick else 5.0 if case.variant else seconds
    for number in range(PROCESSES):
        storm = Storm(seconds, number, case.variant, full)
        case.workers.start(blow, case.place.bare, storm, mode=MODES[number % 2])
    case.workers.begin()
    logs: list[Log] = case.workers.results(seconds)
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    bad = len(violations(lookups, invalidations))
    named = ("hit", "collapsed", "stored", "refresh", "trouble")
    counts = {name: sum(log.stats.get(name, 0) for log in logs) for name in named}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    busy = all(counts[name] for name in named[: 4 if full else 3]) and bool(invalidations)
    return Seen(
        f"{bad} violations in {len(lookups)} lookups ({said}) and {len(invalidations)} acknowledged invalidations,"
        f" {sum(len(log.failed) for log in logs)} not acknowledged",
        bad > 0 if case.variant else busy and not bad,
        {"violations": bad, **counts},
        f"{seconds:g} s",
    )
