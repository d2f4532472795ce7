"""Calls without a lease: which flights of its process a lookup may share while the store has trouble.

Normally the store tells a lookup whose call it may share: one that began after every invalidation that the lookup must
respect. Two rules stand in for the store.

A lookup may share a call that began after the lookup did. Every invalidation that the lookup must respect had returned
before the lookup began, and so before that call. One counter numbers lookups and calls as they begin.

A lookup may share an earlier call only where no invalidation can have come in between. That holds while the store is
down: this process cannot learn of an invalidation. It also holds while reads work and the lookup has read the same
generations as were read before that call: an invalidation in between would have moved them. An invalidation that
this process itself has seen acknowledged bars every call that was under way then.
"""

from __future__ import annotations

from askonce.core.model import Snapshot
from askonce.engine.claims import Attempt, may_answer
from askonce.engine.question import Question
from askonce.flight.board import Board
from askonce.flight.flight import Flight


def flight_for(question: Question, board: Board, attempt: Attempt, *, down: bool) -> tuple[Flight, bool]:
    """The flight that this lookup waits for, and whether this lookup runs it. `down`: reads are not tried."""

    def may_join(flight: Flight) -> bool:
        if not may_answer(flight, question):
            return False
        if flight.number > question.since:
            return True
        lost = flight.heartbeat is not None and flight.heartbeat.lost
        return not (lost or flight.barred) and (down or _unmoved(flight, question))

    mine = attempt.flight = board.unleased(question.key, attempt.owner, question.asker)
    mine.unverified = question.unverified
    seen = question.seen
    mine.snapshot = Snapshot(seen.epoch, seen.clock) if seen is not None else None
    flight = board.share_unleased(mine, may_join)
    if flight is not mine:
        attempt.flight = None
    return flight, flight is mine


def _unmoved(flight: Flight, question: Question) -> bool:
    """Whether nothing in the question's partition was invalidated since before the flight's call."""
    seen = question.seen
    return seen is not None and flight.snapshot is not None and flight.snapshot == (seen.epoch, seen.clock)
