"""A parent with open connections and a flight under way forks; the children and the parent continue to ask.

Each question has its own answer, so that a reply for another process would show.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from askonce.testing import ScriptedCall, Step
from bench.callers import Callers, run
from bench.load import paid
from bench.places import Place
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import SLACK, Parent

CHILDREN = 4
KNOWN = 50  # questions stored before the fork
FLIGHT = 1.5  # s, the time of the parent's call


class Family(NamedTuple):
    """The result: exit codes of the children, wrong answers of the parent, its flight's answer and status."""

    codes: list[int]
    wrong: int
    flight: str
    status: str


@row(heavy=True)
def forks(case: Case) -> Seen:
    """parent with open connections and a flight, 4 forked children, 1,000 lookups each.

    Bar: no wrong reply; parent undisturbed.
    """
    lookups = 100 if case.quick else 1000
    parent = case.workers.start(forking, case.place.bare, case.mode, lookups, mode=case.mode)
    found: Family = parent.hear(SLACK + lookups * 0.05)
    calls, stored = paid(case.place), "stored" in found.status
    return Seen(
        f"{CHILDREN} x {lookups} lookups, exit codes {found.codes}, wrong answers of the parent: {found.wrong};"
        f" its flight: {'stored' if stored else found.status or 'lost'}, {calls} call",
        not any(found.codes) and not found.wrong and found.flight == "flight" and stored and calls == 1,
        {"wrong": found.wrong, "calls": calls},
    )


async def forking(c: Callers, _: Parent, place: Place, mode: str, lookups: int) -> Family:
    """The parent."""
    call, request = ScriptedCall(delay=FLIGHT, receipts=place.receipts), question("flight")
    call.script(None, Step(body=answer("flight")))
    async with c.cache(place.url) as cache:
        await _ask_all(c, cache, KNOWN)

        async def fork() -> tuple[list[int], int]:
            await c.block(call.wait_until_paid)
            # In tasks the child is inside this coroutine of its parent's loop, and makes a loop of its own.
            pids = [_born(lambda: run(mode, _ask_all, cache, lookups)) for _ in range(CHILDREN)]
            wrong = await _ask_all(c, cache, lookups)
            return [os.waitstatus_to_exitcode((await c.block(os.waitpid, pid, 0))[1]) for pid in pids], wrong

        flight, (codes, wrong) = await c.gather(c.ask(cache, request, call), fork())
    return Family(codes, wrong, flight.name, flight.status)


async def _ask_all(c: Callers, cache: Any, lookups: int) -> int:
    """The number of wrong answers; half of the questions are hits, and their first asker pays for the others."""
    wrong = 0
    for number in range(lookups):
        name = number % (2 * KNOWN)

        async def call(name: int = name) -> Any:
            return answer(name)

        wrong += (await c.ask(cache, question(name), call)).name != str(name)
    return wrong


def _born(ask: Callable[[], int]) -> int:
    """Fork; the child asks and exits with the number of its wrong answers, or 99 for an exception."""
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
