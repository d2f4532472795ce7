"""Calls without a lease: which flights of its process a lookup may share where the store had trouble.

The store is what tells a lookup whose call it may have: one that began after every invalidation that the lookup must
respect. Where it cannot, two things can.

A call that began after the lookup did is for it. An invalidation that it must respect had returned before it began, and
so before that call. Both are numbered by one counter, as they begin.

A call that began before is for it only where no invalidation can have come in between. So it is where the store is
down: there is none that this process could learn of. And where its reads work, and the generations that this lookup has
read are those that were read before that call: an invalidation in between would have moved them. An invalidation that
this process itself has seen acknowledged bars what was under way then.
"""

from __future__ import annotations

from askonce.core.model import Snapshot
from askonce.engine.claims import Attempt
from askonce.engine.question import Question
from askonce.flight.flight import Board, Flight


def flight_for(question: Question, board: Board, attempt: Attempt, *, down: bool) -> tuple[Flight, bool]:
    """The flight that this lookup is to wait for, and whether it is its own to run. `down`: reads are not tried."""

    def may_join(flight: Flight) -> bool:
        if flight.number > question.since:
            return True
        lost = flight.heartbeat is not None and flight.heartbeat.lost
        return not (lost or flight.barred) and (down or _unmoved(flight, question))

    mine = attempt.flight = board.lone(question.key, attempt.owner)
    seen = question.seen
    mine.snapshot = Snapshot(seen.epoch, seen.clock) if seen is not None else None
    flight = board.alone(mine, may_join)
    if flight is not mine:
        attempt.flight = None
    return flight, flight is mine


def _unmoved(flight: Flight, question: Question) -> bool:
    """Whether nothing in the question's partition was invalidated since before the flight's call."""
    seen = question.seen
    return seen is not None and flight.snapshot is not None and flight.snapshot == (seen.epoch, seen.clock)
