"""Lives of answers over time, at full size: stale ones, ones in steady use, a batch's ends, an upstream that is down.

Time passes as it does; `tests/freshness` shows the same rules with a clock moved by hand.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache, Policy
from askonce.testing import Receipts, ScriptedCall, Step
from bench.asking import Asked, told, told_async
from bench.crew import SLACK, Crew, Desk
from bench.places import BOTH, MODES, Opener
from bench.questions import answer, question
from bench.row import Failed, Reading, quantile

PROCESSES, CALLERS = 4, 25
REQUEST = question("life")
WARM = question("warm")  # asked once by each caller before the first round: they are at work, and connected


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a process of callers does: all of them ask at the beginning of each round, `every` s."""

    url: str
    receipts: str
    mode: str
    policy: Policy
    rounds: int
    every: float
    seconds: float = 1.0  # that the call takes
    status: int = 200


def rounds_of(desk: Desk, load: Rounds) -> list[list[Asked]]:
    """A process of callers; what each of them saw, a list a round."""
    call = ScriptedCall(delay=load.seconds, receipts=load.receipts)
    call.script(None, Step(status=load.status, body=answer("new") if load.status == 200 else None))
    if load.mode == "tasks":
        return asyncio.run(_rounds_of_tasks(desk, load, call))
    with Cache(load.url, policy=load.policy) as cache, ThreadPoolExecutor(CALLERS) as pool:
        met = threading.Barrier(CALLERS)
        list(pool.map(lambda _: (met.wait(), cache.fetch(WARM, dict)), range(CALLERS)))
        at = desk.ready()
        seen = []
        for number in range(load.rounds):
            due = at + number * load.every
            asked = [pool.submit(told, lambda: cache.fetch(REQUEST, call.on(REQUEST)), due) for _ in range(CALLERS)]
            seen.append([one.result() for one in asked])
        return seen


async def _rounds_of_tasks(desk: Desk, load: Rounds, call: ScriptedCall) -> list[list[Asked]]:
    async def empty() -> Any:
        return {}

    async with AsyncCache(load.url, policy=load.policy) as cache:
        await cache.fetch(WARM, empty)
        at = await asyncio.to_thread(desk.ready)
        seen = []
        for number in range(load.rounds):
            due = at + number * load.every
            asked = [told_async(lambda: cache.fetch(REQUEST, call.aio_on(REQUEST)), due) for _ in range(CALLERS)]
            seen.append(list(await asyncio.gather(*asked)))
        return seen


def _run(load: Rounds) -> tuple[list[list[Asked]], float]:
    """Four processes of it: what all callers saw, a list a round; and when the first began."""
    with Crew() as crew:
        for _ in range(PROCESSES):
            crew.hire(rounds_of, load)
        crew.ready()
        at = crew.start()
        results: list[list[list[Asked]]] = crew.results(load.rounds * load.every + SLACK)
    return [[one for seen in results for one in seen[number]] for number in range(load.rounds)], at


def _filled(url: str, policy: Policy) -> None:
    with Cache(url, policy=policy) as cache:
        cache.fetch(REQUEST, lambda: answer("old"))


# --- a stale key ------------------------------------------------------------------------------------------------------

FRESH = 1.0  # s that an answer is fresh: each round comes when the last one's is stale
STALE = Policy(ttl=FRESH, grace=600, max_age=600, stale_if_error=600, hot_ttl=0, jitter=0)


def stale(quick: bool) -> Iterator[Reading]:
    """100 workers at once on a stale key, upstream 1 s, 20 rounds."""
    for opener in BOTH:
        for mode in MODES:
            yield _stale(opener, mode, 6 if quick else 20)


def _stale(opener: Opener, mode: str, rounds: int) -> Reading:
    with opener() as place:
        _filled(place.url, STALE)
        time.sleep(FRESH)
        seen, _ = _run(Rounds(place.url, place.receipts, mode, STALE, rounds, every=2 * FRESH + 0.7))
        paid = Receipts(place.receipts).paid()
    asked = [one for each in seen for one in each]
    served = sum("hit" in one.status and "detail=stale" in one.status for one in asked)
    took = quantile([one.ended - one.began for one in asked], 0.95) * 1000
    return Reading(
        f"{place.name}, {mode}, {rounds} rounds",
        f"{served} of {len(asked)} answered stale, p95 {took:.1f} ms; {paid} calls in {rounds} rounds",
        served == len(asked) and took <= 20 and paid == rounds,
        {"p95_ms": took, "calls": paid},
    )


# --- an upstream that is down -----------------------------------------------------------------------------------------

DOWN = Policy(ttl=1.0, stale_if_error=600, max_age=600, hot_ttl=0, jitter=0)
FIRST, MOST = 1.0, 30.0  # s between two tries of an upstream in trouble: doubled each time, up to the second


def down(quick: bool) -> Iterator[Reading]:
    """Upstream answers 503 for many times the ttl, while 100 workers ask four times a second."""
    for opener in BOTH:
        for mode in MODES:
            yield _down(opener, mode, 24 if quick else 120)


def _down(opener: Opener, mode: str, rounds: int) -> Reading:
    with opener() as place:
        _filled(place.url, DOWN)
        time.sleep(DOWN.ttl or 0.0)
        load = Rounds(place.url, place.receipts, mode, DOWN, rounds, every=0.25, seconds=0.02, status=503)
        seen, _ = _run(load)
        tried = sorted(receipt.at for receipt in Receipts(place.receipts).rows())
    asked = [one for each in seen for one in each]
    errors = sum(bool(one.error) for one in asked)
    old = sum(one.name == "old" for one in asked)
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    apart = all(gap >= min(FIRST * 2**number, MOST) for number, gap in enumerate(gaps))
    said = ", ".join(f"{gap:.1f}" for gap in gaps)
    return Reading(
        f"{place.name}, {mode}, {rounds / 4:.0f} s",
        f"{errors} errors, {old} of {len(asked)} got the old answer; {len(tried)} tries, {said} s apart",
        not errors and old == len(asked) and apart and len(tried) > 1,
        {"errors": errors, "tries": len(tried)},
    )


# --- keys in steady use -----------------------------------------------------------------------------------------------

KEYS, CALL = 200, 1.0


class Steady(NamedTuple):
    """What a process saw of its keys: callers that waited after the first fill, calls after it, slides, lookups."""

    waited: int
    calls: int
    slid: int
    lookups: int
    errors: int


def steady(quick: bool) -> Iterator[Reading]:
    """200 keys, each asked at least once a second; all cases beside each other, since they mostly wait."""
    ttl, call, keys, lives = (4.0, 0.3, 40, 4) if quick else (60.0, CALL, KEYS, 8)
    with ExitStack() as stack:
        cases = [
            (stack.enter_context(opener()), mode, slides)
            for slides in (False, True)
            for opener, mode in zip(BOTH, MODES, strict=True)
        ]
        crew = stack.enter_context(Crew())
        for place, mode, slides in cases:
            crew.hire(in_use, place.url, mode, Policy(ttl=ttl, hot_ttl=None if slides else 0), call, keys, lives)
        crew.ready()
        crew.start()
        found: list[Steady] = crew.results(ttl * lives + keys * call + SLACK)
    for (place, mode, slides), one in zip(cases, found, strict=True):
        each = one.calls / keys / lives
        yield Reading(
            f"{place.name}, {mode}, sliding {'on' if slides else 'off'}, {keys} keys, {lives} x {ttl:.0f} s",
            f"{one.waited} of {one.lookups} callers waited, {one.errors} errors; {each:.2f} refreshes a lifetime,"
            f" {one.slid} slides",
            not one.waited and not one.errors and each <= 1.3 and (quick or bool(one.slid) == slides),
            {"waited": one.waited, "refreshes": each},
        )


def in_use(desk: Desk, url: str, mode: str, policy: Policy, call: float, keys: int, lives: int) -> Steady:
    """A process that keeps its keys in use."""
    desk.ready()
    ttl = policy.ttl or 0.0
    if mode == "tasks":
        return asyncio.run(_in_use_tasks(url, policy, call, keys, lives * ttl))
    return _in_use_threads(url, policy, call, keys, lives * ttl)


class _Tally:
    """What is counted once a key is filled."""

    def __init__(self, limit: float) -> None:
        self.counts: Counter[str] = Counter()
        self.limit = limit

    def note(self, took: float) -> None:
        """One lookup; a hit takes a fraction of a call's time."""
        self.counts["lookups"] += 1
        self.counts["waited"] += took > self.limit

    def told(self, stats: dict[str, Any], keys: int) -> Steady:
        """With what the cache counted: its calls but the first of each key."""
        counts = self.counts
        calls = stats.get("call", 0) - keys
        return Steady(counts["waited"], calls, stats.get("slid", 0), counts["lookups"], counts["errors"])


def _in_use_threads(url: str, policy: Policy, call: float, keys: int, seconds: float) -> Steady:
    tally, requests = _Tally(call / 2), [question(number) for number in range(keys)]

    def paid() -> Any:
        time.sleep(call)
        return answer("steady")

    with Cache(url, policy=policy) as cache, ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda request: cache.fetch(request, paid), requests))
        end = time.monotonic() + seconds

        def lap(share: list[Any]) -> None:
            while (began := time.monotonic()) < end:
                for request in share:
                    at = time.monotonic()
                    try:
                        cache.fetch(request, paid)
                    except Exception:  # noqa: BLE001 - counted, and the row fails
                        tally.counts["errors"] += 1
                    tally.note(time.monotonic() - at)
                time.sleep(max(0.0, began + 0.9 - time.monotonic()))

        list(pool.map(lap, [requests[part::8] for part in range(8)]))
        return tally.told(cache.stats(), keys)


async def _in_use_tasks(url: str, policy: Policy, call: float, keys: int, seconds: float) -> Steady:
    tally, requests = _Tally(call / 2), [question(number) for number in range(keys)]

    async def paid() -> Any:
        await asyncio.sleep(call)
        return answer("steady")

    async with AsyncCache(url, policy=policy) as cache:
        await asyncio.gather(*(cache.fetch(request, paid) for request in requests))
        end = time.monotonic() + seconds

        async def use(number: int, request: Any) -> None:
            await asyncio.sleep(0.9 * number / keys)
            while (at := time.monotonic()) < end:
                try:
                    await cache.fetch(request, paid)
                except Exception:  # noqa: BLE001 - counted, and the row fails
                    tally.counts["errors"] += 1
                tally.note(time.monotonic() - at)
                await asyncio.sleep(0.9)

        await asyncio.gather(*(use(number, request) for number, request in enumerate(requests)))
        return tally.told(cache.stats(), keys)


# --- a batch's ends ---------------------------------------------------------------------------------------------------

TTL, JITTER = 3600, 0.05


def ends(quick: bool) -> Iterator[Reading]:
    """10,000 entries filled as fast as four processes can: when do they end."""
    number = 2_000 if quick else 10_000
    for opener in BOTH:
        with opener() as place, Crew() as crew:
            for part in range(PROCESSES):
                crew.hire(fill, place.url, range(part, number, PROCESSES))
            crew.ready()
            at = crew.start()
            filled = max(crew.results(120)) - at
            with Cache(place.url) as cache:
                listed = list(cache.entries())
        if len(listed) != number:
            raise Failed(f"{len(listed)} entries of {number}")
        buckets = Counter(int(one.fresh) for one in listed)
        even = number / (TTL * JITTER)
        most, lives = max(buckets.values()), [one.fresh - one.created for one in listed]
        yield Reading(
            f"{place.name}, {number:,} entries, ttl {TTL}",
            f"filled in {filled:.2f} s; at most {most} end in one second, the even share is {even:.1f}; lives of"
            f" {min(lives):.0f} to {max(lives):.0f} s",
            most <= max(2 * even, 2 * even + 3 if quick else 0) and max(lives) <= TTL,
            {"most": most, "even": even},
        )


def fill(desk: Desk, url: str, numbers: range) -> float:
    """A process that fills; when it was done."""
    return asyncio.run(_fill(desk, url, numbers))


async def _fill(desk: Desk, url: str, numbers: range) -> float:
    body = {"text": "x"}

    async def paid() -> Any:
        return body

    async with AsyncCache(url, policy=Policy(ttl=TTL, jitter=JITTER)) as cache:
        at = await asyncio.to_thread(desk.ready)
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        for start in range(0, len(numbers), 100):
            await asyncio.gather(*(cache.fetch({"n": number}, paid) for number in numbers[start : start + 100]))
        return time.monotonic()
