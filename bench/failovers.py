"""Failovers of a Sentinel service under load: the storm of `storms`, while the primary is killed or replaced.

The primary is killed with SIGKILL, and comes back empty; or the sentinels are told to make another server the primary,
and the old one answers on as a primary for seconds. Replication is asynchronous: an invalidation that the old primary
acknowledged and did not pass on is lost. So invalidations that were acknowledged around the failover are not judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from askonce import Cache
from askonce.testing import RedisServer, ValkeyServer
from askonce.testing.sentinels import SentinelGroup
from askonce.testing.servers import Redis8Server, Server
from bench.places import MODES, Opener, served
from bench.row import Case, Seen, row
from bench.storms import PROCESSES, Invalidation, Log, Storm, blow, counted
from bench.watcher import Told, Watcher
from bench.workers import Failed

LOST = 0.2  # s around a failover whose acknowledged invalidations may be lost
BACK = 1.0  # s beyond the sentinels' own failover
CALM = 2.0  # s of a storm before, between and after
GAP = 0.5  # s between two answers, after which the store was not in use


def opener(kind: type[Server], name: str) -> Opener:
    """Opens a Sentinel service of a kind of server."""
    return lambda: served(SentinelGroup(kind), f"{name} Sentinel")


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


def back(told: list[Told], event: Event) -> float:
    """Seconds from the end of a failover until answers were stored again, without a gap of half a second."""
    stored = [one.began + one.took for one in told if one.stored]
    times = [at for at in stored if event.moved < at < event.moved + CALM]
    if not times or event.moved + CALM - times[-1] > GAP:
        raise Failed(f"nothing was stored {CALM:g} s after the failover")
    return max(at for before, at in pairwise([event.moved - GAP, *times]) if at - before > GAP) - event.moved


EVENTS: dict[str, Callable[[SentinelGroup], Event]] = {"killed": kill, "planned": plan}


@row(
    heavy=True,
    modes=("threads",),
    stores=(opener(ValkeyServer, "Valkey 9"), opener(Redis8Server, "Redis 8"), opener(RedisServer, "Redis")),
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
    with Cache(case.place.url) as cache, Watcher(cache) as watcher:
        for _ in range(times):
            time.sleep(CALM)
            events.append(EVENTS[case.variant](group))
            group.settle()
        logs: list[Log] = case.workers.results(seconds)
        told, errors = list(watcher.told), watcher.errors
    return _judged(logs, events, max(back(told, event) for event in events), errors)


def _judged(logs: list[Log], events: list[Event], back_after: float, errors: list[str]) -> Seen:
    found = counted(logs, lambda one: any(_lost(one, event) for event in events))
    took = ", ".join(f"{event.moved - event.began:.1f}" for event in events)
    return Seen(
        f"failovers of {took} s; back {back_after:.2f} s later; {found}; {len(errors)} errors",
        not found.bad and not errors and back_after <= BACK,
        {"violations": found.bad, "raw": found.raw, "back_s": back_after, "errors": len(errors)},
    )


def _lost(one: Invalidation, event: Event) -> bool:
    return event.began - LOST < one.returned < event.moved + LOST
