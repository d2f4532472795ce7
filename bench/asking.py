"""A Load: so many callers of one process who ask one question; and what each of them saw. Written for both modes.

The worker that most rows about processes are made of: it opens its cache, says that it is ready, lets all callers ask
at the moment that the row names, and reports. Each worker's answers carry its name, so that a row sees whose call an
answer was born from.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache, NotCached, Outcome
from askonce.testing import ScriptedCall, Step
from askonce.testing.script import Cue
from bench.crew import Desk
from bench.questions import answer, question


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker does. `cue` None: a complete answer with the worker's name. `blocks`: its call blocks the loop."""

    url: str
    receipts: str
    name: str = "worker"
    mode: str = "threads"
    callers: int = 1
    seconds: float = 1.0
    cue: Cue | None = None
    question: str = "the question"
    blocks: bool = False


class Asked(NamedTuple):
    """What one caller saw; times of time.monotonic()."""

    began: float
    ended: float
    name: str
    status: str
    error: str


class Report(NamedTuple):
    """What a worker saw: its callers, and its cache's counts."""

    asked: list[Asked]
    stats: dict[str, Any]


def work(desk: Desk, load: Load) -> Report:
    """A worker in either mode."""
    if load.mode == "tasks":
        return asyncio.run(_tasks(desk, load))
    return _threads(desk, load)


def _call(load: Load) -> ScriptedCall:
    call = ScriptedCall(delay=load.seconds, receipts=load.receipts)
    call.script(None, load.cue or Step(body=answer(load.name)))
    return call


def _threads(desk: Desk, load: Load) -> Report:
    call, request = _call(load), question(load.question)
    with Cache(load.url) as cache, ThreadPoolExecutor(load.callers) as pool:
        at = desk.ready()

        def ask() -> Asked:
            return told(lambda: cache.fetch(request, call.on(request)), at)

        asked = [caller.result() for caller in [pool.submit(ask) for _ in range(load.callers)]]
        return Report(asked, cache.stats())


async def _tasks(desk: Desk, load: Load) -> Report:
    call, request = _call(load), question(load.question)
    paid = _blocking(call, request) if load.blocks else call.aio_on(request)
    async with AsyncCache(load.url) as cache:
        at = await asyncio.to_thread(desk.ready)
        # gather, not a group: a caller's failure is his own, and is reported
        callers = [told_async(lambda: cache.fetch(request, paid), at) for _ in range(load.callers)]
        return Report(list(await asyncio.gather(*callers)), cache.stats())


def _blocking(call: ScriptedCall, request: Any) -> Callable[[], Awaitable[Any]]:
    async def paid() -> Any:
        return call(request)  # sleeps in the loop's own thread

    return paid


def told(fetch: Callable[[], Outcome], at: float) -> Asked:
    """Ask at a moment, and tell."""
    time.sleep(max(0.0, at - time.monotonic()))
    began = time.monotonic()
    try:
        return _saw(began, fetch())
    except Exception as error:  # noqa: BLE001 - what a caller sees is what is measured
        return Asked(began, time.monotonic(), "", "", type(error).__name__)


async def told_async(fetch: Callable[[], Awaitable[Outcome]], at: float) -> Asked:
    """The same in a task."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    began = time.monotonic()
    try:
        return _saw(began, await fetch())
    except Exception as error:  # noqa: BLE001
        return Asked(began, time.monotonic(), "", "", type(error).__name__)


def _saw(began: float, outcome: Outcome) -> Asked:
    return Asked(began, time.monotonic(), str(outcome.value["id"]), str(outcome.status), "")


def kept(url: str, name: str = "the question") -> str:
    """The name of the answer that is stored for a question now, "" for none."""
    with Cache(url) as cache:
        try:
            return str(cache.fetch(question(name), lambda: None, control="only-if-cached").value["id"])
        except NotCached:
            return ""
