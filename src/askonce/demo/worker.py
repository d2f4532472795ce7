"""One process of the demo's fleet: many callers, all threads or all tasks, told by lines of JSON on stdin what to ask.

The first line is the Post; each further one is an Errand, answered by one line on stdout. Callers begin at a moment of
the machine's one monotonic clock that is named beforehand, so that "all at once" means processes too.

Each answer carries the moment at which its call began (`BORN`): whoever gets it can tell whether it is older than an
invalidation that he knows of.
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
from askonce.flight.background import Fleet
from askonce.testing import Lognormal, Receipts, ScriptedCall, Step, answer

BORN = "born"


@dataclass(frozen=True, slots=True)
class Post:
    """Where a process works: at which store (None: without a cache), in which mode, with how fast a provider."""

    url: str | None
    prefix: str
    mode: str
    median: float
    call: float


@dataclass(frozen=True, slots=True)
class Errand:
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
class Tally:
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


class Staff(Protocol):
    """The callers of one process."""

    provider: ScriptedCall

    def ask(self, errand: Errand, tally: Tally) -> None:
        """Let every caller ask its list."""

    def hits(self, questions: Sequence[str], times: int) -> list[int]:
        """How long each of at most so many lookups took, one after the other; ns."""

    def invalidate(self) -> None:
        """Take back the answers to all questions."""


class Threads:
    """Callers that are threads."""

    def __init__(self, post: Post, provider: ScriptedCall) -> None:
        self._cache = Cache(post.url, prefix=post.prefix, mode="on") if post.url else None
        self.provider = provider
        self._lock = threading.Lock()

    def ask(self, errand: Errand, tally: Tally) -> None:
        """Let every caller ask its list."""
        with ThreadPoolExecutor(len(errand.lists)) as pool:
            for caller in [pool.submit(self._list, errand, asked, tally) for asked in errand.lists]:
                caller.result()

    def _list(self, errand: Errand, questions: Sequence[str], tally: Tally) -> None:
        time.sleep(max(0.0, errand.begin - time.monotonic()))
        for question in questions:
            got, status = self._one(question)
            with self._lock:
                tally.saw(question, got, status, errand.since)

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

    def __init__(self, post: Post, provider: ScriptedCall) -> None:
        self._cache = AsyncCache(post.url, prefix=post.prefix, mode="on") if post.url else None
        self.provider = provider
        self._runner = asyncio.Runner()

    def ask(self, errand: Errand, tally: Tally) -> None:
        """Let every caller ask its list."""

        async def everybody() -> None:
            await asyncio.gather(*(self._list(errand, asked, tally) for asked in errand.lists))

        self._runner.run(everybody())

    async def _list(self, errand: Errand, questions: Sequence[str], tally: Tally) -> None:
        await asyncio.sleep(max(0.0, errand.begin - time.monotonic()))
        for question in questions:
            got, status = await self._one(question)
            tally.saw(question, got, status, errand.since)

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
    raise AssertionError("what was to be a hit was none")


def _ask(staff: Staff, errand: Errand) -> dict[str, Any]:
    tally = Tally()
    staff.ask(errand, tally)
    return asdict(tally)


def _hits(staff: Staff, errand: Errand) -> dict[str, Any]:
    return {"ns": staff.hits(errand.lists[0], int(errand.number))}


def _invalidate(staff: Staff, errand: Errand) -> dict[str, Any]:
    del errand
    begun = time.monotonic()
    staff.invalidate()
    return {"begun": begun, "seconds": time.monotonic() - begun}


def _lease(staff: Staff, errand: Errand) -> dict[str, Any]:
    del staff
    # The rhythm of renewals goes with it. There is no setting for this: five seconds are right for every program but
    # one that kills its leaders for show.
    Fleet.rhythm *= errand.number / Fleet.heartbeat
    Fleet.heartbeat = errand.number
    return {}


def _stall(staff: Staff, errand: Errand) -> dict[str, Any]:
    del errand
    # Whoever is to be killed in the middle of a call must not be done with it before, however slow the machine is.
    staff.provider.script(LAST, Step(hang=True))
    return {}


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


ERRANDS: dict[str, Callable[[Staff, Errand], dict[str, Any]]] = {
    "ask": _ask,
    "hits": _hits,
    "invalidate": _invalidate,
    "lease": _lease,
    "stall": _stall,
}


def main() -> None:
    """Work until stdin ends."""
    post = Post(**json.loads(sys.stdin.readline()))
    provider = ScriptedCall(delay=Lognormal(post.median, spread=0.4, most=4 * post.median))
    for question in (COLD, LAST):
        provider.script(question, Step(delay=post.call))
    staff: Staff = (Tasks if post.mode == "tasks" else Threads)(post, provider)
    _say({})  # ready
    for line in sys.stdin:
        errand = Errand(**json.loads(line))
        provider.receipts = Receipts(errand.receipts) if errand.receipts else None
        _say(ERRANDS[errand.do](staff, errand))


if __name__ == "__main__":
    main()
