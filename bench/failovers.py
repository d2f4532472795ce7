"""Failovers of a Sentinel service under load: the storm of `storms`, while the primary is killed or replaced.

The primary is killed with SIGKILL, and comes back empty; or the sentinels are told to make another server the primary,
and the old one answers on as a primary for seconds. Replication is asynchronous: an invalidation that the old primary
acknowledged and did not pass on is lost. So invalidations that were acknowledged around the failover are not judged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, Self

from askonce import Cache
from askonce.testing import RedisServer, ServerMissing, ValkeyServer
from askonce.testing.sentinels import SentinelGroup
from askonce.testing.servers import Redis8Server, Server
from bench.places import MODES, Opener, Place, Skipped, nowhere
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.storms import PROCESSES, Invalidation, Log, Storm, blow, violations
from bench.workers import Failed

LOST = 0.2  # s around a failover whose acknowledged invalidations may be lost
BACK = 1.0  # s beyond the sentinels' own failover
CALM = 2.0  # s of a storm before, between and after
GAP = 0.5  # s between two answers, after which the store was not in use


def served(kind: type[Server], name: str) -> Opener:
    """Opens a Sentinel service of a kind of server."""

    @contextmanager
    def sentinel() -> Iterator[Place]:
        try:
            with SentinelGroup(kind) as group, nowhere() as place:
                yield Place(f"{name} Sentinel", group.url, place.folder, group)  # type: ignore[arg-type]
        except ServerMissing as missing:
            raise Skipped(str(missing)) from missing

    return sentinel


class Event(NamedTuple):
    """One failover: when it began, and when the sentinels had another primary."""

    began: float
    moved: float


def kill(group: SentinelGroup) -> Event:
    """Kill the primary; it comes back empty."""
    before = group.primary()
    began = time.monotonic()
    before.stop()
    group.moved_from(before)
    event = Event(began, time.monotonic())
    before.start()
    return event


def plan(group: SentinelGroup) -> Event:
    """Have the sentinels make another server the primary."""
    began = time.monotonic()
    group.failover()
    return Event(began, time.monotonic())


class Watcher:
    """Asks a new question every 10 ms: when was an answer stored again after a failover?"""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stored: list[float] = []
        self._over = threading.Event()
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with Cache(self._url) as cache:
            while not self._over.wait(0.01):
                number += 1
                try:
                    status = str(cache.fetch(question(f"watched {number}"), lambda: answer("x")).status)
                except Exception as error:  # noqa: BLE001 - counted
                    self.errors.append(repr(error))
                else:
                    if "stored" in status:
                        self._stored.append(time.monotonic())

    def back(self, event: Event) -> float:
        """Seconds from the end of a failover until answers were stored again, without a gap of half a second."""
        times = [at for at in self._stored if event.moved < at < event.moved + CALM]
        if not times or event.moved + CALM - times[-1] > GAP:
            raise Failed(f"nothing was stored {CALM:g} s after the failover")
        return max(at for before, at in pairwise([event.moved - GAP, *times]) if at - before > GAP) - event.moved


EVENTS: dict[str, Callable[[SentinelGroup], Event]] = {"killed": kill, "planned": plan}


@row(
    heavy=True,
    modes=("threads",),
    stores=(served(ValkeyServer, "Valkey 9"), served(Redis8Server, "Redis 8"), served(RedisServer, "Redis")),
    variants={name: name for name in EVENTS},
)
def failover(case: Case) -> Seen:
    """a Sentinel service's primary killed or replaced, twice, under a storm from 4 processes.

    Bar: 0 errors, 0 answers born before an acknowledged invalidation that was not lost with the primary; answers are
    stored again within 1 s of the sentinels' own failover.
    """
    group: Any = case.place.server
    times = 1 if case.quick else 2
    seconds = CALM + times * 8.0
    for number in range(PROCESSES):
        case.workers.start(blow, case.place.bare, Storm(seconds, number, "", full=False), mode=MODES[number % 2])
    case.workers.begin()
    events = []
    with Watcher(case.place.url) as watcher:
        for _ in range(times):
            time.sleep(CALM)
            events.append(EVENTS[case.variant](group))
            group.settle()
        logs: list[Log] = case.workers.results(seconds)
        back = [watcher.back(event) for event in events]
    return _judged(logs, events, back, watcher.errors)


def _judged(logs: list[Log], events: list[Event], back: list[float], errors: list[str]) -> Seen:
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    kept = [one for one in invalidations if not any(_lost(one, event) for event in events)]
    bad = len(violations(lookups, kept))
    raw = len(violations(lookups, invalidations))
    took = ", ".join(f"{event.moved - event.began:.1f}" for event in events)
    return Seen(
        f"failovers of {took} s; back {max(back):.2f} s later; {bad} violations ({raw} with those that were lost) in"
        f" {len(lookups)} lookups and {len(kept)} acknowledged invalidations,"
        f" {sum(len(log.failed) for log in logs)} not acknowledged; {len(errors)} errors",
        not bad and not errors and max(back) <= BACK,
        {"violations": bad, "raw": raw, "back_s": max(back), "errors": len(errors)},
    )


def _lost(one: Invalidation, event: Event) -> bool:
    return event.began - LOST < one.returned < event.moved + LOST
