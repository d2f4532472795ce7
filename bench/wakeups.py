"""How soon waiters are woken, and what waiting costs.

Time starts when the upstream call returns in the leader's process. So it includes the fill, and everything up to the
waiter's own decoded copy. The delay after the leader's own caller is shown beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.callers import Callers
from bench.compare import quantile
from bench.places import Place, sqlite, valkey
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import Failed, Parent

SHARE = 0.05  # of a core, for all waiters together
WAITERS = 200
LATER = 0.02  # s after the leader, when waiters ask
SETTLED = 1.5  # s until all waiters are at rest


class Watch(NamedTuple):
    """Callers a process, rounds, and the time between them, `gap` s; calls are the leader's and take `gap` s."""

    callers: int
    rounds: int
    gap: float

    def questions(self, at: float) -> Iterator[tuple[Any, float]]:
        """The question of each round, and when it begins."""
        for number in range(self.rounds):
            yield question(f"round {number}"), at + number * 2 * self.gap


class Led(Exception):
    """A waiter came before the leader's process was scheduled; the round is not counted."""


class Woken(NamedTuple):
    """The delay of waiters after the call, and after the leader's own caller, s; CPU time while all were at rest."""

    late: list[float]
    behind: list[float]
    cpu: float


@row(stores=(valkey,), variants={"1 x 1 waiters": (1, 1), "4 x 2 waiters": (4, 2)})
def wake_valkey(case: Case) -> Seen:
    """waiters' wake-up on Valkey.

    Bar: p50 <= 2 ms.

    One waiter, and 4 processes of 2, again and again.

    With 8 waiters on 2 cores this is processor time: the leader judges, counts and seals the answer before it is sent,
    each process reads its notice, and each waiter reads and decodes the entry. Nobody waits for a timer or a second
    message.
    """
    processes, callers = case.variant
    return _seen(_woken(case, processes, Watch(callers, 10 if case.quick else 100, 0.15)), 0.002)


@row(
    heavy=True,
    stores=(sqlite,),
    variants={"4 x 2 waiters": (4, 2), "1 x 200 waiters": (1, 200), "8 x 25 waiters": (8, 25)},
)
def wake_sqlite(case: Case) -> Seen:
    """waiters' wake-up on SQLite; 200 of them waiting.

    Bar: p50 <= 50 ms; with 200 waiters under 5 % of a core.

    A few waiters; then 200 of them, in one process and in 8, who wait for 12 s, at rest but for its ends.
    """
    processes, callers = case.variant
    if processes * callers < WAITERS:
        return _seen(_woken(case, processes, Watch(callers, 10 if case.quick else 50, 0.3)), 0.050)
    seconds = 4.0 if case.quick else 12.0
    woken = _woken(case, processes, Watch(callers, 1, seconds))
    seen, share = _seen(woken, 0.050), woken.cpu / (seconds - 2 * SETTLED)
    measured = f"{seen.measured}; {share * 100:.1f} % of a core while waiting"
    return Seen(measured, bool(seen.passed) and share <= SHARE, {**seen.numbers, "core": share})


def _seen(woken: Woken, bar: float) -> Seen:
    p50, p95, behind = quantile(woken.late, 0.5), quantile(woken.late, 0.95), quantile(woken.behind, 0.5)
    return Seen(
        f"p50 {p50 * 1000:.2f} ms, p95 {p95 * 1000:.2f} ms after the call,"
        f" p50 {behind * 1000:.2f} ms after the leader's caller; {len(woken.late)} wake-ups",
        p50 <= bar,
        {"p50_s": p50, "p95_s": p95, "behind_p50_s": behind},
    )


def _woken(case: Case, processes: int, watch: Watch) -> Woken:
    case.workers.start(lead, case.place.bare, watch)
    for _ in range(processes):
        case.workers.start(wait, case.place.bare, watch, mode=case.mode)
    case.workers.begin()
    led, *waits = case.workers.results(watch.rounds * watch.gap * 2)
    woken = [(one, at) for rounds, _ in waits for one, ats in zip(led, rounds, strict=True) for at in ats]
    if 2 * len(woken) < processes * watch.callers * watch.rounds:
        raise Failed(f"only {len(woken)} waited: the others came before the leader")
    late, behind = [at - ended for (ended, _), at in woken], [at - answered for (_, answered), at in woken]
    return Woken(late, behind, sum(cpu for _, cpu in waits))


async def lead(c: Callers, parent: Parent, place: Place, watch: Watch) -> list[tuple[float, float]]:
    """Ask first, and report when each call returned and when it was answered."""
    ended: list[float] = []

    async def call() -> Any:
        await c.sleep(watch.gap)
        value = answer("led")
        ended.append(time.monotonic())
        return value

    async with c.cache(place.url) as cache:
        at = await c.block(parent.ready)
        asked = [await c.ask(cache, request, call, begin) for request, begin in watch.questions(at)]
    return list(zip(ended, [one.ended for one in asked], strict=True))


async def wait(c: Callers, parent: Parent, place: Place, watch: Watch) -> tuple[list[list[float]], float]:
    """Ask a moment later, and report when each caller was answered, a list a round; and the CPU time meanwhile."""
    spent = [0.0]

    def meter(at: float) -> None:
        time.sleep(max(0.0, at + SETTLED - time.monotonic()))
        began = time.process_time()
        time.sleep(max(0.0, at + watch.gap - SETTLED - time.monotonic()))
        spent[0] = time.process_time() - began

    async def never() -> Any:
        raise Led

    async with c.cache(place.url) as cache:
        at = await c.block(parent.ready)
        threading.Thread(target=meter, args=(at,), daemon=True).start()
        rounds = []
        for request, begin in watch.questions(at + LATER):
            asked = await c.gather(*[c.ask(cache, request, never, begin) for _ in range(watch.callers)])
            if wrong := [one.error for one in asked if one.error not in {"", "Led"}]:
                raise Failed(f"a waiter was not served: {wrong[0]}")
            rounds.append([one.ended for one in asked if not one.error])
    return rounds, spent[0]
