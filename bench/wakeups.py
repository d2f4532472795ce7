"""How soon those who wait are woken, and what waiting costs.

Counted from the moment at which the upstream call returned in the leader's process, so the fill is in it, as is
everything up to the waiter's own decoded copy. How much later than the leader's own caller that is stands beside it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from askonce import AsyncCache, Cache
from bench.asking import told, told_async
from bench.crew import SLACK, Crew, Desk, Hand
from bench.places import MODES, Opener, sqlite, valkey
from bench.questions import answer, question
from bench.row import Reading, quantile

VALKEY_BAR = 0.002  # s, p50
SQLITE_BAR = 0.050
SHARE = 0.05  # of a core, all waiters together
WAITERS = 200
LATER = 0.02  # s after the leader that waiters ask
SETTLED = 1.5  # s after which all waiters are at rest


@dataclass(frozen=True, slots=True)
class Watch:
    """What a process of waiters does: so many callers, so many rounds, `gap` s apart; calls are the leader's."""

    url: str
    mode: str
    callers: int
    rounds: int
    gap: float


def on_valkey(quick: bool) -> Iterator[Reading]:
    """One waiter, and 4 processes of 2, again and again."""
    for mode in MODES:
        for processes, callers in ((1, 1), (4, 2)):
            woken = _rounds(valkey, mode, processes, callers, 10 if quick else 100, 0.15)
            yield _reading(f"Valkey, {mode}, {processes} x {callers} waiters", woken, VALKEY_BAR)


def on_sqlite(quick: bool) -> Iterator[Reading]:
    """A few waiters; then 200 of them, in one process and in 8, who wait for 12 s."""
    for mode in MODES:
        woken = _rounds(sqlite, mode, 4, 2, 10 if quick else 50, 0.3)
        yield _reading(f"SQLite, {mode}, 4 x 2 waiters", woken, SQLITE_BAR)
        for processes in (1, 8):
            yield _crowd(mode, processes, 4.0 if quick else 12.0)


class Led(NamedTuple):
    """When a call returned, and when the leader's own caller had the answer."""

    ended: float
    answered: float


class Woken(NamedTuple):
    """How late a waiter was: after the call, and after the leader's own caller; s."""

    late: float
    behind: float


def _reading(case: str, woken: list[Woken], bar: float) -> Reading:
    late, behind = [one.late for one in woken], [one.behind for one in woken]
    p50 = quantile(late, 0.5)
    return Reading(
        case,
        f"p50 {p50 * 1000:.2f} ms, p95 {quantile(late, 0.95) * 1000:.2f} ms after the call,"
        f" p50 {quantile(behind, 0.5) * 1000:.2f} ms after the leader's caller; {len(woken)} wake-ups",
        p50 <= bar,
        {"p50_s": p50, "p95_s": quantile(late, 0.95), "behind_p50_s": quantile(behind, 0.5)},
    )


def _rounds(opener: Opener, mode: str, processes: int, callers: int, rounds: int, gap: float) -> list[Woken]:
    with opener() as place, Crew() as crew:
        leader = crew.hire(lead, Watch(place.url, mode, 1, rounds, gap))
        for _ in range(processes):
            crew.hire(wait, Watch(place.url, mode, callers, rounds, gap))
        crew.ready()
        crew.start()
        led: list[Led] = leader.hear(rounds * gap * 2 + SLACK)
        heard: list[list[list[float]]] = [hand.hear() for hand in crew.hands[1:]]
    return [_woken(at, one) for hears in heard for ats, one in zip(hears, led, strict=True) for at in ats]


def _woken(at: float, led: Led) -> Woken:
    return Woken(at - led.ended, at - led.answered)


def _crowd(mode: str, processes: int, seconds: float) -> Reading:
    """One round; the CPU time of the waiters' processes is read while all are at rest."""
    with sqlite() as place, Crew() as crew:
        leader = crew.hire(lead, Watch(place.url, mode, 1, 1, seconds))
        for _ in range(processes):
            crew.hire(wait, Watch(place.url, mode, WAITERS // processes, 1, seconds))
        crew.ready()
        at = crew.start()
        rest = seconds - 2 * SETTLED
        time.sleep(at + SETTLED - time.monotonic())
        before = [_cpu(hand) for hand in crew.hands[1:]]
        time.sleep(rest)
        used = sum(_cpu(hand) for hand in crew.hands[1:]) - sum(before)
        (led,) = leader.hear(seconds + SLACK)
        woken = [_woken(at, led) for hand in crew.hands[1:] for at in hand.hear()[0]]
    reading = _reading(f"SQLite, {mode}, {processes} x {WAITERS // processes} waiters", woken, SQLITE_BAR)
    share = used / rest
    return reading._replace(
        measured=f"{reading.measured}; {share * 100:.1f} % of a core while waiting",
        passed=bool(reading.passed) and share <= SHARE,
        numbers={**reading.numbers, "core": share},
    )


def _cpu(hand: Hand) -> float:
    """s of CPU time that a worker's process has used."""
    hand.tell("cpu")
    used: float = hand.hear()
    return used


# one process


def _names(watch: Watch, at: float) -> Iterator[tuple[Any, float]]:
    """Each round's question, and when it begins."""
    for number in range(watch.rounds):
        yield question(f"round {number}"), at + number * 2 * watch.gap


def _never() -> Any:
    raise AssertionError("a waiter led")


def lead(desk: Desk, watch: Watch) -> list[Led]:
    """Ask first, and say when each call returned, and was answered."""
    ended: list[float] = []
    answered: list[float] = []

    def call() -> Any:
        time.sleep(watch.gap)
        value = answer("led")
        ended.append(time.monotonic())
        return value

    with Cache(watch.url) as cache:
        for request, at in _names(watch, desk.ready()):
            answered.append(told(partial(cache.fetch, request, call), at).ended)
    return list(map(Led, ended, answered))


def wait(desk: Desk, watch: Watch) -> list[list[float]]:
    """Ask a moment later, and say when each caller was answered, a list a round."""
    at = desk.ready()
    threading.Thread(target=_meter, args=(desk,), daemon=True).start()
    if watch.mode == "tasks":
        return asyncio.run(_wait_async(watch, at))
    with Cache(watch.url) as cache, ThreadPoolExecutor(watch.callers) as pool:
        rounds = []
        for request, begin in _names(watch, at + LATER):
            asking = [pool.submit(told, partial(cache.fetch, request, _never), begin) for _ in range(watch.callers)]
            rounds.append([one.result().ended for one in asking])
        return rounds


def _meter(desk: Desk) -> None:
    while True:
        desk.hear()
        desk.tell(time.process_time())


async def _wait_async(watch: Watch, at: float) -> list[list[float]]:
    async with AsyncCache(watch.url) as cache:
        rounds = []
        for request, begin in _names(watch, at + LATER):
            fetch = partial(cache.fetch, request, _never)
            asked = await asyncio.gather(*[told_async(fetch, begin) for _ in range(watch.callers)])
            rounds.append([one.ended for one in asked])
        return rounds
