"""Leaders that die, or are paused: what the others get, and when; and what becomes of the late answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from askonce.fleet import HEARTBEAT
from askonce.testing import Receipts
from bench.asking import Load, Report, kept, work
from bench.crew import SLACK, Crew, Hand
from bench.places import BOTH, MODES, Opener, Place
from bench.row import Failed, Reading

LATE = 1.0  # s beyond the deadline and the call
PAST = HEARTBEAT + 2.0  # s after which a paused leader's deadline is certainly behind it


def killed(quick: bool) -> Iterator[Reading]:
    """The leader is killed in the middle of its call; waiters of other processes go on."""
    seconds = 1.0 if quick else 12.0
    for case, place, mode in _cases(quick):
        with place() as here, Crew() as crew:
            leader = _leading(crew, here, mode, seconds + SLACK)  # it will not come to that
            waiters = [_waiting(crew, here, f"waiter {n}", mode, seconds, 5) for n in range(2)]
            time.sleep(min(seconds / 2, 2.0))  # waiters at rest, and a heartbeat or two
            died = time.monotonic()
            leader.kill()
            reports: list[Report] = [hand.hear(HEARTBEAT + seconds + SLACK) for hand in waiters]
            receipts = Receipts(here.receipts).rows()
        ended = [one.ended - died for report in reports for one in report.asked if not one.error]
        took_over = receipts[1].at - died if len(receipts) > 1 else float("nan")
        measured = (
            f"{len(receipts)} calls; taken over after {took_over:.2f} s, {len(ended)} served after {max(ended):.2f} s"
        )
        passed = len(receipts) == 2 and len(ended) == 10 and max(ended) <= HEARTBEAT + LATE + seconds
        yield Reading(case, measured, passed, {"calls": len(receipts), "takeover_s": took_over, "served_s": max(ended)})


def replaced(quick: bool) -> Iterator[Reading]:
    """The leader is paused past its deadline, a successor fills, the leader goes on: its late fill is refused."""
    for case, place, mode in _cases(quick):
        with place() as here, Crew() as crew:
            leader = _leading(crew, here, mode, PAST)
            leader.stop()
            successor = _waiting(crew, here, "successor", mode, 0.5, 1)
            served: Report = successor.hear(PAST + SLACK)
            leader.go_on()
            late: Report = leader.hear(PAST + SLACK)
            names = served.asked[0].name, late.asked[0].name, kept(here.url)
            calls = Receipts(here.receipts).paid()
        refused = late.stats.get("refused.lost", 0)
        passed = calls == 2 and names == ("successor", "leader", "successor") and refused == 1
        measured = f"{calls} calls; kept: the {names[2] or 'nothing'}'s; late fills refused: {refused}"
        yield Reading(case, measured, passed, {"calls": calls, "refused": refused})


def unreplaced(quick: bool) -> Iterator[Reading]:
    """The leader is paused past its deadline, nobody else asks, it goes on: what it paid for is stored."""
    for case, place, mode in _cases(quick):
        with place() as here, Crew() as crew:
            leader = _leading(crew, here, mode, 1.0)
            leader.stop()
            time.sleep(PAST)
            leader.go_on()
            report: Report = leader.hear()
            calls, name = Receipts(here.receipts).paid(), kept(here.url)
        measured = f"{calls} call; kept: the {name or 'nothing'}'s"
        yield Reading(case, measured, calls == 1 and name == report.asked[0].name == "leader", {"calls": calls})


def blocked(quick: bool) -> Iterator[Reading]:
    """An event loop is blocked while it leads; others ask meanwhile."""
    seconds = HEARTBEAT + 1.5 if quick else 10.0
    for case, place, _ in _cases(quick, modes=("tasks",)):
        with place() as here, Crew() as crew:
            leader = _leading(crew, here, "tasks", seconds, blocks=True)
            waiter = _waiting(crew, here, "waiter", "tasks", 0.1, 5)
            reports: list[Report] = [hand.hear(seconds + SLACK) for hand in (leader, waiter)]
            calls = Receipts(here.receipts).paid()
        names = {one.name for report in reports for one in report.asked}
        lost = reports[0].stats.get("lost", 0)
        measured = f"{calls} call in {seconds:g} s of a blocked loop; leases lost: {lost}"
        yield Reading(case, measured, calls == 1 and names == {"leader"} and not lost, {"calls": calls, "lost": lost})


def _cases(quick: bool, modes: tuple[str, ...] = MODES) -> Iterator[tuple[str, Opener, str]]:
    for number, place in enumerate(BOTH):
        # quick: each store and each mode once, not each with each
        for mode in (modes[number % len(modes)],) if quick else modes:
            yield f"{place.__name__}, {mode}", place, mode


def _leading(crew: Crew, place: Place, mode: str, seconds: float, *, blocks: bool = False) -> Hand:
    """A worker whose only caller's call has begun."""
    leader = _begun(crew, Load(place.url, place.receipts, "leader", mode, 1, seconds, blocks=blocks))
    _until(lambda: Receipts(place.receipts).paid() == 1, "the leader's call to begin")
    return leader


def _waiting(crew: Crew, place: Place, name: str, mode: str, seconds: float, callers: int) -> Hand:
    return _begun(crew, Load(place.url, place.receipts, name, mode, callers, seconds))


def _begun(crew: Crew, load: Load) -> Hand:
    hand = crew.hire(work, load)
    hand.hear()
    hand.tell(time.monotonic())
    return hand


def _until(true: Callable[[], bool], what: str, timeout: float = SLACK) -> None:
    until = time.monotonic() + timeout
    while not true():
        if time.monotonic() > until:
            raise Failed(f"waited {timeout:g} s for {what}")
        time.sleep(0.005)
