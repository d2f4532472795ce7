"""One call for all callers: shared while it runs, if it fails, if callers leave; taken over when its leader dies."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from typing import Any, NamedTuple

from askonce import AsyncCache
from askonce.flight.background import HEARTBEAT
from askonce.testing import Receipts, ScriptedCall
from askonce.testing.script import Cue
from bench.callers import Callers
from bench.load import Load, Report, begun, kept, paid, together
from bench.places import Place
from bench.questions import question
from bench.row import Case, Seen, row
from bench.workers import SLACK, Parent, Worker
from tests.crowd import eventually
from tests.remains import Remains

SPREAD = 0.25  # s between the first and the last answer


@row(heavy=True)
def cold(case: Case) -> Seen:
    """8 processes x 25 callers, one cold key, a 12 s call.

    Bar: 1 call; all answered within 0.25 s of each other.
    """
    processes, callers, seconds = (4, 10, 1.0) if case.quick else (8, 25, 12.0)
    loads = [Load(f"process {number}", callers, seconds) for number in range(processes)]
    asked, _ = together(case, loads, seconds)
    calls, ended = paid(case.place), [one.ended for one in asked]
    spread, over = max(ended) - min(ended), max(ended) - min(one.began for one in asked) - seconds
    whole = len({one.name for one in asked}) == 1 and not any(one.error for one in asked)
    return Seen(
        f"{calls} call; {len(asked)} answers within {spread:.3f} s, the last {over:.3f} s after the call could end",
        calls == 1 and spread <= SPREAD and whole,
        {"calls": calls, "spread_s": spread, "over_s": over},
    )


# --- calls that fail, or bring what may not be stored -----------------------------------------------------------------


class UpstreamDown(Exception):
    """Raised by the scripted upstream."""


@row(
    heavy=True,
    variants={f"{what}, {number} x 25": (what, number) for what in ("raises", "refused") for number in (1, 4)},
)
def failures(case: Case) -> Seen:
    """a call that raises, or returns a refused answer, with 25 callers in one process, and in 4.

    Bar: 1 call in the process; elsewhere one successor at a time for an exception, 1 call for a refused answer; nothing
    stored.
    """
    (what, processes), seconds = case.variant, 0.3 if case.quick else 2.0
    cue: Cue = UpstreamDown("no") if what == "raises" else "refused"
    loads = [Load(f"{number}", 25, seconds, cue) for number in range(processes)]
    asked, began = together(case, loads, processes * seconds)
    starts, left = [receipt.at for receipt in Receipts(case.place.receipts).rows()], kept(case.place)
    answered = sum(one.error == ("UpstreamDown" if what == "raises" else "") for one in asked)
    alone = all(later - earlier >= seconds for earlier, later in pairwise(starts))
    last, calls = max(one.ended for one in asked) - began, len(starts)
    return Seen(
        f"{calls} calls{'' if alone else ', not one at a time'}; {answered} callers told, the last after {last:.2f} s;"
        f" {'something' if left else 'nothing'} stored",
        1 <= calls <= (processes if what == "raises" else 1) and alone and answered == len(asked) and not left,
        {"calls": calls, "last_s": last},
    )


# --- leaders that die, or are paused ----------------------------------------------------------------------------------

LATE = 1.0  # s after the deadline and the call
PAST = HEARTBEAT + 2.0  # s after which a paused leader's deadline has surely passed


@row(heavy=True)
def killed(case: Case) -> Seen:
    """leader SIGKILLed in the middle of its call.

    Bar: 2 calls; a waiter is served within the deadline + 1 s + the call.
    """
    seconds = 1.0 if case.quick else 12.0
    leader = _leading(case, Load("leader", 1, seconds + SLACK))  # it is killed long before
    waiters = [begun(case, Load(f"waiter {n}", 5, seconds)) for n in range(2)]
    time.sleep(min(seconds / 2, 2.0))  # waiters are at rest, and a heartbeat or two have passed
    died = time.monotonic()
    leader.kill()
    reports: list[Report] = [worker.hear(HEARTBEAT + seconds + SLACK) for worker in waiters]
    receipts = Receipts(case.place.receipts).rows()
    ended = [one.ended - died for report in reports for one in report.asked if not one.error]
    took_over = receipts[1].at - died if len(receipts) > 1 else float("nan")
    return Seen(
        f"{len(receipts)} calls; taken over after {took_over:.2f} s, {len(ended)} served after {max(ended):.2f} s",
        len(receipts) == 2 and len(ended) == 10 and max(ended) <= HEARTBEAT + LATE + seconds,
        {"calls": len(receipts), "takeover_s": took_over, "served_s": max(ended)},
    )


@row(heavy=True)
def replaced(case: Case) -> Seen:
    """leader SIGSTOPped past its deadline, a successor fills, SIGCONT.

    Bar: the successor's answer stays; the late fill is refused and counted.
    """
    leader = _leading(case, Load("leader", seconds=PAST))
    leader.stop()
    served: Report = begun(case, Load("successor", seconds=0.5)).hear(PAST + SLACK)
    leader.go_on()
    late: Report = leader.hear(PAST + SLACK)
    names = served.asked[0].name, late.asked[0].name, kept(case.place)
    calls, refused = paid(case.place), late.stats.get("refused.lost", 0)
    return Seen(
        f"{calls} calls; kept: the {names[2] or 'nothing'}'s; late fills refused: {refused}",
        calls == 2 and names == ("successor", "leader", "successor") and refused == 1,
        {"calls": calls, "refused": refused},
    )


@row(heavy=True)
def unreplaced(case: Case) -> Seen:
    """leader stopped, nobody else asks, continues.

    Bar: its answer is stored: no second call.
    """
    leader = _leading(case, Load("leader", seconds=1.0))
    leader.stop()
    time.sleep(PAST)
    leader.go_on()
    report: Report = leader.hear()
    calls, name = paid(case.place), kept(case.place)
    passed = calls == 1 and name == report.asked[0].name == "leader"
    return Seen(f"{calls} call; kept: the {name or 'nothing'}'s", passed, {"calls": calls})


@row(heavy=True, modes=("tasks",))
def blocked(case: Case) -> Seen:
    """an event loop blocked for 10 s while it leads.

    Bar: lease kept: 1 call.
    """
    seconds = HEARTBEAT + 1.5 if case.quick else 10.0
    leader = _leading(case, Load("leader", seconds=seconds, blocks=True))
    waiter = begun(case, Load("waiter", 5, 0.1))
    reports: list[Report] = [worker.hear(seconds + SLACK) for worker in (leader, waiter)]
    names = {one.name for report in reports for one in report.asked}
    calls, lost = paid(case.place), reports[0].stats.get("lost", 0)
    measured = f"{calls} call in {seconds:g} s of a blocked loop; leases lost: {lost}"
    return Seen(measured, calls == 1 and names == {"leader"} and not lost, {"calls": calls, "lost": lost})


def _leading(case: Case, load: Load) -> Worker:
    """A worker whose only caller has begun its call."""
    leader = begun(case, load)
    eventually(lambda: paid(case.place) == 1, "the leader's call begins", SLACK)
    return leader


# --- callers that are cancelled ---------------------------------------------------------------------------------------

PROCESSES, CALLERS = 2, 20
SECONDS = 0.2  # s of a call; cancellations come during it, or a little later
BEYOND = 0.5  # s after the call that a caller may wait; longer means a lease that nobody had


class Round(NamedTuple):
    """What one process saw: callers served and cancelled, the longest wait of a served caller, what is left."""

    served: int
    cancelled: int
    longest: float
    left: list[str]


@row(heavy=True, modes=("tasks",))
def cancels(case: Case) -> Seen:
    """callers cancelled at random (leader's, followers').

    Bar: the others are served; no task, thread, connection left.

    Rounds of 2 x 20 callers of one question, half of whom are cancelled within the call.
    """
    count, before = 10 if case.quick else 100, Remains.now(case.place.server).clients
    for seed in range(PROCESSES):
        case.workers.start(_rounds, case.place.bare, count, seed, mode="tasks")
    case.workers.begin()
    seen: list[Round] = case.workers.results(count * (2 * SECONDS + BEYOND))
    eventually(lambda: Remains.now(case.place.server).clients <= before, "every connection is closed", 5.0)
    receipts = Receipts(case.place.receipts)
    most = max(receipts.paid(question(f"round {number}")) for number in range(count))
    served, cancelled = sum(one.served for one in seen), sum(one.cancelled for one in seen)
    longest = max(one.longest for one in seen)
    left = [name for one in seen for name in one.left]
    return Seen(
        f"{served} served, {cancelled} cancelled, the longest wait {longest:.2f} s for a call of {SECONDS:g} s;"
        f" most calls a round: {most}; left behind: {', '.join(left) or 'nothing'}",
        most == 1 and longest <= SECONDS + BEYOND and not left and served + cancelled == PROCESSES * CALLERS * count,
        {"served": served, "cancelled": cancelled, "longest_s": longest, "most_calls": most, "left": len(left)},
        f"{count} rounds",
    )


async def _rounds(c: Callers, parent: Parent, place: Place, count: int, seed: int) -> Round:
    at = await parent.begin(c)
    before, tasks = Remains.now(), asyncio.all_tasks()
    draw, waits = random.Random(seed), list[float]()
    async with AsyncCache(place.url) as cache:
        call = ScriptedCall(delay=SECONDS, receipts=place.receipts)
        for number in range(count):
            # Rounds begin by the clock, so that both processes are in the same one.
            await c.sleep_until(at + number * (2 * SECONDS + BEYOND / 2))
            waits += await _round(cache, call, question(f"round {number}"), draw)
    now, more = Remains.now(), [task.get_name() for task in asyncio.all_tasks() - tasks]
    left = [*(now.threads - before.threads), *(now.descriptors - before.descriptors), *more]
    return Round(len(waits), CALLERS * count - len(waits), max(waits), left)


async def _round(cache: AsyncCache, call: ScriptedCall, request: Any, draw: random.Random) -> list[float]:
    """The waits of callers that were not cancelled; raises an error of any of them."""

    async def caller() -> float:
        began = time.monotonic()
        await cache.fetch(request, call.aio_on(request))
        return time.monotonic() - began

    callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
    for one in callers:
        if draw.random() < 0.5:
            # As often in the first moments, during a claim, as at any other time of the call.
            asyncio.get_running_loop().call_later(draw.uniform(0, draw.choice((0.01, 1.2 * SECONDS))), one.cancel)
    await asyncio.wait(callers)
    return [one.result() for one in callers if not one.cancelled()]
