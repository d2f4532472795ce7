"""A Cluster in use: the storm of `storms`, while nothing happens, a primary is killed or replaced, or slots move.

The storm asks and invalidates from four processes of threads and of tasks. A watcher asks new questions. What befalls
one primary must not be seen in the answers to those whose keys are at another one.

Replication is asynchronous: an invalidation that a killed primary acknowledged and did not pass on is lost. So those
that were acknowledged around a failover are not judged.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, Self

from askonce import Cache
from askonce.store.redis.names import Names
from askonce.testing import ServerMissing, ValkeyServer
from askonce.testing.clusters import Cluster, flags, slots, until
from askonce.testing.servers import Redis8Server, Server
from bench import leases, streams
from bench.places import MODES, Opener, Place, Skipped, nowhere
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.storms import PROCESSES, Invalidation, Log, Storm, blow, violations

LOST = 0.2  # s around a failover whose acknowledged invalidations may be lost
BACK = 1.0  # s beyond the cluster's own failover
CALM = 2.0  # s of a storm before and after an event
OTHERS = 0.25  # s: the most that a lookup at another primary may take more than its call
MOVES = 12  # slots that are moved


def served(kind: type[Server], name: str) -> Opener:
    """Opens a Cluster of three primaries with a replica each."""

    @contextmanager
    def opened() -> Iterator[Place]:
        try:
            with Cluster(kind, replicas=1) as cluster, nowhere() as place:
                yield Place(f"{name} Cluster", cluster.url, place.folder, cluster)  # type: ignore[arg-type]
        except ServerMissing as missing:
            raise Skipped(str(missing)) from missing

    return opened


CLUSTERS = (served(ValkeyServer, "Valkey"), served(Redis8Server, "Redis 8.2"))


class Event(NamedTuple):
    """What befell the cluster: when it began and was over, and the slots that it befell."""

    began: float
    over: float
    slots: frozenset[int]


def calm(cluster: Cluster) -> Event:
    """Nothing happens."""
    del cluster
    now = time.monotonic()
    return Event(now, now, frozenset())


def kill(cluster: Cluster) -> Event:
    """Kill a primary; it comes back as a replica of the one that took over."""
    victim = random.choice([server for server in cluster.servers if "master" in flags(server)])
    mine, heir = frozenset(slots(victim)), cluster.replica_of(victim)
    began = time.monotonic()
    victim.stop()
    until(lambda: "master" in flags(heir))
    event = Event(began, time.monotonic(), mine)
    victim.start()
    cluster.settle()
    return event


def freeze(cluster: Cluster) -> Event:
    """Freeze a primary; it goes on a while after another one took over, and does not know of it."""
    victim = random.choice([server for server in cluster.servers if "master" in flags(server)])
    mine, heir = frozenset(slots(victim)), cluster.replica_of(victim)
    began = time.monotonic()
    victim.freeze()
    until(lambda: "master" in flags(heir))
    event = Event(began, time.monotonic(), mine)
    time.sleep(CALM / 2)
    victim.thaw()
    cluster.settle()
    return event


def plan(cluster: Cluster) -> Event:
    """Have a replica take over in order."""
    victim = random.choice([server for server in cluster.servers if "master" in flags(server)])
    mine, began = frozenset(slots(victim)), time.monotonic()
    cluster.failover(victim)
    return Event(began, time.monotonic(), mine)


def move(cluster: Cluster) -> Event:
    """Move slots that are in use, key by key."""
    used = random.sample(Names("").slots(), MOVES)
    began = time.monotonic()
    for slot in used:
        target = random.choice([server for server in cluster.servers if "master" in flags(server)])
        cluster.move(slot, target, pause=lambda: time.sleep(0.01))
    return Event(began, time.monotonic(), frozenset(used))


EVENTS: dict[str, Callable[[Cluster], Event]] = {
    "calm": calm,
    "killed": kill,
    "frozen": freeze,
    "planned": plan,
    "moved": move,
}


class Told(NamedTuple):
    """A watcher's lookup: when it began, its s, whether its answer was stored, its slot."""

    began: float
    took: float
    stored: bool
    slot: int


class Watcher:
    """Asks a new question every 10 ms."""

    def __init__(self, cache: Cache) -> None:
        self.told: list[Told] = []
        self.errors: list[str] = []
        self._cache = cache
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        by_partition, numbers = Names("").slots(), count()
        while not self._over.wait(0.01):
            began = time.monotonic()
            try:
                outcome = self._cache.fetch(question(f"watched {next(numbers)}"), lambda: answer("x"))
            except Exception as error:  # noqa: BLE001 - counted
                self.errors.append(repr(error))
            else:
                slot = by_partition[bytes.fromhex(outcome.key)[0] % len(by_partition)]
                self.told.append(Told(began, time.monotonic() - began, outcome.status.stored, slot))


@row(heavy=True, modes=("threads",), stores=CLUSTERS, variants={name: name for name in EVENTS})
def cluster(case: Case) -> Seen:
    """a Cluster of 3 primaries and 3 replicas under a storm from 4 processes: calm, a primary killed, slots moved.

    Bar: 0 errors, 0 answers born before an acknowledged invalidation that was not lost with a primary; answers are
    stored again within 1 s of the cluster's own failover; the keys of other primaries are undisturbed.
    """
    running: Any = case.place.server
    seconds = 2 * CALM + (0 if case.variant == "calm" else 8.0)
    for number in range(PROCESSES):
        case.workers.start(blow, case.place.bare, Storm(seconds, number, "", full=True), mode=MODES[number % 2])
    case.workers.begin()
    with Cache(case.place.url) as cache, Watcher(cache) as watcher:
        time.sleep(CALM)
        event = EVENTS[case.variant](running)
        logs: list[Log] = case.workers.results(seconds)
    return _judged(logs, event, watcher)


def _judged(logs: list[Log], event: Event, watcher: Watcher) -> Seen:
    lookups = [one for log in logs for one in log.lookups]
    invalidations = [one for log in logs for one in log.invalidations]
    kept = [one for one in invalidations if not _lost(one, event)]
    bad, raw = len(violations(lookups, kept)), len(violations(lookups, invalidations))
    told, errors = watcher.told, watcher.errors
    back = _back(told, event)
    others = [one for one in told if one.slot not in event.slots and 0 <= one.began - event.began < 2 * CALM]
    slowest, unstored = max(one.took for one in others), sum(not one.stored for one in others)
    return Seen(
        f"event of {event.over - event.began:.1f} s; back {back:.2f} s later; {bad} violations ({raw} with those that"
        f" were lost) in {len(lookups)} lookups and {len(kept)} acknowledged invalidations,"
        f" {sum(len(log.failed) for log in logs)} not acknowledged; {len(errors)} errors; other keys: slowest"
        f" {slowest * 1000:.0f} ms, {unstored} of {len(others)} not stored",
        not bad and not errors and back <= BACK and slowest <= OTHERS and not unstored,
        {"violations": bad, "raw": raw, "back_s": back, "errors": len(errors), "others_unstored": unstored},
    )


def _back(told: list[Told], event: Event) -> float:
    """Seconds from the end of the event until every answer of its slots was stored again."""
    late = [one for one in told if one.slot in event.slots and one.began > event.began and not one.stored]
    return max([0.0, *(one.began + one.took - event.over for one in late)])


def _lost(one: Invalidation, event: Event) -> bool:
    return bool(event.slots) and event.began - LOST < one.returned < event.over + LOST


@row(heavy=True, stores=CLUSTERS)
def cluster_cold(case: Case) -> Seen:
    """a stampede on a Cluster: 8 processes x 25 callers, one cold key, a 12 s call.

    Bar: 1 call; all answered within 0.25 s of each other.
    """
    return leases.cold(case)


@row(heavy=True, stores=CLUSTERS)
def cluster_streams(case: Case) -> Seen:
    """a stream on a Cluster: 4 processes x 25 readers, joining at random times.

    Bar: 1 upstream stream, all the same bytes; delay of an event elsewhere p50 <= 2 ms, p99 <= 15 ms.
    """
    return streams.streams(case)
