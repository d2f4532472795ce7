"""The near cache: what a hit costs against a dict, and a storm of everything that can make it lie.

In the storm, every call writes the time at which it began into its answer, on the one monotonic clock of the machine.
A lookup may get an answer that was invalidated less than two seconds before the lookup began, and no older one; a
lookup with ``consistency="strong"`` gets none at all. Meanwhile connections are cut, processes are stopped for longer
than that, and the server is restarted, or the slots of a Cluster are moved. Planted faults show that the observer
works: a process that is told nothing, and one whose strong lookups are not.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import orjson

from askonce import Cache
from askonce.core.keys import Key
from askonce.engine.planner import Planner
from askonce.errors import PartialInvalidation, StoreUnavailable
from askonce.store.redis.tracking import Tracking
from askonce.testing import ValkeyServer
from askonce.testing.clusters import Cluster, slots
from bench import places
from bench.callers import Callers
from bench.compare import Pair, Ratio, pair
from bench.places import MODES, Place
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.storms import Invalidation, Lookup, violations
from bench.workers import Failed, Parent

REQUEST, ANSWER = question("near"), answer("near")
OLDEST = 2.0  # s after an acknowledged invalidation
SIZE = 4 * 2**20
QUESTIONS = 400
PROCESSES = 4
ASKERS = 4  # in each process
LOOKUPS = 50_000  # of each process
PAUSE = 0.01  # s after each TURN lookups of one caller: a storm takes a while
TURN = 8
EVERY = (0.02, 0.2)  # s between two invalidations of one process
STRONG = 0.1  # the share of lookups that are strong
SINGLE = 0.98  # the share of invalidations that reach one question: the others leave little to be old
WAYS = {"scope": 4, "tag": 5}
TROUBLE = (0.5, 4.0)  # s between two disturbances


@row(stores=(places.valkey,), modes=("threads",), ratio=Ratio("fetch", "dict", 2.0))
def near_hit(case: Case) -> Pair:
    """a near-cache hit through fetch, 2 KB question and answer, against a dict after the same key work.

    Bar: <= 2.

    The key work is the cache's own: the canonical body, and its key, which it remembers. The dict has the body, which
    is decoded, because every caller gets a copy.
    """
    with Cache(case.place.url, near="16MB") as cache:
        until = time.monotonic() + 10
        while cache.fetch(REQUEST, lambda: ANSWER).status.detail != "near":
            if time.monotonic() > until:
                raise Failed("no near hit within 10 s")
        kept = {_known(cache): orjson.dumps(ANSWER)}

        def by_hand() -> Any:
            return orjson.loads(kept[_known(cache)])

        made = pair(lambda: cache.fetch(REQUEST, _never), by_hand, 500 if case.quick else 20_000)
        return made._replace(right=cache.fetch(REQUEST, _never).status.detail == "near")


def _known(cache: Cache) -> Key:
    """The key of the request, with the work that a lookup has with it."""
    plan = cache._base._planner.plan(cache._settings({}))  # noqa: SLF001 - what a lookup does first, and no more
    return cache._base._known(cache._base._body(REQUEST), plan).key  # noqa: SLF001


def _never() -> Any:
    raise Failed("a hit called upstream")


# --- one process ------------------------------------------------------------------------------------------------------


class Storm(NamedTuple):
    """The work of one process: so many lookups, and at least so many seconds."""

    seed: int
    fault: str
    lookups: int
    seconds: float


class Log(NamedTuple):
    """What one process did."""

    near: list[Lookup]
    strong: list[Lookup]
    invalidations: list[Invalidation]
    most: int
    stats: dict[str, Any]


def _own(number: int) -> dict[str, Any]:
    return {"scope": f"scope-{number % WAYS['scope']}", "tags": [f"tag-{number % WAYS['tag']}"]}


def _request(number: int) -> dict[str, Any]:
    return {**question(number, 200), "model": "m"}


def _drawn(draw: random.Random) -> int:
    """A question: few are asked often."""
    return min(int(draw.expovariate(8 / QUESTIONS)), QUESTIONS - 1)


def _aimed(draw: random.Random) -> tuple[dict[str, Any], Sequence[int]]:
    number = _drawn(draw)
    if draw.random() < SINGLE:
        return {"request": _request(number), "scope": _own(number)["scope"]}, [number]
    way, parts = draw.choice(list(WAYS.items()))
    return {way: f"{way}-{number % parts}"}, range(number % parts, QUESTIONS, parts)


async def blow(c: Callers, parent: Parent, place: Place, storm: Storm) -> Log:
    """A worker."""
    if storm.fault:
        FAULTS[storm.fault]()
    lookups: dict[bool, list[Lookup]] = {False: [], True: []}
    invalidations: list[Invalidation] = []
    most = 0
    async with c.cache(place.url, near=SIZE) as cache:
        until = await parent.begin(c) + storm.seconds

        async def ask(draw: random.Random) -> None:
            nonlocal most
            for turn in count():
                if turn >= storm.lookups // ASKERS and time.monotonic() > until:
                    return
                number, strong, began = _drawn(draw), draw.random() < STRONG, time.monotonic()
                own = {**_own(number), **({"consistency": "strong"} if strong else {})}
                asked = await c.ask(cache, _request(number), lambda: _call(c), **own)
                if asked.error:
                    raise Failed(asked.error)
                lookups[strong].append(Lookup(number, began, float(asked.name)))
                if not turn % TURN:
                    most = max(most, cache.stats()["near cache"]["bytes"])
                    await c.sleep(PAUSE)

        async def invalidate(draw: random.Random) -> None:
            while time.monotonic() < until or len(lookups[False]) + len(lookups[True]) < storm.lookups - ASKERS * TURN:
                how, reached = _aimed(draw)
                called = time.monotonic()
                with contextlib.suppress(StoreUnavailable, PartialInvalidation):
                    await c.invalidate(cache, **how)
                    returned = time.monotonic()
                    invalidations.extend(Invalidation(number, called, returned) for number in reached)
                await c.sleep(draw.uniform(*EVERY))

        works: list[Callable[[random.Random], Coroutine[Any, Any, None]]] = [*[ask] * ASKERS, invalidate]
        await c.gather(*[work(random.Random(f"{storm.seed} {at}")) for at, work in enumerate(works)])
        return Log(lookups[False], lookups[True], invalidations, most, cache.stats())


async def _call(c: Callers) -> Any:
    born = time.monotonic()
    await c.sleep(random.uniform(0.001, 0.01))
    return answer(born, 600)


# --- planted faults ---------------------------------------------------------------------------------------------------


def deaf() -> None:
    """Keep what nobody tells of: tracking is off, and not tested (a planted fault)."""
    begun = Tracking._begun  # noqa: SLF001 - a fault is planted behind the face

    def believed(self: Tracking, replies: Sequence[Any]) -> None:
        self._tested = b""
        begun(self, replies)

    Tracking._begun = believed  # type: ignore[method-assign]  # noqa: SLF001
    Tracking._compared = lambda *_: None  # type: ignore[method-assign]  # noqa: SLF001
    Tracking.told = _unheard  # type: ignore[method-assign,assignment]


def _unheard(_: Tracking, push: Sequence[Any]) -> bool:
    return bool(push[0] == b"invalidate")


def strong_in_name() -> None:
    """Serve strong lookups from what nobody tells of (a planted fault)."""
    deaf()
    planned = Planner._terms  # noqa: SLF001
    Planner._terms = lambda *of: planned(*of)._replace(consistency="bounded")  # type: ignore[method-assign]  # noqa: SLF001


FAULTS: dict[str, Callable[[], None]] = {"tracking is off": deaf, "strong lookups are not strong": strong_in_name}


# --- the storm --------------------------------------------------------------------------------------------------------


def valkey_cluster() -> AbstractContextManager[Place]:
    """Three primaries."""
    return places.served(Cluster(ValkeyServer), "Valkey Cluster")


@row(
    heavy=True,
    stores=(places.valkey, places.redis, valkey_cluster),
    modes=("threads",),  # both, in each case
    variants={"": "", **{f"planted: {fault}": fault for fault in FAULTS}},
)
def near_storm(case: Case) -> Seen:
    """200,000 lookups of 4 processes with near=: fills, invalidations, connections cut, servers restarted, slots moved.

    Bar: 0 answers older than 2 s after an acknowledged invalidation; 0 in strong mode; bytes within the bound; planted
    faults are caught.
    """
    lookups = 1_000 if case.quick or case.variant else LOOKUPS
    seconds = 15.0 if case.variant else 1.0 if case.quick else 20.0
    over = threading.Event()
    workers = []
    for number in range(PROCESSES):
        storm = Storm(number, case.variant, lookups, seconds)
        workers.append(case.workers.start(blow, case.place.bare, storm, mode=MODES[number % 2]))
    case.workers.begin()
    trouble = threading.Thread(target=_disturb, args=(case, workers, over))
    trouble.start()
    try:
        logs: list[Log] = case.workers.results(600.0)
    finally:
        over.set()
        trouble.join()
    return _judged(case, logs)


def _disturb(case: Case, workers: Sequence[Any], over: threading.Event) -> None:
    draw = random.Random(1)
    server: Any = case.place.server
    kinds: list[Callable[[Any], None]] = [partial(_stop, workers, draw)]
    if not case.variant:  # a lost connection empties a near cache: a fault would have little to show
        kinds += [_move] if isinstance(server, Cluster) else [_cut, _restart]
    while not over.wait(draw.uniform(*TROUBLE)):
        draw.choice(kinds)(server)


def _stop(workers: Sequence[Any], draw: random.Random, _: Any) -> None:
    one = draw.choice(workers)
    one.stop()
    time.sleep(OLDEST + 1.0)
    one.go_on()


def _cut(server: Any) -> None:
    server.kill_connections()


def _restart(server: Any) -> None:
    server.stop()
    server.start()


def _move(cluster: Any) -> None:
    primaries = cluster.primaries()
    victim = random.choice(primaries)
    mine = sorted(slots(victim))
    for slot in random.sample(mine, min(200, len(mine))):
        cluster.move(slot, random.choice([one for one in primaries if one is not victim]))


def _judged(case: Case, logs: Sequence[Log]) -> Seen:
    invalidations = [one for log in logs for one in log.invalidations]
    lookups = [one._replace(began=one.began - OLDEST) for log in logs for one in log.near]
    strong = [one for log in logs for one in log.strong]
    old, wrong = len(violations(lookups, invalidations)), len(violations(strong, invalidations))
    most = max(log.most for log in logs)
    near = sum(log.stats.get("hit.near", 0) for log in logs)
    calls = sum(log.stats.get("call", 0) for log in logs)
    right = not old and not wrong and 0 < most <= SIZE and near > 0 and bool(invalidations)
    return Seen(
        f"{old} older than {OLDEST:g} s, {wrong} of {len(strong)} strong ones older at all, in"
        f" {len(lookups) + len(strong)} lookups ({near} near hits, {calls} calls) and {len(invalidations)} acknowledged"
        f" invalidations; at most {most / 2**20:.2f} of {SIZE / 2**20:g} MiB",
        old + wrong > 0 if case.variant else right,
        {"old": old, "wrong": wrong, "near": near},
    )
