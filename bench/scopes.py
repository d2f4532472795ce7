"""What it costs to invalidate a scope that holds 1,000 entries, and one that holds 1,000,000.

The entries are real, and written by hand, since a million upstream calls would take an hour: sealed as a fill seals
them, under the generation of their partition. Some are looked up before and after, to see that they lived and died.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis

from askonce import Cache, NotCached, Policy
from askonce.core import keys
from askonce.core.model import FIELDS, SCOPE, Lifetime, Snapshot, pack_fields, seal
from askonce.question import Planner, Question, Settings
from askonce.store import PARTITIONS
from askonce.store.redis_names import Names
from bench.pairs import RUNS
from bench.places import Place, valkey
from bench.questions import answer
from bench.row import Failed, Reading, median

BAR_RATIO, BAR_SECONDS = 1.5, 0.005
HOUR = 3_600_000
BATCH = 2_000
TIMES = 20  # invalidations that are timed, one here and one there, a run
SAMPLE = 50
NAME = "big/scope"
BODY = b'{"answer":"yes"}'


def invalidate(quick: bool) -> Iterator[Reading]:
    """One here, one there, in turn."""
    sizes = (100, 10_000) if quick else (1_000, 1_000_000)
    with ExitStack() as stack:
        places = [stack.enter_context(valkey()) for _ in sizes]
        caches = [stack.enter_context(Cache(place.url)) for place in places]
        for place, cache, size in zip(places, caches, sizes, strict=True):
            _fill(place, cache, size)
            _check(cache, size, alive=True)
        first = [_timed(cache) for cache in caches]
        for cache, size in zip(caches, sizes, strict=True):
            _check(cache, size, alive=False)
        few, many = zip(*[[_timed(cache) for cache in caches] for _ in range(TIMES * RUNS)], strict=True)
    ratio = median(many) / median(few)
    yield Reading(
        f"{sizes[0]} and {sizes[1]} entries, {PARTITIONS} partitions on one primary",
        f"{median(few) * 1000:.2f} ms and {median(many) * 1000:.2f} ms, {ratio:.2f};"
        f" the ones that ended lives: {first[0] * 1000:.2f} ms and {first[1] * 1000:.2f} ms",
        max(ratio, 1 / ratio) <= BAR_RATIO and median(many) <= BAR_SECONDS,
        {"ratio": ratio, "few_s": median(few), "many_s": median(many), "first_s": first[1]},
    )


def _timed(cache: Cache) -> float:
    began = time.perf_counter()
    cache.invalidate(scope="big")
    return time.perf_counter() - began


def _check(cache: Cache, size: int, *, alive: bool) -> None:
    """Whether some of the entries are served, or none of them."""
    for number in range(0, size, max(1, size // SAMPLE)):
        try:
            cache.fetch(_request(number), lambda: None, scope=NAME, control="only-if-cached")
            served = True
        except NotCached:
            served = False
        if served is not alive:
            raise Failed(f"entry {number} of {size} is {'served' if served else 'not served'}")


def _request(number: int) -> dict[str, Any]:
    return {"number": number}


def _fill(place: Place, cache: Cache, size: int) -> None:
    names, plan = Names(""), Planner("", "", Policy(), {}, "on").plan(Settings(scope=NAME))
    with redis.Redis.from_url(place.url) as client:
        snapshots = _snapshots(client, names, cache)
        now = int(time.time() * 1000)
        for at in range(0, size, BATCH):
            pipe = client.pipeline(transaction=False)
            for number in range(at, min(at + BATCH, size)):
                asked = plan.question(keys.canonical(_request(number)), "")
                pipe.set(
                    names.of(asked.key)[0], _entry(asked, snapshots[asked.key.digest[0] % PARTITIONS], now), px=HOUR
                )
            pipe.execute()


def _entry(asked: Question, snapshot: Snapshot, now: int) -> bytes:
    extensions = {FIELDS: pack_fields(asked.fields), SCOPE: NAME.encode()}
    sealed = seal(asked.key.form, asked.key.digest, os.urandom(16), now * 1000, snapshot, HOUR, extensions, BODY)
    return sealed.dated(Lifetime(HOUR, 0, 0, HOUR).dates(now))


def _snapshots(client: Any, names: Names, cache: Cache) -> list[Snapshot]:
    """The generations of all partitions, once each has been used."""
    for number in range(100 * PARTITIONS):
        missing = [one for one in range(PARTITIONS) if not client.hexists(names.generations(one), "ep")]
        if not missing:
            break
        for again in range(PARTITIONS):
            cache.fetch({"partition": number, "again": again}, lambda: answer("any"))
    read = [client.hmget(names.generations(one), "ep", "clk") for one in range(PARTITIONS)]
    return [Snapshot(epoch, int(clock or 0)) for epoch, clock in read]
