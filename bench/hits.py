"""What a hit costs: a whole one, from the request to a decoded answer, beside a bare read of the same bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
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

REQUEST = question("hit")
ANSWER = answer("hit")
BODY = orjson.dumps(ANSWER)


def valkey(quick: bool) -> Iterator[Reading]:
    """Against redis.Redis.get, sync."""
    import redis

    with places.valkey() as place, Cache(place.url) as cache, redis.Redis.from_url(place.url) as client:
        client.set(_name(), BODY)
        fetch, name = hit_of(cache), _name()
        found = pair(fetch, lambda: client.get(name), turns(quick))
        _all_hits(cache.stats())
    yield found.reading(_case(), "fetch", "GET", VALKEY_BAR)


def sqlite(quick: bool) -> Iterator[Reading]:
    """Against diskcache, its key and its decoding written by hand."""
    import diskcache

    with places.sqlite() as place, Cache(place.url) as cache, diskcache.Cache(place.folder / "diskcache") as disk:
        disk[_name()] = BODY

        def by_hand() -> Any:
            return orjson.loads(disk.get(sha256(orjson.dumps(REQUEST)).hexdigest()))

        found = pair(hit_of(cache), by_hand, turns(quick))
        _all_hits(cache.stats())
    yield found.reading(_case(), "fetch", "diskcache", SQLITE_BAR)


def tasks(quick: bool) -> Iterator[Reading]:
    """Against redis.asyncio.Redis.get: one task alone, and 200 at once. There is no bar."""
    found, ours, theirs = asyncio.run(_tasks(turns(quick)))
    yield found.reading(f"one task, {_case()}", "fetch", "GET", None)
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
            name = _name()
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
            _all_hits(cache.stats())
            return found, rates[0], rates[1]


async def _rate(work: Any, total: int) -> float:
    async def caller() -> None:
        for _ in range(total // CALLERS):
            await work()

    began = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    return total // CALLERS * CALLERS / (time.perf_counter() - began)


def hit_of(cache: Cache) -> Callable[[], Any]:
    """A call that is a hit from now on."""
    cache.fetch(REQUEST, lambda: ANSWER)
    return lambda: cache.fetch(REQUEST, _never)


def _never() -> Any:
    raise Failed("a hit called upstream")


def _name() -> str:
    return sha256(orjson.dumps(REQUEST)).hexdigest()


def turns(quick: bool) -> int:
    return 400 if quick else 10_000


def _case() -> str:
    return f"question of {len(orjson.dumps(REQUEST))} bytes, answer of {len(BODY)}"


def _all_hits(stats: dict[str, Any]) -> None:
    if stats["hit"] != stats["lookups"] - 1:
        raise Failed(f"not all lookups were hits: {stats}")
