"""A storm: lookups, fills, joins and invalidations of few questions, from processes of threads and of tasks at once.

Each run is judged by the observer of `births`. That the observer can see at all is shown by planted faults, plausible
readings of the protocol that break the promise: to join a flight of this process by its key, without asking the store;
and to take the generation an answer is filled under after the call that made it, not before.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache
from askonce.core.lease import Ask, Follow
from askonce.errors import PartialInvalidation, StoreUnavailable
from askonce.flight import Gone
from askonce.pilot import Pilot
from askonce.protocol import Engine
from bench.births import Invalidation, Lookup, violations
from bench.crew import SLACK, Crew, Desk
from bench.places import BOTH, MODES, Opener
from bench.questions import answer, question
from bench.row import Reading

QUESTIONS = 16
PROCESSES = 4
ASKERS = 6  # callers of each process
CALLS = (0.002, 0.03)  # s that an upstream call takes, at random between these
PAUSES = (0.0, 0.004)  # s between two lookups of one caller
EVERY = (0.005, 0.04)  # s between two invalidations of one process


@dataclass(frozen=True, slots=True)
class Storm:
    """What one process does."""

    url: str
    mode: str
    seconds: float
    seed: int
    fault: str = ""


class Log(NamedTuple):
    """What one process did: its lookups, its acknowledged invalidations, those that raised, its counts."""

    lookups: list[Lookup]
    invalidations: list[Invalidation]
    failed: int
    stats: dict[str, Any]


def requests(quick: bool) -> Iterator[Reading]:
    """invalidate(request=) in a storm; then the same with each planted fault, which must be caught."""
    for opener in BOTH:
        yield _judged(opener, 2.0 if quick else 30.0, "")
        for fault in FAULTS:
            yield _judged(opener, 2.0 if quick else 5.0, fault)


def _judged(opener: Opener, seconds: float, fault: str) -> Reading:
    logs = _run(opener, seconds, fault)
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    bad = len(violations(lookups, invalidations))
    counts = {name: sum(log.stats.get(name, 0) for log in logs) for name in ("hit", "collapsed", "stored", "trouble")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    case = f"{opener.__name__}, {seconds:g} s" + (f", planted: {fault}" if fault else "")
    measured = (
        f"{bad} violations in {len(lookups)} lookups ({said}) and {len(invalidations)} acknowledged invalidations,"
        f" {sum(log.failed for log in logs)} not acknowledged"
    )
    busy = bool(counts["hit"] and counts["collapsed"] and counts["stored"] and invalidations)
    return Reading(case, measured, busy and (bad > 0 if fault else bad == 0), {"violations": bad, **counts})


def _run(opener: Opener, seconds: float, fault: str) -> list[Log]:
    with opener() as place, Crew() as crew:
        for number in range(PROCESSES):
            crew.hire(blow, Storm(place.url, MODES[number % 2], seconds, number, fault))
        crew.ready()
        crew.start()
        logs: list[Log] = crew.results(seconds + SLACK)
    return logs


# one process


def blow(desk: Desk, storm: Storm) -> Log:
    """A worker."""
    if storm.fault:
        FAULTS[storm.fault]()
    at = desk.ready()
    time.sleep(max(0.0, at - time.monotonic()))
    if storm.mode == "tasks":
        return asyncio.run(_tasks(storm, at + storm.seconds))
    return _threads(storm, at + storm.seconds)


def _born() -> tuple[float, float]:
    """When a call begins, which its answer will say; and the seconds that it takes."""
    return time.monotonic(), random.uniform(*CALLS)


def _threads(storm: Storm, until: float) -> Log:
    log = Log([], [], 0, {})
    failed = [0]

    def paid() -> Any:
        born, seconds = _born()
        time.sleep(seconds)
        return answer(born, 600, born=born)

    def ask(draw: random.Random) -> None:
        number = draw.randrange(QUESTIONS)
        began = time.monotonic()
        value = cache.fetch(question(number, 200), paid).value
        log.lookups.append(Lookup(number, began, value["born"]))
        time.sleep(draw.uniform(*PAUSES))

    def invalidate(draw: random.Random) -> None:
        number = draw.randrange(QUESTIONS)
        called = time.monotonic()
        try:
            cache.invalidate(request=question(number, 200))
            log.invalidations.append(Invalidation(number, called, time.monotonic()))
        except (StoreUnavailable, PartialInvalidation):
            failed[0] += 1
        time.sleep(draw.uniform(*EVERY))

    with Cache(storm.url) as cache:
        _all([*[ask] * ASKERS, invalidate], storm.seed, until)
        return log._replace(stats=cache.stats(), failed=failed[0])


def _all(works: Sequence[Callable[[random.Random], None]], seed: int, until: float) -> None:
    """Each in a thread of its own, again and again until then; what one of them raises is raised."""
    errors: list[BaseException] = []

    def repeat(work: Callable[[random.Random], None], draw: random.Random) -> None:
        try:
            while time.monotonic() < until and not errors:
                work(draw)
        except BaseException as error:  # noqa: BLE001 - carried out of the thread
            errors.append(error)

    threads = [
        threading.Thread(target=repeat, args=(work, random.Random(f"{seed} {at}"))) for at, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


async def _tasks(storm: Storm, until: float) -> Log:
    log = Log([], [], 0, {})
    failed = [0]

    async def paid() -> Any:
        born, seconds = _born()
        await asyncio.sleep(seconds)
        return answer(born, 600, born=born)

    async def ask(draw: random.Random) -> None:
        while time.monotonic() < until:
            number = draw.randrange(QUESTIONS)
            began = time.monotonic()
            value = (await cache.fetch(question(number, 200), paid)).value
            log.lookups.append(Lookup(number, began, value["born"]))
            await asyncio.sleep(draw.uniform(*PAUSES))

    async def invalidate(draw: random.Random) -> None:
        while time.monotonic() < until:
            number = draw.randrange(QUESTIONS)
            called = time.monotonic()
            try:
                await cache.invalidate(request=question(number, 200))
                log.invalidations.append(Invalidation(number, called, time.monotonic()))
            except (StoreUnavailable, PartialInvalidation):
                failed[0] += 1
            await asyncio.sleep(draw.uniform(*EVERY))

    async with AsyncCache(storm.url) as cache:
        async with asyncio.TaskGroup() as group:
            for at, work in enumerate([ask] * ASKERS + [invalidate]):
                group.create_task(work(random.Random(f"{storm.seed} {at}")))
        return log._replace(stats=cache.stats(), failed=failed[0])


# planted faults


def join_by_key() -> None:
    """A lookup joins whatever flight of its key is under way in this process."""
    asked = Engine.ask

    async def ask(engine: Engine, asking: Any, call: Any) -> Any:
        for flight in engine.board.flights():
            if flight.key == asking.key:
                try:
                    return await engine._join(asking, flight)  # noqa: SLF001 - a fault is planted behind the face
                except Gone:
                    break
        return await asked(engine, asking, call)

    Engine.ask = ask  # type: ignore[method-assign,assignment]


def late_generation() -> None:
    """A flight fills under a lease, and so a generation, that it takes when its call is over."""
    filled = Pilot._fill  # noqa: SLF001

    async def fill(pilot: Pilot, flight: Any, grant: Any, asking: Any, *rest: Any) -> Any:
        ask = Ask(os.urandom(16), os.urandom(4), asking.fields, asking.limits)
        said = await pilot._store.claim(flight.key, ask)  # noqa: SLF001
        late = None if isinstance(said, Follow) else said.grant
        return await filled(pilot, flight, late or grant, asking, *rest)

    Pilot._fill = fill  # type: ignore[method-assign,assignment]  # noqa: SLF001


FAULTS: dict[str, Callable[[], None]] = {
    "join by key": join_by_key,
    "generation read after the call": late_generation,
}
