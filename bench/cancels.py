"""Callers that are cancelled at random, the leader's and followers', in two processes: the others are served.

And nothing is left behind: no task, no thread of ours, no descriptor, no connection at the server.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from askonce import AsyncCache
from askonce.testing import Receipts, ScriptedCall
from bench.crew import SLACK, Crew, Desk
from bench.places import BOTH, Opener, Place
from bench.questions import question
from bench.row import Reading

PROCESSES = 2
CALLERS = 20
SECONDS = 0.2  # that a call takes; cancellations fall within it, and a little beyond
LATE = 0.5  # s beyond the call that a caller may wait: more would be a lease that nobody had


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one process does: so many questions, one after another, the same as the other process."""

    url: str
    receipts: str
    count: int
    seed: int


class Seen(NamedTuple):
    """What one process saw: callers served and cancelled, the longest wait of one who was served, what is left."""

    served: int
    cancelled: int
    longest: float
    left: list[str]


def at_random(quick: bool) -> Iterator[Reading]:
    """Rounds of 2 x 20 callers of one question, half of whom are cancelled within the call."""
    count = 10 if quick else 100
    for opener in BOTH:
        yield _judged(opener, count)


def _judged(opener: Opener, count: int) -> Reading:
    with opener() as place, Crew() as crew:
        before = _clients(place)
        for seed in range(PROCESSES):
            crew.hire(work, Rounds(place.url, place.receipts, count, seed))
        crew.ready()
        crew.start()
        seen: list[Seen] = crew.results(count * (2 * SECONDS + LATE) + SLACK)
        connections = _settled(place, before)
        receipts = Receipts(place.receipts)
        most = max(receipts.paid(question(f"round {number}")) for number in range(count))
    served, cancelled = sum(one.served for one in seen), sum(one.cancelled for one in seen)
    longest = max(one.longest for one in seen)
    left = [name for one in seen for name in one.left] + [f"{connections} connections"] * bool(connections)
    return Reading(
        f"{opener.__name__}, {count} rounds",
        f"{served} served, {cancelled} cancelled, the longest wait {longest:.2f} s for a call of {SECONDS:g} s;"
        f" most calls a round: {most}; left behind: {', '.join(left) or 'nothing'}",
        most == 1 and longest <= SECONDS + LATE and not left and served + cancelled == PROCESSES * CALLERS * count,
        {"served": served, "cancelled": cancelled, "longest_s": longest, "most_calls": most, "left": len(left)},
    )


def _clients(place: Place) -> int:
    return len(place.server.command("CLIENT", "LIST").splitlines()) if place.server is not None else 0


def _settled(place: Place, before: int) -> int:
    """How many connections the server still counts a second after the last worker closed its cache."""
    until = time.monotonic() + 1.0
    while (more := _clients(place) - before) > 0 and time.monotonic() < until:
        time.sleep(0.02)
    return max(0, more)


# one process


def work(desk: Desk, rounds: Rounds) -> Seen:
    """A worker."""
    return asyncio.run(_rounds(desk, rounds))


async def _rounds(desk: Desk, rounds: Rounds) -> Seen:
    at = await asyncio.to_thread(desk.ready)
    before = _belongings()
    draw = random.Random(rounds.seed)
    waits: list[float] = []
    async with AsyncCache(rounds.url) as cache:
        call = ScriptedCall(delay=SECONDS, receipts=rounds.receipts)
        for number in range(rounds.count):
            # rounds begin by the clock, so that both processes are in the same one
            await asyncio.sleep(max(0.0, at + number * (2 * SECONDS + LATE / 2) - time.monotonic()))
            waits += await _round(cache, call, question(f"round {number}"), draw)
    left = sorted((_belongings() - before) | {task.get_name() for task in asyncio.all_tasks()} - {_own_name()})
    return Seen(len(waits), CALLERS * rounds.count - len(waits), max(waits), left)


async def _round(cache: AsyncCache, call: ScriptedCall, request: Any, draw: random.Random) -> list[float]:
    """How long those waited who were not cancelled; an error of any of them is raised."""
    callers = [asyncio.create_task(_caller(cache, call, request)) for _ in range(CALLERS)]
    loop = asyncio.get_running_loop()
    for caller in callers:
        if draw.random() < 0.5:
            # as often in the first moments, in the middle of a claim, as at any other time of the call
            loop.call_later(draw.uniform(0, draw.choice((0.01, 1.2 * SECONDS))), caller.cancel)
    await asyncio.wait(callers)
    return [caller.result() for caller in callers if not caller.cancelled()]


async def _caller(cache: AsyncCache, call: ScriptedCall, request: Any) -> float:
    began = time.monotonic()
    await cache.fetch(request, call.aio_on(request))
    return time.monotonic() - began


def _belongings() -> set[str]:
    """Threads by name, and what descriptors point at, where the system tells."""
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    return threads | {name for name in _opened() if not name.startswith("/proc")}


def _opened() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    for one in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # the descriptor by which the folder itself is read
            yield str(one.readlink())


def _own_name() -> str:
    task = asyncio.current_task()
    return task.get_name() if task is not None else ""
