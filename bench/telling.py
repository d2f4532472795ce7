"""An upstream that tells a story, event by event, and readers of it behind a client: each in a process of its own.

The upstream is the smallest HTTP server that can stream: its events hold the moment at which they were sent, all begin
`ttft` s after the request and come `gap` s apart, by the clock and not after each other. It counts what was opened.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from askonce import AsyncCache, Cache, Policy
from bench.crew import Desk
from bench.row import Skipped

PATH = "/v1/chat/completions"
REQUEST = {"model": "gpt-4.1-mini", "stream": True, "messages": [{"role": "user", "content": "Tell me a story."}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_SENT = re.compile(rb'"sent": ([0-9.]+)')
KEY = {"authorization": "Bearer sk-bench"}


@dataclass(frozen=True, slots=True)
class Story:
    """How it is told."""

    events: int = 200
    ttft: float = 0.3
    gap: float = 0.015


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps({"sent": time.monotonic(), **value}).encode() + b"\n\n"


def upstream(desk: Desk, story: Story) -> None:
    """Serve until killed: says its port, and for each word heard how many streams were opened so far."""
    asyncio.run(_serve(desk, story))


async def _serve(desk: Desk, story: Story) -> None:
    opened = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                opened += 1
                await _tell(writer, story)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    desk.tell(server.sockets[0].getsockname()[1])
    while True:
        await asyncio.to_thread(desk.hear)
        desk.tell(opened)


async def _tell(writer: asyncio.StreamWriter, story: Story) -> None:
    due = asyncio.get_running_loop().time() + story.ttft
    await asyncio.sleep(story.ttft)
    writer.write(HEAD)
    for number in range(story.events):
        last = number == story.events - 1
        event = _event({} if last else {"content": f" word {number}"}, "stop" if last else None)
        writer.write(_chunked(event))
        await writer.drain()
        due += story.gap
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
    writer.write(_chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(slots=True)
class Heard:
    """What one reader got: when each event came, what all of it was, and how it ended."""

    began: float
    headers: float = 0.0
    times: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # since upstream sent it
    digest: str = ""
    status: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Readers:
    """What a process of readers does: one joins after each of `after` s; `url` "" is without askonce."""

    url: str
    base: str
    after: tuple[float, ...]
    mode: str = "tasks"
    same: bool = True  # the same question


def read(desk: Desk, readers: Readers) -> tuple[list[Heard], dict[str, Any]]:
    """A process of readers, and its cache's counts."""
    if readers.mode == "tasks":
        return asyncio.run(_tasks(desk, readers))
    return _threads(desk, readers)


def _asked(readers: Readers, number: int) -> dict[str, Any]:
    return REQUEST if readers.same else {**REQUEST, "seed": number}


async def _tasks(desk: Desk, readers: Readers) -> tuple[list[Heard], dict[str, Any]]:
    if not readers.url:
        async with httpx2.AsyncClient(timeout=60, headers=KEY) as client:
            return await _all(desk, client, readers), {}
    async with AsyncCache(readers.url) as cache, cache.http_client(timeout=60, headers=KEY) as client:
        heard = await _all(desk, client, readers)
        return heard, cache.stats()


async def _all(desk: Desk, client: Any, readers: Readers) -> list[Heard]:
    at = await asyncio.to_thread(desk.ready)

    async def one(number: int, after: float) -> Heard:
        await asyncio.sleep(max(0.0, at + after - time.monotonic()))
        heard, digest = Heard(time.monotonic()), sha256()
        try:
            async with client.stream("POST", readers.base + PATH, json=_asked(readers, number)) as response:
                heard.headers, heard.status = time.monotonic(), response.headers.get("cache-status", "")
                async for part in response.aiter_bytes():
                    _note(heard, digest, part)
        except httpx2.RequestError as error:
            heard.error = f"{type(error).__name__}: {error}"
        heard.digest = digest.hexdigest()
        return heard

    return list(await asyncio.gather(*(one(number, after) for number, after in enumerate(readers.after))))


def _note(heard: Heard, digest: Any, part: bytes) -> None:
    now = time.monotonic()
    digest.update(part)
    heard.times += [now] * part.count(b"data: ")
    heard.delays += [now - float(sent) for sent in _SENT.findall(part)]


def _threads(desk: Desk, readers: Readers) -> tuple[list[Heard], dict[str, Any]]:
    if not readers.url:
        with httpx2.Client(timeout=60, headers=KEY) as client:
            return _each(desk, client, readers), {}
    with Cache(readers.url) as cache, cache.http_client(timeout=60, headers=KEY) as client:
        heard = _each(desk, client, readers)
        return heard, cache.stats()


def _each(desk: Desk, client: Any, readers: Readers) -> list[Heard]:
    at = desk.ready()

    def one(number: int, after: float) -> Heard:
        threading.Event().wait(max(0.0, at + after - time.monotonic()))
        heard, digest = Heard(time.monotonic()), sha256()
        try:
            with client.stream("POST", readers.base + PATH, json=_asked(readers, number)) as response:
                heard.headers, heard.status = time.monotonic(), response.headers.get("cache-status", "")
                for part in response.iter_bytes():
                    _note(heard, digest, part)
        except httpx2.RequestError as error:
            heard.error = f"{type(error).__name__}: {error}"
        heard.digest = digest.hexdigest()
        return heard

    with ThreadPoolExecutor(len(readers.after)) as pool:
        return [one.result() for one in [pool.submit(one, *each) for each in enumerate(readers.after)]]


def spend(desk: Desk, readers: Readers, events: int) -> list[float]:
    """CPU seconds an event, in turn without askonce and with it, each round's questions new; runs until told to end."""
    rounds: int = desk.hear()
    run = _spend_tasks if readers.mode == "tasks" else _spend_threads
    total = events * len(readers.after)
    return [seconds / total for seconds in run(readers, rounds)]


def _spend_threads(readers: Readers, rounds: int) -> list[float]:
    spent = []
    with Cache(readers.url) as cache, cache.http_client(timeout=60, headers=KEY) as ours, httpx2.Client() as bare:
        for number in range(2 * rounds):
            client: Any = ours if number % 2 else bare
            began = time.process_time()
            for each in range(len(readers.after)):
                body = {**REQUEST, "seed": number * 1000 + each}
                with client.stream("POST", readers.base + PATH, json=body) as response:
                    for _ in response.iter_bytes():
                        pass
            spent.append(time.process_time() - began)
    return spent


def _spend_tasks(readers: Readers, rounds: int) -> list[float]:
    async def one(client: Any, seed: int) -> None:
        async with client.stream("POST", readers.base + PATH, json={**REQUEST, "seed": seed}) as response:
            async for _ in response.aiter_bytes():
                pass

    async def run() -> list[float]:
        spent = []
        async with (
            AsyncCache(readers.url) as cache,
            httpx2.AsyncClient(limits=MANY) as bare,
            cache.http_client(timeout=60, headers=KEY, limits=MANY) as ours,
        ):
            for number in range(2 * rounds):
                client: Any = ours if number % 2 else bare
                began = time.process_time()
                seeds = range(number * 1000, number * 1000 + len(readers.after))
                await asyncio.gather(*(one(client, seed) for seed in seeds))
                spent.append(time.process_time() - began)
        return spent

    return asyncio.run(run())


MANY = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)


def many(_: Desk, readers: Readers) -> tuple[int, list[str], dict[str, Any]]:
    """So many streams that are stored; then those again and as many new ones, all at once: what is left of them."""
    return asyncio.run(_many(readers))


async def _many(readers: Readers) -> tuple[int, list[str], dict[str, Any]]:
    number = len(readers.after)

    async def one(client: Any, seed: int) -> bool:
        body, said = {**REQUEST, "seed": seed}, b""
        async with client.stream("POST", readers.base + PATH, json=body) as response:
            async for part in response.aiter_bytes():
                said += part
        return said.endswith(b"[DONE]\n\n")

    async with AsyncCache(readers.url) as cache:
        async with cache.http_client(timeout=60, headers=KEY, limits=MANY) as client:
            await asyncio.gather(*(one(client, seed) for seed in range(number)))
            before = asyncio.all_tasks()
            whole = sum(await asyncio.gather(*(one(client, seed) for seed in range(2 * number))))
            left = await _left(client, before)
        return whole, left, cache.stats()


async def _left(client: Any, before: set[Any]) -> list[str]:
    """Tasks that were not there before, and connections that are still in use."""
    await asyncio.sleep(0.2)
    left = [f"task {task.get_name()}" for task in asyncio.all_tasks() - before]
    pool = client._transport.inner._pool  # noqa: SLF001 - whether a connection is still in use, nobody else says
    return left + [f"connection {one}" for one in pool.connections if not (one.is_idle() or one.is_closed())]


def endure(_: Desk, readers: Readers, seconds: float) -> tuple[int, int, list[str], list[int]]:
    """Streams for so long, half of the readers asking what is kept: whole, not whole, what is left, sizes in bytes."""
    return asyncio.run(_endure(readers, seconds))


async def _endure(readers: Readers, seconds: float) -> tuple[int, int, list[str], list[int]]:
    ends: list[bool] = []
    new = itertools.count(10**6)
    sizes: list[int] = []

    async def one(client: Any, seed: int) -> None:
        said = b""
        async with client.stream("POST", readers.base + PATH, json={**REQUEST, "seed": seed}) as response:
            async for part in response.aiter_bytes():
                said += part
        ends.append(said.endswith(b"[DONE]\n\n"))

    async def go_on(client: Any, number: int, end: float) -> None:
        while (began := time.monotonic()) < end:
            await one(client, number if number % 2 else next(new))
            await asyncio.sleep(max(0.0, began + 5.0 - time.monotonic()))  # a hit comes at once, a new one in 5 s

    async def measure(end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(seconds / 120)
            sizes.append(_resident())

    async with (
        AsyncCache(readers.url, policy=Policy(ttl=3600, stale_if_error=0)) as cache,
        cache.http_client(timeout=60, headers=KEY, limits=MANY) as client,
    ):
        before, end = asyncio.all_tasks(), time.monotonic() + seconds
        await asyncio.gather(measure(end), *(go_on(client, number, end) for number in range(len(readers.after))))
        left = await _left(client, before)
    return sum(ends), len(ends) - sum(ends), left, sizes


def _resident() -> int:
    """Bytes of memory that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        raise Skipped("how much memory a process has is read from /proc, which is not here") from None
