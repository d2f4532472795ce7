"""The cost of a hit against a bare read of the same bytes, in process and behind an HTTP client; a miss; an import.

A loop over one question flatters caches in the process: keys computed before, entries read before. So each measurement
is repeated with more questions than those caches keep. The bare HTTP client is the module's own, and takes most of the
time of a hit: it builds a request and reads a response. The headers are those that OpenAI's SDK sends and OpenAI's API
returns.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import count, cycle
from typing import Any

import httpx2
import orjson

from askonce import AsyncCache, Cache
from askonce.engine.reader import Reader
from askonce.testing import Provider
from bench import places
from bench.against_worker import URL, Memory
from bench.compare import Pair, Ratio, pair, pair_async, paired
from bench.questions import answer, question
from bench.row import Case, row
from bench.workers import Failed

CALLERS = 200
EACH = 500  # calls between two looks at a server's clock
REQUEST, ANSWER = question("hit"), answer("hit")
BODY = orjson.dumps(ANSWER)
QUESTIONS = {
    "one question": 1,
    "5,000 questions in turn": 5_000,
}  # more than are kept by their bytes, than a connection's near cache holds, than its page cache
THREADS = ("threads",)

SENT = {
    "authorization": "Bearer sk-of-a-bench",
    "user-agent": "OpenAI/Python 3.54.0",
    **{f"x-stainless-{name}": "1" for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version")},
    **{f"x-stainless-{name}": "0" for name in ("async", "retry-count", "read-timeout")},
}


def turns(case: Case, full: int = 15_000) -> int:
    return full // 40 if case.quick else full


def _requests(case: Case) -> list[dict[str, Any]]:
    """As many requests as the case says; the first is always the same."""
    number = min(case.variant or 1, 100) if case.quick else case.variant or 1
    return [REQUEST, *[{**REQUEST, "seed": seed} for seed in range(1, number)]]


def hitting(cache: Cache, requests: list[dict[str, Any]]) -> Callable[[], Any]:
    """A call that hits from now on, for the next of these questions."""
    for one in requests:
        cache.fetch(one, lambda: ANSWER)
    asked = cycle(requests)
    return lambda: cache.fetch(next(asked), _never)


def _never() -> Any:
    raise Failed("a hit called upstream")


def _name(request: Any) -> str:
    return sha256(orjson.dumps(request)).hexdigest()


@row(stores=(places.valkey,), modes=THREADS, variants=QUESTIONS, ratio=Ratio("fetch", "GET", 1.0))
def hit(case: Case) -> Pair:
    """a whole hit through fetch on loopback, 2 KB question and answer, sync, against redis.Redis.get of these bytes.

    Bar: <= 1.0.
    """
    import redis

    requests = _requests(case)
    with Cache(case.place.url) as cache, redis.Redis.from_url(case.place.url) as client:
        client.mset({_name(one): BODY for one in requests})
        names = cycle([_name(one) for one in requests])
        return pair(hitting(cache, requests), lambda: client.get(next(names)), turns(case))


@row(stores=(places.valkey,), modes=THREADS, ratio=Ratio("get_or_set", "the wrapper", 0.5))
def hit_tutorial(case: Case) -> Pair:
    """a hit through get_or_set on Valkey against the tutorial's wrapper, with the same arguments.

    Bar: <= 0.5.

    The wrapper sends GET and EXPIRE, one after the other, over redis-py's pool.
    """
    os.environ["REDIS_URL"] = case.place.url  # read when the wrapper is imported
    from bench.peers.adapters import tutorial_wrapper

    asked = REQUEST["messages"], REQUEST["model"]
    with Cache(case.place.url) as cache:
        ours, theirs = cache.get_or_set, tutorial_wrapper.get_or_set
        for one in (ours, theirs):
            one(*asked, lambda: ANSWER)
        return pair(lambda: ours(*asked, _never), lambda: theirs(*asked, _never), turns(case))


@row(stores=(places.valkey, places.redis), modes=THREADS, ratio=Ratio("a hit", "GET", 3.0))
def hit_server(case: Case) -> Pair:
    """the server's processor time for a hit on an answer of 4 KB, against GET of these bytes.

    Bar: <= 3.
    """
    import redis

    large = answer("hit", 4_000)
    with Cache(case.place.url) as cache, redis.Redis.from_url(case.place.url) as client:
        cache.fetch(REQUEST, lambda: large)
        client.set("large", orjson.dumps(large))

        def spent(work: Callable[[], Any]) -> float:
            """ns for each of some calls, as the server counts them."""
            before = client.info("cpu")
            for _ in range(EACH):
                work()
            after = client.info("cpu")
            used = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
            return float(used * 1e9 / EACH)

        works = (lambda: cache.fetch(REQUEST, _never), lambda: client.get("large"))
        taken = [[spent(work) for work in works] for _ in range(3 if case.quick else 25)]
    return paired(*zip(*taken[1:], strict=True))


@row(
    stores=(places.sqlite,),
    modes=THREADS,
    variants=QUESTIONS,
    ratio=Ratio("fetch", "diskcache", 1.5, by_variant={"one question": 1.2}),
)
def hit_sqlite(case: Case) -> Pair:
    """a hit on SQLite against orjson.loads(diskcache.get(sha256(orjson.dumps(request)))).

    Bar: <= 1.2 for one question, <= 1.5 for 5,000 in turn.

    Of 5,000 in turn, the SELECT, the digest and the two passes of orjson cost what they cost diskcache. The rest is the
    check of the entry (3 us) and some 35 calls of Python. Tried and left: mmap_size (1 to 2.7 us less, but a file that
    is truncated kills the process), a page cache of 32 MB a connection (1.6 us), data_version in place of the SELECT (a
    count of hits changes it), plain functions in place of the four coroutines (0.5 us).
    """
    import diskcache

    requests = _requests(case)
    with Cache(case.place.url) as cache, diskcache.Cache(case.place.folder / "disk") as disk:
        for one in requests:
            disk[_name(one)] = BODY
        asked = cycle(requests)
        return pair(hitting(cache, requests), lambda: orjson.loads(disk.get(_name(next(asked)))), turns(case))


@row(
    stores=(places.valkey,),
    modes=("tasks",),
    variants={"one task": 1, f"{CALLERS} tasks": CALLERS},
    ratio=Ratio("fetch", "GET", 1.0, by_variant={f"{CALLERS} tasks": 1 / 3}),
)
def hit_async(case: Case) -> Pair:
    """the same on Valkey in tasks, against redis.asyncio.Redis.get.

    Bar: <= 1.0 for one task; three times as many for 200 tasks.

    One task alone, or many at once: then the times are those of a lap of all of them, by their number. Of many, a third
    of the time is asyncio's, for a task and a future each, which GET pays too.
    """
    return asyncio.run(_tasks(case))


async def _tasks(case: Case) -> Pair:
    import redis.asyncio as redis

    async def call() -> Any:
        return ANSWER

    async with (
        AsyncCache(case.place.url) as cache,
        redis.Redis.from_url(case.place.url, max_connections=CALLERS) as client,
    ):
        await client.set(_name(REQUEST), BODY)
        await cache.fetch(REQUEST, call)

        async def fetch() -> Any:
            return await cache.fetch(REQUEST, _never)

        async def get() -> Any:
            return await client.get(_name(REQUEST))

        if case.variant == 1:
            return await pair_async(fetch, get, turns(case))
        ones, others = (lambda work=work: asyncio.gather(*[work() for _ in range(CALLERS)]) for work in (fetch, get))
        found = await pair_async(ones, others, turns(case, 400))
    return found._replace(
        first=found.first / CALLERS,
        second=found.second / CALLERS,
        note=f" each; fetch {CALLERS * 1e3 / found.first:.1f}k/s, GET {CALLERS * 1e3 / found.second:.1f}k/s",
    )


@row(modes=THREADS, ratio=Ratio("with all", "without", 1.05))
def fresh_cost(case: Case) -> Pair:
    """cost of lifetimes, early refresh and all that on a plain fresh hit, against the hit path without.

    Bar: <= 1.05.

    Two caches on one store; of one, the counting of hits and the look at an entry's end are taken out.
    """
    with Cache(case.place.url) as cache, Cache(case.place.url) as plain:
        reader: Any = plain._base._engine._reader  # noqa: SLF001 - there is no switch for this, and no user would want one
        reader._hot_keys = Cold()  # noqa: SLF001
        reader._early = lambda *_: False  # noqa: SLF001
        return pair(hitting(cache, [REQUEST]), hitting(plain, [REQUEST]), turns(case))


@row(modes=THREADS, ratio=Ratio("with", "without", 1.05))
def accounting(case: Case) -> Pair:
    """cost of accounting on a plain hit, against the hit path without.

    Bar: <= 1.05.

    Two caches on one store; of one, the lines that count a hit are taken out of its source.
    """
    with Cache(case.place.url) as cache, Cache(case.place.url) as plain:
        reader: Any = plain._base._engine._reader  # noqa: SLF001 - there is no switch for this either
        reader.hit = uncounted(reader)
        return pair(hitting(cache, [REQUEST]), hitting(plain, [REQUEST]), turns(case))


def uncounted(reader: Any) -> Any:
    """Its `hit` without the lines that count it."""
    source = textwrap.dedent(inspect.getsource(Reader.hit))
    left, taken = re.subn(r"        row = question\.served.*?(?=        key_hits = )", "", source, flags=re.DOTALL)
    if taken != 1:
        raise Failed("the lines that count a hit are not found")
    names = dict(vars(inspect.getmodule(Reader)))
    exec(left, names)
    return names["hit"].__get__(reader)


class Cold:
    """A HotKeys that never warms."""

    def hit(self, *_: Any) -> None:
        return None


# --- behind an HTTP client --------------------------------------------------------------------------------------------


@row(stores=(places.redis,), modes=THREADS, variants=QUESTIONS, ratio=Ratio("http_client", "bare", 1.6))
def client_hit(case: Case) -> Pair:
    """a hit through http_client() on Redis against a bare httpx2.Client whose transport has the answer in memory.

    Bar: <= 1.6.

    The round trip to Redis alone is two thirds of what the bare client takes, so the rest would have to cost nothing:
    the request's headers and digest, the response's headers. What is left to save is the client's own work.
    """
    bodies = [orjson.dumps(one) for one in _requests(case)]
    with Cache(case.place.url) as cache, httpx2.Client(transport=Memory()) as bare:
        with cache.http_client(inner=Memory()) as client:
            for body in bodies:
                _post(client, URL, body)
            asked, also = cycle(bodies), cycle(bodies)
            found = pair(lambda: _post(client, URL, next(asked)), lambda: _post(bare, URL, next(also)), turns(case))
            if cache.stats()["miss"] != len(bodies):
                raise Failed(f"not all were hits: {cache.stats()}")
        own = pair(hitting(cache, _requests(case)), lambda: None, turns(case, 3_000)).first
    added = found.first - found.second - own
    return found._replace(note=f"; {added:.0f} us more than the bare client and the engine's own hit of {own:.0f} us")


def _post(client: Any, url: str, body: bytes) -> Any:
    return client.post(url, content=body, headers=SENT).content


@row(stores=(places.redis, places.sqlite), ratio=Ratio("with", "without", 2.0, added=True))
def client_miss(case: Case) -> Pair:
    """what a miss through http_client() adds, against no askonce, local upstream at 0 ms.

    Bar: p50 <= 1.5 ms sync, <= 2 ms async.
    """
    with Provider() as provider:
        url, each = f"{provider.openai_url}/chat/completions", turns(case, 800)
        found = asyncio.run(_miss_in_tasks(case, url, each)) if case.mode == "tasks" else _miss(case, url, each)
    return found._replace(right=case.mode == "tasks" or found.first - found.second <= 1500)


def _miss(case: Case, url: str, each: int) -> Pair:
    bodies = _new()
    with Cache(case.place.url) as cache, httpx2.Client() as bare, cache.http_client() as client:
        return pair(lambda: _post(client, url, next(bodies)), lambda: _post(bare, url, next(bodies)), each)


async def _miss_in_tasks(case: Case, url: str, each: int) -> Pair:
    bodies = _new()
    async with AsyncCache(case.place.url) as cache, httpx2.AsyncClient() as bare, cache.http_client() as client:
        ours, theirs = (lambda by=by: by.post(url, content=next(bodies), headers=SENT) for by in (client, bare))
        return await pair_async(ours, theirs, each)


def _new() -> Any:
    """New questions, with integers that JSON keeps."""
    return (orjson.dumps({**REQUEST, "seed": number}) for number in count(time.time_ns() >> 20))


# --- an import --------------------------------------------------------------------------------------------------------

OURS, THEIRS = "askonce", "asyncio, sqlite3, orjson"


@row(stores=(places.nowhere,), modes=THREADS, ratio=Ratio(OURS, THEIRS, 1.3))
def import_(case: Case) -> Pair:
    """import askonce against import asyncio, sqlite3, orjson.

    Bar: <= 1.3.

    Fresh interpreters, in turn, with compiled code for both in a folder of the row's own, as an installation has.

    What is over the bar is spread out. Of what askonce's own modules take, a quarter finds and reads 150 files, of
    however little, and a seventh makes 11 dataclasses; no module takes a twentieth. A module that a lookup needs is not
    put off to the first lookup, which may come while Python ends.
    """
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**plain, "PYTHONPYCACHEPREFIX": str(case.place.folder)}
    took = [[_import(names, environment) for names in (OURS, THEIRS)] for _ in range(5 if case.quick else 20)]
    return paired(*zip(*took[1:], strict=True))


def _import(names: str, environment: dict[str, str]) -> float:
    """ns for the import statement alone: the interpreter's own start would flatter the ratio."""
    code = f"import time; began = time.perf_counter_ns(); import {names}; print(time.perf_counter_ns() - began)"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60)
    return float(said.stdout)
