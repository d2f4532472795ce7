"""Lifetimes of answers at full size: stale ones, ones in steady use, the ends of a batch, an upstream that is down.

Time really passes; `tests/freshness` shows the same rules with a clock moved by hand.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

from askonce import Cache, Policy
from askonce.testing import Receipts, ScriptedCall, Step
from bench.callers import Asked, Callers
from bench.compare import quantile
from bench.places import BOTH, MODES, Place, nowhere
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import SLACK, Failed, Parent

PROCESSES, CALLERS = 4, 25
REQUEST = question("life")
WARM = question("warm")  # asked once by each caller before the first round, so that all are connected and at work


class Rounds(NamedTuple):
    """The work of a process of callers: all of them ask at the beginning of each round, `every` s."""

    policy: Policy
    rounds: int
    every: float
    seconds: float = 1.0  # of the call
    status: int = 200


async def rounds_of(c: Callers, parent: Parent, place: Place, load: Rounds) -> list[list[Asked]]:
    """What each of a process's callers saw, as one list for each round."""
    call = ScriptedCall(delay=load.seconds, receipts=place.receipts)
    call.script(None, Step(status=load.status, body=answer("new") if load.status == 200 else None))
    async with c.cache(place.url, policy=load.policy) as cache:
        soon = time.monotonic() + 0.05  # so that none has asked twice, and each thread exists
        await c.gather(*[c.ask(cache, WARM, _empty, soon) for _ in range(CALLERS)])
        at = await parent.begin(c)
        return [
            await c.gather(*[c.ask(cache, REQUEST, call, at + number * load.every) for _ in range(CALLERS)])
            for number in range(load.rounds)
        ]


async def _empty() -> Any:
    return {}


def _run(case: Case, load: Rounds) -> list[Asked]:
    """Four processes, on a stale answer: what all callers saw."""
    with Cache(case.place.url, policy=load.policy) as cache:
        cache.fetch(REQUEST, lambda: answer("old"))
    time.sleep(load.policy.ttl or 0.0)
    for _ in range(PROCESSES):
        case.workers.start(rounds_of, case.place.bare, load, mode=case.mode)
    case.workers.begin()
    results = case.workers.results(load.rounds * load.every)
    return [one for process in results for each in process for one in each]


FRESH = 1.0  # s that an answer is fresh: each round starts when the last answer is stale


@row(heavy=True)
def stale(case: Case) -> Seen:
    """100 workers (4 processes) at once on a stale key, upstream 1 s, 20 rounds.

    Bar: all answered stale, p95 <= 20 ms; 1 call a round.
    """
    rounds = 6 if case.quick else 20
    policy = Policy(ttl=FRESH, grace=600, max_age=600, stale_if_error=600, hot_ttl=0, jitter=0)
    asked = _run(case, Rounds(policy, rounds, every=2 * FRESH + 0.7))
    served = sum("hit" in one.status and "detail=stale" in one.status for one in asked)
    took = quantile([one.ended - one.began for one in asked], 0.95) * 1000
    calls = Receipts(case.place.receipts).paid()
    return Seen(
        f"{served} of {len(asked)} answered stale, p95 {took:.1f} ms; {calls} calls in {rounds} rounds",
        served == len(asked) and took <= 20 and calls == rounds,
        {"p95_ms": took, "calls": calls},
        f"{rounds} rounds",
    )


FIRST, MOST = 1.0, 30.0  # s between two tries of an upstream in trouble: doubled each time, up to the second value


@row(heavy=True)
def down(case: Case) -> Seen:
    """upstream down for 30 times the ttl, 100 workers (4 processes) asking four times a second.

    Bar: no caller sees an error; upstream tried at most once an interval (1, 2, 4 ... 30 s), fleet-wide.

    Upstream answers 503 for many times the ttl.
    """
    rounds = 24 if case.quick else 120
    policy = Policy(ttl=1.0, stale_if_error=600, max_age=600, hot_ttl=0, jitter=0)
    asked = _run(case, Rounds(policy, rounds, every=0.25, seconds=0.02, status=503))
    tried = sorted(receipt.at for receipt in Receipts(case.place.receipts).rows())
    errors, old = sum(bool(one.error) for one in asked), sum(one.name == "old" for one in asked)
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    apart = all(gap >= min(FIRST * 2**number, MOST) for number, gap in enumerate(gaps))
    return Seen(
        f"{errors} errors, {old} of {len(asked)} got the old answer; {len(tried)} tries,"
        f" {', '.join(f'{gap:.1f}' for gap in gaps)} s apart",
        not errors and old == len(asked) and apart and len(tried) > 1,
        {"errors": errors, "tries": len(tried)},
        f"{rounds / 4:.0f} s",
    )


# --- keys in steady use -----------------------------------------------------------------------------------------------

LAPS = 8  # callers, each on an eighth of the keys


class Use(NamedTuple):
    """How a process uses its keys."""

    policy: Policy
    call: float
    keys: int
    lives: int


@row(heavy=True, stores=(nowhere,), modes=("threads",))
def steady(case: Case) -> Iterator[Seen]:
    """200 keys in steady use (at least one request a second and key), ttl 60 s, call 1 s, sliding off and on.

    Bar: callers that waited after the first fill: 0; refreshes <= 1.3 a lifetime.

    All cases beside each other, since they mostly wait.
    """
    ttl, call, keys, lives = (4.0, 0.3, 40, 4) if case.quick else (60.0, 1.0, 200, 8)
    with ExitStack() as stack:
        cases = [
            (stack.enter_context(opener()), mode, slides)
            for slides in (False, True)
            for opener, mode in zip(BOTH, MODES, strict=True)
        ]
        for place, mode, slides in cases:
            use = Use(Policy(ttl=ttl, hot_ttl=None if slides else 0), call, keys, lives)
            case.workers.start(in_use, place.bare, use, mode=mode)
        case.workers.begin()
        found: list[Counter[str]] = case.workers.results(ttl * lives + keys * call)
    for (place, mode, slides), one in zip(cases, found, strict=True):
        each = one["calls"] / keys / lives
        yield Seen(
            f"{one['waited']} of {one['lookups']} callers waited, {one['errors']} errors;"
            f" {each:.2f} refreshes a lifetime, {one['slid']} slides",
            not one["waited"] and not one["errors"] and each <= 1.3 and (case.quick or bool(one["slid"]) == slides),
            {"waited": one["waited"], "refreshes": each},
            f"{place.name}, {mode}, sliding {'on' if slides else 'off'}, {keys} keys, {lives} x {ttl:.0f} s",
        )


async def in_use(c: Callers, parent: Parent, place: Place, use: Use) -> Counter[str]:
    """Use the keys of one process all the time; return what it counted after they were filled."""
    counts, requests = Counter[str](), [question(number) for number in range(use.keys)]

    async def call() -> Any:
        await c.sleep(use.call)
        return answer("steady")

    async with c.cache(place.url, policy=use.policy) as cache:
        await parent.begin(c)
        await c.gather(*[c.ask(cache, request, call) for request in requests])
        end = time.monotonic() + use.lives * (use.policy.ttl or 0.0)

        async def laps(share: list[Any]) -> None:
            while (began := time.monotonic()) < end:
                for request in share:
                    asked = await c.ask(cache, request, call)
                    counts["lookups"] += 1
                    counts["errors"] += bool(asked.error)
                    counts["waited"] += asked.ended - asked.began > use.call / 2  # a hit takes a fraction of a call
                await c.sleep_until(began + 0.9)

        await c.gather(*[laps(requests[part::LAPS]) for part in range(LAPS)])
        stats = cache.stats()
    return counts + Counter(calls=stats.get("call", 0) - use.keys, slid=stats.get("slid", 0))


# --- a batch's ends ---------------------------------------------------------------------------------------------------

TTL, JITTER = 3600, 0.05


@row(heavy=True, modes=("tasks",))
def ends(case: Case) -> Seen:
    """10,000 entries filled within about a second, ttl 3600: when they end.

    Bar: no second in which more than twice the even share ends.

    Filled as fast as four processes can.
    """
    number = 2_000 if case.quick else 10_000
    for part in range(PROCESSES):
        case.workers.start(fill, case.place.bare, range(part, number, PROCESSES), mode=case.mode)
    at = case.workers.begin()
    filled = max(case.workers.results(SLACK)) - at
    with Cache(case.place.url) as cache:
        listed = list(cache.entries())
    if len(listed) != number:
        raise Failed(f"{len(listed)} entries of {number}")
    even, lives = number / (TTL * JITTER), [one.fresh - one.created for one in listed]
    most = max(Counter(int(one.fresh) for one in listed).values())
    return Seen(
        f"filled in {filled:.2f} s; at most {most} end in one second, the even share is {even:.1f}; lives of"
        f" {min(lives):.0f} to {max(lives):.0f} s",
        most <= max(2 * even, 2 * even + 3 if case.quick else 0) and max(lives) <= TTL,
        {"most": most, "even": even},
        f"{number:,} entries, ttl {TTL}",
    )


async def fill(c: Callers, parent: Parent, place: Place, numbers: range) -> float:
    """Fill; return when it was done."""

    async def call() -> Any:
        return {"text": "x"}

    async with c.cache(place.url, policy=Policy(ttl=TTL, jitter=JITTER)) as cache:
        await parent.begin(c)
        for start in range(0, len(numbers), 100):
            await c.gather(*[c.ask(cache, {"n": number}, call) for number in numbers[start : start + 100]])
        return time.monotonic()
