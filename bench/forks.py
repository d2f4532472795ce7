"""A parent with open connections and a flight under way forks; the children and the parent go on asking.

Each question has its own answer, so that a reply meant for another process would show.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache
from askonce.testing import Receipts, ScriptedCall, Step
from bench.crew import SLACK, Crew, Desk
from bench.places import BOTH, MODES, Opener
from bench.questions import answer, question
from bench.row import Failed, Reading

CHILDREN = 4
KNOWN = 50  # questions that are stored before the fork
FLIGHT = 1.5  # s that the parent's call takes


@dataclass(frozen=True, slots=True)
class Family:
    """What the parent does."""

    url: str
    receipts: str
    mode: str
    lookups: int


class Grown(NamedTuple):
    """What came of it: exit codes of the children, wrong answers of the parent, its flight's answer and status."""

    codes: list[int]
    wrong: int
    flight: str
    status: str


def children(quick: bool) -> Iterator[Reading]:
    """4 children of 1,000 lookups each."""
    for opener in BOTH:
        for mode in MODES:
            yield _judged(opener, mode, 100 if quick else 1000)


def _judged(opener: Opener, mode: str, lookups: int) -> Reading:
    with opener() as place, Crew() as crew:
        parent = crew.hire(work, Family(place.url, place.receipts, mode, lookups))
        grown: Grown = parent.hear(SLACK + lookups * 0.05)
        calls = Receipts(place.receipts).paid()
    passed = not any(grown.codes) and not grown.wrong and grown.flight == "flight" and "stored" in grown.status
    return Reading(
        f"{opener.__name__}, {mode}",
        f"{CHILDREN} x {lookups} lookups, exit codes {grown.codes}, wrong answers of the parent: {grown.wrong};"
        f" its flight: {'stored' if 'stored' in grown.status else grown.status or 'lost'}, {calls} call",
        passed and calls == 1,
        {"wrong": grown.wrong, "calls": calls},
    )


# the parent


def work(_desk: Desk, family: Family) -> Grown:
    """A worker, who is the parent."""
    return asyncio.run(_tasks(family)) if family.mode == "tasks" else _threads(family)


def _flight(family: Family) -> ScriptedCall:
    call = ScriptedCall(delay=FLIGHT, receipts=family.receipts)
    call.script(None, Step(body=answer("flight")))
    return call


def _threads(family: Family) -> Grown:
    call, request = _flight(family), question("flight")
    flown: list[Any] = []
    with Cache(family.url) as cache:
        _learn(lambda name: cache.fetch(question(name), lambda: answer(name)).value)
        pilot = threading.Thread(target=lambda: flown.append(cache.fetch(request, call.on(request))))
        pilot.start()
        call.wait_until_paid()
        pids = [_born(lambda: _ask_all(cache, family.lookups)) for _ in range(CHILDREN)]
        wrong = _ask_all(cache, family.lookups)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        pilot.join()
    return Grown(codes, wrong, flown[0].value["id"], str(flown[0].status))


def _learn(fetch: Callable[[int], Any]) -> None:
    for name in range(KNOWN):
        fetch(name)


def _ask_all(cache: Cache, lookups: int) -> int:
    """How many answers were wrong; half of the questions are hits, the others are paid by their first asker."""
    wrong = 0
    for number in range(lookups):
        name = number % (2 * KNOWN)
        wrong += cache.fetch(question(name), lambda name=name: answer(name)).value["id"] != str(name)  # type: ignore[misc]
    return wrong


def _born(ask: Callable[[], int]) -> int:
    """Fork: in the child, ask and exit, by the number of wrong answers; 99 for an exception."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    with suppress(BaseException):
        try:
            code = min(ask(), 98)
        except BaseException:
            traceback.print_exc()
            raise
    os._exit(code)


async def _tasks(family: Family) -> Grown:
    call, request = _flight(family), question("flight")
    async with AsyncCache(family.url) as cache:
        for name in range(KNOWN):
            await cache.fetch(question(name), _paid(name))
        flown = asyncio.create_task(cache.fetch(request, call.aio_on(request)))
        await _until(lambda: call.calls == 1)
        # The child is inside of this very coroutine, of a loop that is its parent's: it makes one of its own.
        pids = [_born(lambda: asyncio.run(_ask_all_async(cache, family.lookups))) for _ in range(CHILDREN)]
        wrong = await _ask_all_async(cache, family.lookups)
        outcome = await flown
        codes = [os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) for pid in pids]
    return Grown(codes, wrong, outcome.value["id"], str(outcome.status))


async def _ask_all_async(cache: AsyncCache, lookups: int) -> int:
    wrong = 0
    for number in range(lookups):
        name = number % (2 * KNOWN)
        wrong += (await cache.fetch(question(name), _paid(name))).value["id"] != str(name)
    return wrong


def _paid(name: int) -> Callable[[], Any]:
    async def paid() -> Any:
        return answer(name)

    return paid


async def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + SLACK
    while not true():
        if time.monotonic() > until:
            raise Failed("the flight did not begin")
        await asyncio.sleep(0.005)
