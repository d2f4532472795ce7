"""What an entry costs beside its answer: its header, and a server's memory for 100,000 of them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from askonce import Cache
from askonce.core.model import HEAD_SIZE, read_head
from askonce.testing.servers import Server
from bench.places import Place, valkey
from bench.questions import answer, question
from bench.row import Failed, Reading, Skipped

CORPUS = Path(os.environ.get("ASKONCE_CORPUS", Path(__file__).parents[2] / "shared" / "corpus")) / "dev.jsonl.gz"
SCOPE, TAGS = "support/triage/v3/en", ("doc:42", "lang:en")  # 20 bytes, as the bar says
HEADER_BAR = 200  # bytes
MEMORY_BAR = 1.25
TTL = 86_400
BATCH = 500
THREADS = 4


def header(_quick: bool) -> Iterator[Reading]:
    """Of an entry with 2 tags, a scope of 20 bytes, and the name of its model."""
    with valkey() as place, Cache(place.url) as cache:
        cache.fetch(question("headed"), lambda: answer("headed"), scope=SCOPE, tags=TAGS)
        (name,) = place.running.command("KEYS", "*:e1:*")
        length = read_head(place.running.command("GET", name)).length
    yield Reading(
        f"scope of {len(SCOPE)} bytes, tags {', '.join(TAGS)}, model {question('')['model']}",
        f"{length} bytes, {HEAD_SIZE} of them fixed",
        length <= HEADER_BAR,
        {"bytes": length},
    )


def memory(quick: bool) -> Iterator[Reading]:
    """used_memory of one server with our entries, and of one with plain names and the same bodies."""
    bodies, count = _bodies(), 2_000 if quick else 100_000
    with valkey() as place, valkey() as plain:
        ours = _grown(place.running, lambda: _fill(place, bodies, count))
        theirs = _grown(plain.running, lambda: _set(plain, bodies, count))
    size = sum(len(orjson.dumps(bodies[number % len(bodies)])) for number in range(count)) / count
    yield Reading(
        f"{count} entries, {len(bodies)} bodies of the corpus, {size:.0f} bytes on average",
        f"{ours / theirs:.3f}; {ours / count:.0f} bytes an entry, {theirs / count:.0f} plain",
        ours / theirs <= MEMORY_BAR,
        {"ratio": ours / theirs, "ours": ours / count, "plain": theirs / count},
    )


def _grown(server: Server, fill: Any) -> int:
    before = _used(server)
    fill()
    return _used(server) - before


def _used(server: Server) -> int:
    lines = server.command("INFO", "memory").decode().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("used_memory:"))


def _fill(place: Place, bodies: list[Any], count: int) -> None:
    with Cache(place.url) as cache, ThreadPoolExecutor(THREADS) as pool:

        def fill(number: int) -> bool:
            body = bodies[number % len(bodies)]
            return cache.fetch(question(f"memory {number}", 100), lambda: body, ttl=TTL).status.stored

        if not all(pool.map(fill, range(count))):
            raise Failed("not every answer was stored")


def _set(plain: Place, bodies: list[Any], count: int) -> None:
    import redis

    texts = [orjson.dumps(body) for body in bodies]
    with redis.Redis.from_url(plain.url) as client:
        for at in range(0, count, BATCH):
            pipe = client.pipeline(transaction=False)
            for number in range(at, min(at + BATCH, count)):
                pipe.set(sha256(b"%d" % number).hexdigest(), texts[number % len(texts)], ex=TTL)
            pipe.execute()


def _bodies() -> list[Any]:
    """The recorded answers that a cache keeps."""
    if not CORPUS.exists():
        raise Skipped("the recorded traffic is not here: set ASKONCE_CORPUS to the folder that has dev.jsonl.gz")
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines, Cache("memory://") as cache:
        records = [json.loads(line) for line in lines]
        found = [_json(one["response_body"]) for one in records if one["status"] == 200 and not one["stream"]]
        return [body for body in found if body and cache.fetch(body, lambda body=body: body).status.stored]  # type: ignore[misc]


def _json(text: str | None) -> Any:
    try:
        return orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None
