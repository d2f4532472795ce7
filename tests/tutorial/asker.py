"""One process in the shape of the tutorial, run by `tests.siblings`: real SDKs inside `call_fn`, controlled by lines.

Its arguments are JSON: where the upstream is, in which mode, and a file of recorded requests. Each line on its stdin is
a round, and the URL of its store. It asks all requests in an order of its own, and prints a line of JSON with what was
answered and how.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai

from askonce import AsyncCache, Cache
from askonce.cli.place import patience
from tests.patience import with_files

CALLERS = 8


class Asking:
    """The recorded requests, asked through the SDKs that sent them."""

    def __init__(self, upstream: str, *, asynchronous: bool) -> None:
        self.upstream = upstream
        openais, anthropics = (
            (openai.AsyncOpenAI, anthropic.AsyncAnthropic) if asynchronous else (openai.OpenAI, anthropic.Anthropic)
        )
        self._openai: Any = openais(api_key="any", max_retries=0, timeout=60)
        self._anthropic: Any = anthropics(api_key="any", max_retries=0, timeout=60)

    def create(self, record: dict[str, Any]) -> Callable[[], Any]:
        """The SDK's call of a request: what is not one of its first arguments goes as extra_body, as it was sent."""
        body, end = dict(record["body"]), record["end"]
        base = f"{self.upstream}/h/{record['host']}{record['path'].removesuffix(end)}"
        if end == "/v1/messages":
            first = {name: body.pop(name) for name in ("model", "messages", "max_tokens")}
            return lambda: self._anthropic.with_options(base_url=base).messages.create(**first, extra_body=body)
        client = self._openai.with_options(base_url=base)
        if end == "/responses":
            first = {name: body.pop(name) for name in ("model", "input") if name in body}
            return lambda: client.responses.create(**first, extra_body=body)
        first = {name: body.pop(name) for name in ("model", "messages")}
        return lambda: client.chat.completions.create(**first, extra_body=body)

    def call(self, record: dict[str, Any]) -> Callable[[], Any]:
        """The tutorial's `call` closure."""
        create = self.create(record)
        return lambda: create().model_dump()

    def acall(self, record: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
        """The same for tasks."""
        create = self.create(record)

        async def call() -> Any:
            return (await create()).model_dump()

        return call


def told(record: dict[str, Any], value: Any, statuses: list[Any]) -> list[Any]:
    return [record["id"], json.dumps(value, sort_keys=True), *(str(status) for status in statuses)]


def round_of_threads(cache: Cache, asking: Asking, records: list[dict[str, Any]]) -> list[Any]:
    def ask(record: dict[str, Any]) -> list[Any]:
        with cache.watch() as seen:
            body = dict(record["body"])
            if "messages" not in body:
                return told(record, cache.fetch(body, asking.call(record)).value, seen)
            asked = body.pop("messages"), body.pop("model")
            return told(record, cache.get_or_set(*asked, asking.call(record), ttl=3600, **body), seen)

    def connected() -> None:
        # A connection made while eight threads and an SDK compete for a core may take longer than a lookup waits.
        while cache.fetch("are we connected?", lambda: "yes").status.detail:
            pass
        all_connected.wait()

    all_connected = threading.Barrier(CALLERS)

    with ThreadPoolExecutor(CALLERS, initializer=connected) as pool:
        return list(pool.map(ask, records))


async def round_of_tasks(cache: AsyncCache, asking: Asking, records: list[dict[str, Any]]) -> list[Any]:
    while (await cache.fetch("are we connected?", partial(asyncio.sleep, 0, "yes"))).status.detail:
        pass
    room = asyncio.Semaphore(CALLERS)

    async def ask(record: dict[str, Any]) -> list[Any]:
        async with room:
            with cache.watch() as seen:
                body = dict(record["body"])
                if "messages" not in body:
                    return told(record, (await cache.fetch(body, asking.acall(record))).value, seen)
                asked = body.pop("messages"), body.pop("model")
                return told(record, await cache.get_or_set(*asked, asking.acall(record), ttl=3600, **body), seen)

    return list(await asyncio.gather(*map(ask, records)))


async def tasks(upstream: str, records: list[dict[str, Any]]) -> None:
    asking = Asking(upstream, asynchronous=True)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        random.shuffle(records)
        async with AsyncCache(line.strip(), **patience(line)) as cache:
            print(json.dumps(await round_of_tasks(cache, asking, records)), flush=True)


def threads(upstream: str, records: list[dict[str, Any]]) -> None:
    asking = Asking(upstream, asynchronous=False)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        random.shuffle(records)
        with Cache(line.strip(), **patience(line)) as cache:
            print(json.dumps(round_of_threads(cache, asking, records)), flush=True)


def main() -> None:
    with_files()
    settings = json.loads(sys.argv[1])
    records = json.loads(Path(settings["records"]).read_text("utf-8"))
    if settings["mode"] == "tasks":
        asyncio.run(tasks(settings["upstream"], records))
    else:
        threads(settings["upstream"], records)
