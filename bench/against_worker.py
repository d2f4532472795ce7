"""The process of one tree for `bench.against`; it uses only public names of askonce, which other commits have too.

``python -m bench.against_worker WORK URL`` first says where its askonce is from. For each number that it reads, it
makes that many calls, and says how long each took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import count, cycle
from typing import Any

import httpx2

import askonce
from askonce import Cache
from bench.questions import answer, question

URL = "https://api.openai.com/v1/chat/completions"
SEVERAL = [question(number) for number in range(100)]
ANSWER, BODY = answer("any"), json.dumps(answer("any")).encode()
JSON = {
    "date": "Mon, 23 Nov 2026 05:39:57 GMT",
    "content-type": "application/json",
    "server": "cloudflare",
    "x-request-id": "req_1",
    "openai-processing-ms": "300",
    "openai-version": "2020-10-01",
    "cf-ray": "8-LHR",
}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _event(word: str, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": finish}
    return b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n"


STREAM = [_event(f" word {number}", "stop" if number == 99 else None) for number in range(100)] + [b"data: [DONE]\n\n"]


class Events(httpx2.SyncByteStream):
    """A stream, event by event."""

    def __iter__(self) -> Any:
        return iter(STREAM)


class Memory(httpx2.BaseTransport):
    """An upstream that takes no time."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.read():
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Events())
        return httpx2.Response(200, headers=JSON, stream=httpx2.ByteStream(BODY))


def _hit(cache: Cache) -> Callable[[], Any]:
    for one in SEVERAL:
        cache.fetch(one, lambda: ANSWER)
    asked = cycle(SEVERAL)
    return lambda: cache.fetch(next(asked), dict)


def _miss(cache: Cache) -> Callable[[], Any]:
    new = count()
    return lambda: cache.fetch({**SEVERAL[0], "seed": next(new)}, lambda: ANSWER)


def _client_hit(cache: Cache) -> Callable[[], Any]:
    client, bodies = cache.http_client(inner=Memory()), [json.dumps(one).encode() for one in SEVERAL]
    for body in bodies:
        client.post(URL, content=body)
    asked = cycle(bodies)
    return lambda: client.post(URL, content=next(asked)).content


def _client_stream(cache: Cache) -> Callable[[], Any]:
    """A new stream, recorded while it is read."""
    client, new = cache.http_client(inner=Memory()), count()

    def read() -> None:
        body = {**SEVERAL[0], "stream": True, "seed": next(new)}
        with client.stream("POST", URL, json=body) as response:
            for _ in response.iter_bytes():
                pass

    return read


WORKS: dict[str, Callable[[Cache], Callable[[], Any]]] = {
    "hit": _hit,
    "miss": _miss,
    "client hit": _client_hit,
    "client stream": _client_stream,
}


def main(work: str, url: str) -> None:
    """Say where askonce is from, then work as told."""
    print(json.dumps(askonce.__file__), flush=True)
    now = time.perf_counter_ns
    with Cache(url) as cache:
        call = WORKS[work](cache)
        for line in sys.stdin:
            times = []
            for _ in range(int(line)):
                began = now()
                call()
                times.append(now() - began)
            print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
