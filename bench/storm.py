"""A storm: lookups, fills, joins and invalidations of few questions, from processes of threads and of tasks at once.

In plain weather questions are invalidated by themselves. In full weather by scope, tag and model, each of which reaches
several; answers live so briefly that they are refreshed behind their readers, and some readers name no tags and never
call, so that they must respect the tags of an entry they know nothing of.

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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache, NotCached, Policy
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
SPARSE = (0.05, 0.3)  # the same where one reaches many: answers should get old enough to be refreshed
WAYS = (("scope", 4), ("tag", 5), ("model", 3))  # and into how many parts each divides the questions
BRIEF = Policy(ttl=0.1, grace=1.0, stale_if_error=1.0, max_age=2.0)
BLIND = 0.3  # of the lookups name no tags, and never call


@dataclass(frozen=True, slots=True)
class Storm:
    """What one process does."""

    url: str
    mode: str
    seconds: float
    seed: int
    fault: str = ""
    full: bool = False


class Log(NamedTuple):
    """What one process did: its lookups, its acknowledged invalidations, those that raised, its counts."""

    lookups: list[Lookup]
    invalidations: list[Invalidation]
    failed: int
    stats: dict[str, Any]

    def acknowledged(self, aimed: Aimed, called: float) -> None:
        """One more invalidation, for each question that it reaches."""
        returned = time.monotonic()
        self.invalidations.extend(Invalidation(number, called, returned) for number in aimed.reached)


class Aimed(NamedTuple):
    """An invalidation: its keywords, and the questions that it reaches."""

    how: dict[str, Any]
    reached: list[int]


def _aimed(storm: Storm, number: int, draw: random.Random) -> Aimed:
    if not storm.full:
        return Aimed({"request": _request(number)}, [number])
    way, parts = draw.choice(WAYS)
    part = number % parts
    return Aimed({way: f"{way}-{part}"}, [one for one in range(QUESTIONS) if one % parts == part])


def _request(number: int) -> dict[str, Any]:
    return {**question(number, 200), "model": f"model-{number % dict(WAYS)['model']}"}


def _own(storm: Storm, number: int, draw: random.Random) -> dict[str, Any]:
    """The keywords of a lookup."""
    if not storm.full:
        return {}
    scope = f"scope-{number % dict(WAYS)['scope']}/below"
    if draw.random() < BLIND:
        return {"scope": scope, "policy": BRIEF, "control": "only-if-cached"}
    return {"scope": scope, "policy": BRIEF, "tags": [f"tag-{number % dict(WAYS)['tag']}"]}


def requests(quick: bool) -> Iterator[Reading]:
    """invalidate(request=) in a storm; then the same with each planted fault, which must be caught."""
    return _weather(2.0 if quick else 30.0, 2.0 if quick else 5.0, full=False)


def everything(quick: bool) -> Iterator[Reading]:
    """By scope, tag and model, with refreshes; and with each planted fault."""
    return _weather(2.0 if quick else 60.0, 2.0 if quick else 5.0, full=True)


def _weather(seconds: float, planted: float, *, full: bool) -> Iterator[Reading]:
    for opener in BOTH:
        yield judged(opener, seconds, "", full=full)
        for fault in FAULTS:
            yield judged(opener, planted, fault, full=full)


def judged(opener: Opener, seconds: float, fault: str, *, full: bool) -> Reading:
    logs = _run(opener, seconds, fault, full=full)
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    bad = len(violations(lookups, invalidations))
    named = ("hit", "collapsed", "stored", "refresh", "trouble")
    counts = {name: sum(log.stats.get(name, 0) for log in logs) for name in named}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    case = f"{opener.__name__}, {seconds:g} s" + (f", planted: {fault}" if fault else "")
    measured = (
        f"{bad} violations in {len(lookups)} lookups ({said}) and {len(invalidations)} acknowledged invalidations,"
        f" {sum(log.failed for log in logs)} not acknowledged"
    )
    busy = all(counts[name] for name in named[: 4 if full else 3]) and bool(invalidations)
    return Reading(case, measured, bad > 0 if fault else busy and not bad, {"violations": bad, **counts})


def _run(opener: Opener, seconds: float, fault: str, *, full: bool) -> list[Log]:
    with opener() as place, Crew() as crew:
        for number in range(PROCESSES):
            crew.hire(blow, Storm(place.url, MODES[number % 2], seconds, number, fault, full))
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
        with suppress(NotCached):
            value = cache.fetch(_request(number), paid, **_own(storm, number, draw)).value
            log.lookups.append(Lookup(number, began, value["born"]))
        time.sleep(draw.uniform(*PAUSES))

    def invalidate(draw: random.Random) -> None:
        aimed = _aimed(storm, draw.randrange(QUESTIONS), draw)
        called = time.monotonic()
        try:
            cache.invalidate(**aimed.how)
            log.acknowledged(aimed, called)
        except (StoreUnavailable, PartialInvalidation):
            failed[0] += 1
        time.sleep(draw.uniform(*(SPARSE if storm.full else EVERY)))

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
            with suppress(NotCached):
                value = (await cache.fetch(_request(number), paid, **_own(storm, number, draw))).value
                log.lookups.append(Lookup(number, began, value["born"]))
            await asyncio.sleep(draw.uniform(*PAUSES))

    async def invalidate(draw: random.Random) -> None:
        while time.monotonic() < until:
            aimed = _aimed(storm, draw.randrange(QUESTIONS), draw)
            called = time.monotonic()
            try:
                await cache.invalidate(**aimed.how)
                log.acknowledged(aimed, called)
            except (StoreUnavailable, PartialInvalidation):
                failed[0] += 1
            await asyncio.sleep(draw.uniform(*(SPARSE if storm.full else EVERY)))

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
    landed = Pilot._landed  # noqa: SLF001

    async def land(pilot: Pilot, flight: Any, asking: Any, *rest: Any) -> Any:
        if flight.grant is not None:
            ask = Ask(os.urandom(16), os.urandom(4), asking.fields, asking.limits)
            said = await pilot._store.claim(flight.key, ask)  # noqa: SLF001
            flight.grant = (None if isinstance(said, Follow) else said.grant) or flight.grant
        return await landed(pilot, flight, asking, *rest)

    Pilot._landed = land  # type: ignore[method-assign,assignment]  # noqa: SLF001


FAULTS: dict[str, Callable[[], None]] = {
    "join by key": join_by_key,
    "generation read after the call": late_generation,
}
