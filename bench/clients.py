"""What askonce costs behind an HTTP client: a hit beside a client that has the answer in memory, a miss beside none.

The bare client is the module's own, and so is most of the time of a hit: it builds a request, and reads a response. The
headers are those that OpenAI's SDK sends, and OpenAI's API answers with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

import httpx2
import orjson

from askonce import AsyncCache, Cache
from askonce.testing import Provider
from bench import places
from bench.hits import MANY, turns
from bench.pairs import Pair, pair, pair_async
from bench.questions import answer, question
from bench.row import Failed, Reading

HIT_BAR = 2.0
SYNC_BAR, ASYNC_BAR = 1500.0, 2000.0  # us

URL = "https://api.openai.com/v1/chat/completions"
BODY = orjson.dumps(answer("client"))
QUESTION = question("client")
SENT = {
    "authorization": "Bearer sk-of-a-bench",
    "user-agent": "OpenAI/Python 3.54.0",
    **{f"x-stainless-{name}": "1" for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version")},
    **{f"x-stainless-{name}": "0" for name in ("async", "retry-count", "read-timeout")},
}
ANSWERED = [
    *(("date", "Mon, 23 Nov 2026 05:39:57 GMT"), ("content-type", "application/json"), ("server", "cloudflare")),
    *(
        ("x-request-id", "req_1"),
        ("openai-processing-ms", "300"),
        ("openai-version", "2020-10-01"),
        ("cf-ray", "8-LHR"),
    ),
]


class Memory(httpx2.BaseTransport):
    """A transport that has the answer already."""

    def handle_request(self, _: httpx2.Request) -> httpx2.Response:
        """At once."""
        return httpx2.Response(200, headers=ANSWERED, stream=httpx2.ByteStream(BODY))


def hits(quick: bool) -> Iterator[Reading]:
    """A hit through http_client(), on Redis, against a bare client; and the engine's own hit."""
    for number in (1, 500 if quick else MANY):
        with places.redis() as place, Cache(place.url) as cache, httpx2.Client(transport=Memory()) as bare:
            with cache.http_client(inner=Memory()) as client:
                found = _hits(cache, client, bare, number, turns(quick))
            own = pair(_fetched(cache, number), lambda: None, turns(quick) // 5)
        case = "one question" if number == 1 else f"{number:,} questions"
        reading = found.reading(case, "http_client", "bare", HIT_BAR)
        added = found.first - found.second - own.first
        more = f"; {added:.0f} us more than the bare client and the engine's own hit of {own.first:.0f} us"
        yield reading._replace(measured=reading.measured + more)


def _hits(cache: Cache, client: Any, bare: Any, number: int, each: int) -> Pair:
    bodies = [orjson.dumps({**QUESTION, "seed": one}) for one in range(number)]
    for body in bodies:
        _posted(client, URL, body)
    asked, also = cycle(bodies), cycle(bodies)
    found = pair(lambda: _posted(client, URL, next(asked)), lambda: _posted(bare, URL, next(also)), each)
    if cache.stats()["miss"] != number:
        raise Failed(f"not all were hits: {cache.stats()}")
    return found


def _fetched(cache: Cache, number: int) -> Callable[[], Any]:
    value = orjson.loads(BODY)
    requests = [{**QUESTION, "seed": one} for one in range(number)]
    for request in requests:
        cache.fetch(request, lambda: value)
    asked = cycle(requests)
    return lambda: cache.fetch(next(asked), lambda: value)


def _posted(client: Any, url: str, body: bytes) -> bytes:
    got: bytes = client.post(url, content=body, headers=SENT).content
    return got


def misses(quick: bool) -> Iterator[Reading]:
    """What a miss costs over the call itself, upstream at 0 ms on this machine."""
    for placed in (places.redis, places.sqlite):
        with placed() as place, Provider() as provider:
            url, each = f"{provider.openai_url}/chat/completions", turns(quick) // 20
            yield _added(f"{place.name}, sync", _misses(place.url, url, each), SYNC_BAR)
            yield _added(f"{place.name}, async", asyncio.run(_misses_of_a_task(place.url, url, each)), ASYNC_BAR)


def _misses(store: str, url: str, each: int) -> Pair:
    numbers = count()
    with Cache(store) as cache, httpx2.Client() as bare, cache.http_client() as client:

        def ask(by: Any) -> bytes:
            return _posted(by, url, _new(next(numbers)))

        return pair(lambda: ask(client), lambda: ask(bare), each)


async def _misses_of_a_task(store: str, url: str, each: int) -> Pair:
    numbers = count(time.time_ns() >> 20)  # no integer that JSON would not keep
    async with AsyncCache(store) as cache, httpx2.AsyncClient() as bare, cache.http_client() as client:

        async def ask(by: Any) -> Any:
            return (await by.post(url, content=_new(next(numbers)), headers=SENT)).content

        return await pair_async(lambda: ask(client), lambda: ask(bare), each)


def _new(number: int) -> bytes:
    return orjson.dumps({**QUESTION, "seed": number})


def _added(case: str, found: Pair, bar: float) -> Reading:
    added = found.first - found.second
    said = f"{added / 1000:.2f} ms more; p50: with {found.first / 1000:.2f} ms, without {found.second / 1000:.2f} ms"
    return Reading(case, said, added <= bar, {"added_us": added})
