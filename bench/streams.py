"""Streams through http_client(): shared by many processes, their delay and cost, and the death of a leader."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from askonce import AsyncCache, Policy
from askonce.flight.background import HEARTBEAT
from bench.callers import Callers, Tasks, run
from bench.compare import Pair, Ratio, paired, quantile
from bench.places import Place, Skipped, valkey
from bench.row import Case, Seen, row
from bench.upstream import REQUEST, Story, serve
from bench.workers import SLACK, Parent, Worker, Workers
from tests.remains import resident

PROCESSES = 4
KEY = {"authorization": "Bearer sk-bench"}
OPTIONS: dict[str, Any] = {"timeout": 60, "headers": KEY}
SENT = re.compile(rb'"sent": ([0-9.]+)')


# --- one process of readers -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Heard:
    """What one reader got: when each event came, the whole, and how it ended."""

    headers: float = 0.0
    times: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # after upstream sent it
    text: bytes = b""
    status: str = ""
    error: str = ""

    def begin(self, status: str) -> None:
        self.headers, self.status = time.monotonic(), status

    def add(self, part: bytes) -> None:
        now = time.monotonic()
        self.text += part
        self.times += [now] * part.count(b"data: ")
        self.delays += [now - float(sent) for sent in SENT.findall(part)]

    @property
    def whole(self) -> bool:
        return not self.error and self.text.endswith(b"[DONE]\n\n")


class Drain:
    """A reader that ignores what it reads."""

    def begin(self, _: str) -> None:
        return

    def add(self, _: bytes) -> None:
        return


async def hear(c: Callers, client: Any, url: str, at: float = 0.0, **more: Any) -> Heard:
    """One reader, which joins at a given time."""
    await c.sleep_until(at)
    result = Heard()
    try:
        await c.read(client, url, {**REQUEST, **more}, result)
    except httpx2.RequestError as error:
        result.error = f"{type(error).__name__}: {error}"
    return result


@asynccontextmanager
async def clients(c: Callers, place: Place) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A client with askonce, one without, and the cache."""
    policy = Policy(ttl=3600, stale_if_error=0)
    async with (
        c.http(**OPTIONS) as bare,
        c.cache(place.url, policy=policy) as cache,
        c.client(cache, **OPTIONS) as ours,
    ):
        yield ours, bare, cache


async def read(c: Callers, parent: Parent, place: Place, url: str, after: Sequence[float]) -> list[Heard]:
    """Readers of one stream, which join after the given seconds."""
    async with clients(c, place) as (client, _, _):
        at = await c.block(parent.ready)
        return await c.gather(*[hear(c, client, url, at + one) for one in after])


def _upstream(case: Case, story: Story) -> tuple[Worker, str]:
    """An upstream in a process of its own, and its URL."""
    upstream = case.workers.start(serve, story)
    return upstream, str(upstream.hear())


def _opened(upstream: Worker) -> int:
    upstream.tell("how many?")
    opened: int = upstream.hear()
    return opened


# --- rows -------------------------------------------------------------------------------------------------------------


@row(heavy=True)
def streams(case: Case) -> Seen:
    """4 processes x 25 readers on one stream (TTFT 300 ms, 200 events at 15 ms), joining at random times.

    Bar: 1 upstream stream, all the same bytes; delay of an event elsewhere on Redis p50 <= 2 ms, p99 <= 15 ms.
    """
    story, each, dice = Story(events=60) if case.quick else Story(), 5 if case.quick else 25, random.Random(7)
    upstream, url = _upstream(case, story)
    with Workers() as workers:
        for number in range(PROCESSES):
            after = [dice.uniform(0, 0.9 * story.length) for _ in range(each)]
            workers.start(read, case.place.bare, url, after if number else [0.0, *after[1:]], mode=case.mode)
        workers.begin()
        results: list[list[Heard]] = workers.results(story.length)
    opened, everyone = _opened(upstream), [one for process in results for one in process]
    leader = next(one for one in everyone if "collapsed" not in one.status and "hit" not in one.status)
    late = _delays(leader, [one for process in results if leader not in process for one in process])
    same = len({one.text for one in everyone}) == 1 and all(one.whole for one in everyone)
    p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
    return Seen(
        f"{opened} upstream stream, {len(everyone)} readers, {'the same bytes' if same else 'NOT the same bytes'};"
        f" delay of {len(late)} events elsewhere p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms",
        opened == 1 and same and (case.place.server is None or (p50 <= 0.002 and p99 <= 0.015)),
        {"opened": opened, "p50_s": p50, "p99_s": p99},
        f"{PROCESSES} x {each}",
    )


def _delays(leader: Heard, others: list[Heard]) -> list[float]:
    """How much later than the leader the others got events that came after they joined."""
    return [
        their - mine
        for one in others
        for mine, their in zip(leader.times, one.times, strict=False)
        if mine > one.headers + 0.05
    ]


@row(heavy=True, ratio=Ratio("with", "without", 1.0, added=True))
def stream_first(case: Case) -> Pair:
    """the first event of a stream for the leader's own reader, against no askonce.

    Bar: <= 1 ms later.

    The leader's own reader, with askonce and without, one stream after another in turn.
    """
    _, url = _upstream(case, Story(events=20, ttft=0.02, gap=0.01))
    readers: list[Heard] = run(case.mode, _first, case.place, url, 5 if case.quick else 20)
    ours, theirs = readers[2::2], readers[3::2]  # the first ones also connect
    firsts = [[one.delays[0] * 1e9 for one in side] for side in (ours, theirs)]
    laters = [quantile([delay for one in side for delay in one.delays[1:]], 0.5) for side in (ours, theirs)]
    return paired(*firsts)._replace(note=f"; later events {(laters[0] - laters[1]) * 1000:+.2f} ms")


async def _first(c: Callers, place: Place, url: str, turns: int) -> list[Heard]:
    async with clients(c, place) as (ours, bare, _):
        return [await hear(c, (ours, bare)[number % 2], url, seed=number) for number in range(2 * turns)]


@row(heavy=True, ratio=Ratio("with", "without", 1.3))
def stream_cpu(case: Case) -> Pair:
    """CPU per event of a stream that nobody follows, against no askonce.

    Bar: <= 1.3.

    One at a time in a thread, ten at once in tasks; each one's question is new. So a miss is in it (a claim, a fill: 3
    to 4 us an event), the verdict on the whole (3 us), and what each part costs on its way (3 us).
    """
    story = Story(events=200, ttft=0.0, gap=0.001)
    _, url = _upstream(case, story)
    spent: list[float] = run(case.mode, _spend, case.place, url, 3 if case.quick else 12)
    number = story.events * (10 if case.mode == "tasks" else 3)
    ours, theirs = ([seconds * 1e9 / number for seconds in spent[side::2]] for side in (2, 3))
    return paired(ours, theirs)._replace(note=" an event")


async def _spend(c: Callers, place: Place, url: str, turns: int) -> list[float]:
    """CPU seconds of each turn."""
    spent = []
    async with clients(c, place) as (ours, bare, _):
        for number in range(2 * turns):
            client, began, tasks = (ours, bare)[number % 2], time.process_time(), isinstance(c, Tasks)
            seeds = range(number * 1000, number * 1000 + (10 if tasks else 3))
            reads = [c.read(client, url, {**REQUEST, "seed": seed}, Drain()) for seed in seeds]
            if tasks:
                await c.gather(*reads)
            for one in [] if tasks else reads:
                await one
            spent.append(time.process_time() - began)
    return spent


@row(
    heavy=True,
    variants={
        "20 readers elsewhere, half of them with output": True,
        "20 readers elsewhere, none with output": False,
    },
)
def stream_killed(case: Case) -> Seen:
    """a stream's leader SIGKILLed after 50 events, 20 readers elsewhere.

    Bar: those with output get an error that names the flight; the others are served by one successor; 2 streams.

    Killed after a quarter of its events: followed by readers elsewhere, or by nobody yet.
    """
    story = Story(events=200, gap=0.01 if case.quick else 0.015)
    dies = story.ttft + 50 * story.gap
    # Followed: ten readers have output when it dies, ten ask when it is known to be dead. Else all ask after its death.
    late = [dies + HEARTBEAT + 1.0 + 0.02 * number for number in range(5)]
    after = [0.2] * 5 + late if case.variant else [dies + 0.2] * 10
    upstream, url = _upstream(case, story)
    with Workers() as workers:
        leader, *others = (
            workers.start(read, case.place.bare, url, one, mode=case.mode) for one in ([0.0], after, after)
        )
        at = workers.begin()
        time.sleep(max(0.0, at + dies - time.monotonic()))
        leader.kill()
        reads: list[Heard] = [one for worker in others for one in worker.hear(story.length + 2 * HEARTBEAT + SLACK)]
    opened, cut = _opened(upstream), [one for one in reads if one.error]
    named = {one.error for one in cut if one.error.startswith("RemoteProtocolError: the stream of flight ")}
    served = [one for one in reads if one.whole and len(one.times) > story.events]
    same, expected = len({one.text for one in served}) == 1, (10, 10, 1) if case.variant else (20, 0, 0)
    return Seen(
        f"{opened} upstream streams; {len(served)} of {len(reads)} served whole, {len(cut)} cut, by an error that names"
        f" {len(named)} flight",
        opened == 2 and same and (len(served), len(cut), len(named)) == expected,
        {"opened": opened},
    )


@row(heavy=True, modes=("tasks",))
def stream_crowd(case: Case) -> Seen:
    """500 streams at once in one event loop, half of them hits.

    Bar: all whole; no task or connection left.

    So many streams that are stored; then those again and as many new ones, all at once: what is left of them.
    """
    number = 50 if case.quick else 500
    upstream, url = _upstream(case, Story(events=50, ttft=0.1, gap=0.02))
    whole, left = case.workers.start(_crowd, case.place.bare, url, number // 2, mode=case.mode).hear(180)
    opened = _opened(upstream)
    measured = f"{whole} of {number} whole, {opened} upstream streams, left: {left or 'nothing'}"
    passed = whole == number and opened == number // 2 * 2 and not left
    return Seen(measured, passed, {"opened": opened}, f"{number} streams")


async def _crowd(c: Callers, _: Parent, place: Place, url: str, number: int) -> tuple[int, list[str]]:
    async with clients(c, place) as (client, _, cache):
        await c.gather(*[hear(c, client, url, seed=seed) for seed in range(number)])
        before = asyncio.all_tasks()
        readers = await c.gather(*[hear(c, client, url, seed=seed) for seed in range(2 * number)])
        return sum(one.whole for one in readers), await _left(client, before, cache)


async def _left(client: Any, before: set[Any], cache: AsyncCache) -> list[str]:
    """New tasks, connections still in use, and flights."""
    await asyncio.sleep(0.2)
    left = [f"task {task.get_name()}" for task in asyncio.all_tasks() - before]
    pool = client._transport.inner._pool  # noqa: SLF001 - whether a connection is still in use, nobody else says
    left += [f"connection {one}" for one in pool.connections if not (one.is_idle() or one.is_closed())]
    return left + ["flights"] * bool(cache.stats()["flights"])


@row(heavy=True, stores=(valkey,), modes=("tasks",))
def stream_memory(case: Case) -> Seen:
    """500 streams at any time in one event loop for ten minutes, half of them hits.

    Bar: memory flat (within 3 % from the second third to the last); all whole; no task or connection left.
    """
    if not Path("/proc/self/statm").exists():
        raise Skipped("how much memory a process has is read from /proc, which is not here")
    number, seconds = (50, 20.0) if case.quick else (500, 600.0)
    _, url = _upstream(case, Story(events=50, ttft=0.1, gap=0.1))
    worker = case.workers.start(_endure, case.place.bare, url, number, seconds, mode=case.mode)
    whole, broken, left, sizes = worker.hear(seconds + SLACK)
    third = len(sizes) // 3
    before, after = (quantile(part, 0.5) / 2**20 for part in (sizes[third : 2 * third], sizes[2 * third :]))
    return Seen(
        f"{whole} streams whole, {broken} not; {before:.1f} MiB in the second third, {after:.1f} MiB in the last;"
        f" left: {left or 'nothing'}",
        not broken and not left and after <= 1.03 * before,
        {"mib": after},
        f"{seconds:.0f} s",
    )


async def _endure(
    c: Callers, _: Parent, place: Place, url: str, number: int, seconds: float
) -> tuple[int, int, list[str], list[int]]:
    """Streams for a while, half of them stored: how many were whole or not, what is left, sizes in bytes."""
    ends, sizes, new = list[bool](), list[int](), itertools.count(10**6)

    async def go_on(client: Any, one: int, end: float) -> None:
        while (began := time.monotonic()) < end:
            ends.append((await hear(c, client, url, seed=one if one % 2 else next(new))).whole)
            await c.sleep_until(began + 5.0)  # a hit comes at once, a new one in 5 s

    async def measure(end: float) -> None:
        while time.monotonic() < end:
            await c.sleep(seconds / 120)
            sizes.append(resident())

    async with clients(c, place) as (client, _, cache):
        before, end = asyncio.all_tasks(), time.monotonic() + seconds
        await c.gather(measure(end), *[go_on(client, one, end) for one in range(number)])
        left = await _left(client, before, cache)
    return sum(ends), len(ends) - sum(ends), left, sizes
