"""One process of the demo with many callers, all threads or all tasks. Lines of JSON on stdin say what to ask.

The first line is the WorkerSettings; each further one is a Job, answered by one line on stdout. Callers begin at a
moment of the machine's one monotonic clock that is named beforehand, so that "all at once" means processes too.

Each answer carries the moment at which its call began (`BORN`). A caller can therefore tell whether the answer is older
than a known invalidation.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from askonce.cache.cache import AsyncCache, Cache
from askonce.demo.load import COLD, LAST, SCOPE, request
from askonce.events import Status
from askonce.flight.background import BackgroundThread
from askonce.testing import Lognormal, Receipts, ScriptedCall, Step, answer

BORN = "born"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Where a process works: at which store (None: without a cache), in which mode, with how fast a provider."""

    url: str | None
    prefix: str
    mode: str
    median: float
    call: float


@dataclass(frozen=True, slots=True)
class Job:
    """What to do: ``ask``, ``hits``, ``invalidate``, ``lease`` or ``stall``.

    `begin` is when, `since` the birth that answers must have at least; both of time.monotonic(). `receipts` is the file
    in which paid calls are written.
    """

    do: str
    lists: Sequence[Sequence[str]] = ()
    begin: float = 0.0
    since: float = 0.0
    receipts: str = ""
    number: float = 0


@dataclass(slots=True)
class Counts:
    """What callers got. `last` is when the last one was served; `wrong`: not the answer to the question; s."""

    asked: int = 0
    hits: int = 0
    collapsed: int = 0
    wrong: int = 0
    old: int = 0
    last: float = 0.0
    trouble: dict[str, int] = field(default_factory=Counter)

    def saw(self, question: str, got: Any, status: Status | None, since: float) -> None:
        """Count one answer."""
        self.last = max(self.last, time.monotonic())
        self.asked += 1
        self.wrong += got["choices"] != answer(request(question))["choices"]
        self.old += got[BORN] < since
        if status is not None:
            self.hits += status.hit
            self.collapsed += status.collapsed
            if status.detail.startswith("store-"):
                self.trouble[status.detail] = self.trouble.get(status.detail, 0) + 1


class Callers(Protocol):
    """The callers of one process."""

    provider: ScriptedCall

    def ask(self, job: Job, counts: Counts) -> None:
        """Let every caller ask its list."""

    def hits(self, questions: Sequence[str], times: int) -> list[int]:
        """How long each of at most so many lookups took, one after the other; ns."""

    def invalidate(self) -> None:
        """Take back the answers to all questions."""


class Threads:
    """Callers that are threads."""

    def __init__(self, settings: WorkerSettings, provider: ScriptedCall) -> None:
        self._cache = Cache(settings.url, prefix=settings.prefix, mode="on") if settings.url else None
        self.provider = provider
        self._lock = threading.Lock()

    def ask(self, job: Job, counts: Counts) -> None:
        """Let every caller ask its list."""
        with ThreadPoolExecutor(len(job.lists)) as pool:
            for caller in [pool.submit(self._list, job, asked, counts) for asked in job.lists]:
                caller.result()

    def _list(self, job: Job, questions: Sequence[str], counts: Counts) -> None:
        time.sleep(max(0.0, job.begin - time.monotonic()))
        for question in questions:
            got, status = self._one(question)
            with self._lock:
                counts.saw(question, got, status, job.since)

    def _one(self, question: str) -> tuple[Any, Status | None]:
        asked = request(question)

        def call() -> Any:
            return {BORN: time.monotonic(), **self.provider(asked)}

        if self._cache is None:
            return call(), None
        outcome = self._cache.fetch(asked, call, scope=SCOPE)
        return outcome.value, outcome.status

    def hits(self, questions: Sequence[str], times: int) -> list[int]:
        """How long each of at most so many lookups took, one after the other; ns."""
        assert self._cache is not None
        fetch = self._cache.fetch
        took: list[int] = []
        for asked in _turns(questions, times):
            begun = time.perf_counter_ns()
            fetch(asked, _unpaid, scope=SCOPE)
            took.append(time.perf_counter_ns() - begun)
        return took

    def invalidate(self) -> None:
        """Take back the answers to all questions."""
        assert self._cache is not None
        self._cache.invalidate(scope=SCOPE)


class Tasks:
    """Callers that are tasks of one event loop."""

    def __init__(self, settings: WorkerSettings, provider: ScriptedCall) -> None:
        self._cache = AsyncCache(settings.url, prefix=settings.prefix, mode="on") if settings.url else None
        self.provider = provider
        self._runner = asyncio.Runner()

    def ask(self, job: Job, counts: Counts) -> None:
        """Let every caller ask its list."""

        async def everybody() -> None:
            await asyncio.gather(*(self._list(job, asked, counts) for asked in job.lists))

        self._runner.run(everybody())

    async def _list(self, job: Job, questions: Sequence[str], counts: Counts) -> None:
        await asyncio.sleep(max(0.0, job.begin - time.monotonic()))
        for question in questions:
            got, status = await self._one(question)
            counts.saw(question, got, status, job.since)

    async def _one(self, question: str) -> tuple[Any, Status | None]:
        asked = request(question)

        async def call() -> Any:
            return {BORN: time.monotonic(), **await self.provider.aio(asked)}

        if self._cache is None:
            return await call(), None
        outcome = await self._cache.fetch(asked, call, scope=SCOPE)
        return outcome.value, outcome.status

    def hits(self, questions: Sequence[str], times: int) -> list[int]:
        """How long each of at most so many lookups took, one after the other; ns."""
        return self._runner.run(self._hits(questions, times))

    async def _hits(self, questions: Sequence[str], times: int) -> list[int]:
        assert self._cache is not None
        took: list[int] = []
        for asked in _turns(questions, times):
            begun = time.perf_counter_ns()
            await self._cache.fetch(asked, _unpaid, scope=SCOPE)
            took.append(time.perf_counter_ns() - begun)
        return took

    def invalidate(self) -> None:
        """Take back the answers to all questions."""
        assert self._cache is not None
        self._runner.run(self._cache.invalidate(scope=SCOPE))


def _turns(questions: Sequence[str], times: int) -> Iterator[dict[str, Any]]:
    """The requests by turns, so many times or for a second."""
    requests = [request(question) for question in questions]
    until = time.monotonic() + 1.0
    for turn in range(times):
        if time.monotonic() >= until:
            return
        yield requests[turn % len(requests)]


def _unpaid() -> Any:
    raise AssertionError("this lookup should have been a hit")


def _ask(callers: Callers, job: Job) -> dict[str, Any]:
    counts = Counts()
    callers.ask(job, counts)
    return asdict(counts)


def _hits(callers: Callers, job: Job) -> dict[str, Any]:
    return {"ns": callers.hits(job.lists[0], int(job.number))}


def _invalidate(callers: Callers, job: Job) -> dict[str, Any]:
    del job
    begun = time.monotonic()
    callers.invalidate()
    return {"begun": begun, "seconds": time.monotonic() - begun}


def _lease(callers: Callers, job: Job) -> dict[str, Any]:
    del callers
    # The rhythm of renewals goes with it. There is no setting for this: five seconds are right for every program but
    # one that kills its leaders for show.
    BackgroundThread.rhythm *= job.number / BackgroundThread.heartbeat
    BackgroundThread.heartbeat = job.number
    return {}


def _stall(callers: Callers, job: Job) -> dict[str, Any]:
    del job
    # A leader that will be killed during its call must not finish the call before, even on a slow machine.
    callers.provider.script(LAST, Step(hang=True))
    return {}


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


JOBS: dict[str, Callable[[Callers, Job], dict[str, Any]]] = {
    "ask": _ask,
    "hits": _hits,
    "invalidate": _invalidate,
    "lease": _lease,
    "stall": _stall,
}


def main() -> None:
    """Work until stdin ends."""
    settings = WorkerSettings(**json.loads(sys.stdin.readline()))
    provider = ScriptedCall(delay=Lognormal(settings.median, spread=0.4, most=4 * settings.median))
    for question in (COLD, LAST):
        provider.script(question, Step(delay=settings.call))
    callers: Callers = (Tasks if settings.mode == "tasks" else Threads)(settings, provider)
    _say({})  # ready
    for line in sys.stdin:
        job = Job(**json.loads(line))
        provider.receipts = Receipts(job.receipts) if job.receipts else None
        _say(JOBS[job.do](callers, job))


if __name__ == "__main__":
    main()
