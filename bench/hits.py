"""What a hit costs: a whole one, from the request to a decoded answer, beside a bare read of the same bytes.

One question asked again and again is what a loop measures easily, and what caches in the process flatter: keys worked
out before, entries read before. So the same is measured over more questions than those keep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import cycle
from typing import Any

import orjson

from askonce import AsyncCache, Cache
from bench import places
from bench.pairs import Pair, pair, pair_async
from bench.questions import answer, question
from bench.row import Failed, Reading

VALKEY_BAR = 1.2
SQLITE_BAR = 1.5
CALLERS = 200
MANY = 5_000  # questions: more than a plan keeps in mind, or a connection near

REQUEST = question("hit")
ANSWER = answer("hit")
BODY = orjson.dumps(ANSWER)


def valkey(quick: bool) -> Iterator[Reading]:
    """Against redis.Redis.get, sync."""
    for count in (1, _many(quick)):
        yield _on_valkey(count, turns(quick)).reading(_case(count), "fetch", "GET", VALKEY_BAR)


def _on_valkey(count: int, each: int) -> Pair:
    import redis

    with places.valkey() as place, Cache(place.url) as cache, redis.Redis.from_url(place.url) as client:
        client.mset({_name(one): BODY for one in _questions(count)})
        fetch, names = hits_of(cache, count), cycle([_name(one) for one in _questions(count)])
        found = pair(fetch, lambda: client.get(next(names)), each)
        _all_hits(cache.stats(), count)
    return found


def sqlite(quick: bool) -> Iterator[Reading]:
    """Against diskcache, its key and its decoding written by hand."""
    for count in (1, _many(quick)):
        yield _on_sqlite(count, turns(quick)).reading(_case(count), "fetch", "diskcache", SQLITE_BAR)


def _on_sqlite(count: int, each: int) -> Pair:
    import diskcache

    with places.sqlite() as place, Cache(place.url) as cache, diskcache.Cache(place.folder / "disk") as disk:
        for one in _questions(count):
            disk[_name(one)] = BODY
        fetch, asked = hits_of(cache, count), cycle(_questions(count))
        found = pair(fetch, lambda: orjson.loads(disk.get(_name(next(asked)))), each)
        _all_hits(cache.stats(), count)
    return found


def tasks(quick: bool) -> Iterator[Reading]:
    """Against redis.asyncio.Redis.get: one task alone, and 200 at once. There is no bar."""
    found, ours, theirs = asyncio.run(_tasks(turns(quick)))
    yield found.reading(f"one task, {_case(1)}", "fetch", "GET", None)
    yield Reading(
        f"{CALLERS} tasks",
        f"fetch {ours / 1000:.1f}k/s, GET {theirs / 1000:.1f}k/s",
        None,
        {"fetch_per_s": ours, "get_per_s": theirs},
    )


async def _tasks(count: int) -> tuple[Pair, float, float]:
    import redis.asyncio as redis

    with places.valkey() as place:
        async with AsyncCache(place.url) as cache, redis.Redis.from_url(place.url, max_connections=CALLERS) as client:
            name = _name(REQUEST)
            await client.set(name, BODY)

            async def paid() -> Any:
                return ANSWER

            async def fetch() -> Any:
                return await cache.fetch(REQUEST, paid)

            async def get() -> Any:
                return await client.get(name)

            await fetch()
            found = await pair_async(fetch, get, count)
            rates = [await _rate(work, count * 2) for work in (fetch, get)]
            _all_hits(cache.stats(), 1)
            return found, rates[0], rates[1]


async def _rate(work: Any, total: int) -> float:
    async def caller() -> None:
        for _ in range(total // CALLERS):
            await work()

    began = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    return total // CALLERS * CALLERS / (time.perf_counter() - began)


def hits_of(cache: Cache, count: int = 1) -> Callable[[], Any]:
    """A call that is a hit from now on, of the next of so many questions."""
    for one in _questions(count):
        cache.fetch(one, lambda: ANSWER)
    asked = cycle(_questions(count))
    return lambda: cache.fetch(next(asked), _never)


def _questions(count: int) -> list[dict[str, Any]]:
    """The first of them is always the same."""
    return [REQUEST, *[{**REQUEST, "seed": number} for number in range(1, count)]]


def _never() -> Any:
    raise Failed("a hit called upstream")


def _name(request: Any) -> str:
    return sha256(orjson.dumps(request)).hexdigest()


def turns(quick: bool) -> int:
    """Calls of a run."""
    return 400 if quick else 10_000


def _many(quick: bool) -> int:
    return 100 if quick else MANY


def _case(count: int) -> str:
    which = "one question" if count == 1 else f"{count} questions in turn"
    return f"{which} of {len(orjson.dumps(REQUEST))} bytes, answer of {len(BODY)}"


def _all_hits(stats: dict[str, Any], count: int) -> None:
    if stats["hit"] != stats["lookups"] - count:
        raise Failed(f"not all lookups were hits: {stats}")
