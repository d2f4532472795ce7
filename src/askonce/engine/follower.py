"""The Follower waits for a flight of another process, and fetches what it brought.

It hears of the end through the fleet thread's subscription. Every wait is bounded by what the store said of the
lease, after which it looks again: a lost word costs seconds, never correctness.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from askonce.core.lease import NEVER, Claim, Follow
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, Ending, read_ending
from askonce.engine.question import Question
from askonce.engine.reader import Found, Reader
from askonce.engine.remote import Relay
from askonce.events import Status
from askonce.flight.flight import LOOK, Mode
from askonce.flight.guarded_store import Guard
from askonce.flight.waiters import Ear, Owner, Signal
from askonce.store import TIMEOUT
from askonce.stream.tape import Playback

GRACE = 0.05  # s beyond a follower's wait, so that he does not look a moment before the deadline he was told


class Wait:
    """One caller's wait for one flight."""

    def __init__(self, question: Question, ear: Ear, claim: Follow, heartbeat: float) -> None:
        self.question = question
        self.ear = ear
        self.claim = claim
        self._mine = ear.follows = (claim.id, claim.order)
        self._heartbeat = heartbeat
        self._until = time.monotonic() + claim.remaining / 1000 + GRACE

    def heard(self) -> bytes | int | None:
        """How the flight ended, or 0 to look again, NEVER where it went silent; None as long as none of these."""
        ear = self.ear
        while ear.words:
            word = ear.words.popleft()
            if (word.flight, word.order) == self._mine:
                if word.kind == ALIVE:
                    self._until = time.monotonic() + self._heartbeat
                if word.kind == ENDED:
                    return word.outcome
        if ear.again:
            ear.again = False
            return 0
        return NEVER if self.left() <= 0 else None

    def left(self) -> float:
        """For how many s more to wait."""
        return min(self._until, self.question.until) - time.monotonic()


class Follower:
    """Waits for the flights of others."""

    def __init__(self, guard: Guard, reader: Reader, mode: Mode) -> None:
        self._guard = guard
        self._store = guard.store
        self._events = guard.events
        self._fleet = guard.fleet
        self._reader = reader
        self._mode = mode

    def listen(self, question: Question, claim: Follow, owner: Owner, signal: Signal | None = None) -> Ear:
        """An ear of `owner`'s; it is not in force yet."""
        ear = self._fleet.listen(question.key, signal or self._mode.signal(), owner)
        ear.follows = (claim.id, claim.order)
        return ear

    @staticmethod
    async def in_force(ear: Ear) -> None:
        """Wait until an ear is sure to hear; at the latest after one store timeout we look by ourselves."""
        if not ear.again:
            await ear.signal.wait(TIMEOUT)
        ear.again = False

    async def follow(self, question: Question, ear: Ear, claim: Follow) -> Found | int:
        """Wait for the flight: its answer, or the order after which to look again (NEVER: it went silent)."""
        wait = Wait(question, ear, claim, self._fleet.heartbeat)
        while (heard := wait.heard()) is None:
            await ear.signal.wait(min(wait.left(), LOOK))
        return heard if isinstance(heard, int) else await self._ended(question, ear, claim, heard)

    async def tune(
        self, question: Question, ear: Ear, claim: Follow, again: Callable[[], Awaitable[Claim]]
    ) -> Playback | Found | int:
        """Wait for the beginning of its stream: a place on it, with this ear; or as `follow`."""
        ear.follows = (claim.id, claim.order)
        relay = Relay(question, ear, claim, self._guard, self._reader, again)
        if not await relay.pull(question.until):
            return NEVER
        if relay.whole is not None:
            return self.shared(question, relay.whole)
        if relay.dead and not relay.tape.count:
            return 0 if relay.failed else NEVER

        async def left() -> None:
            ear.close()

        return Playback(relay.tape, self._mode, relay.pull, left, self._fleet.defer)

    async def _ended(self, question: Question, ear: Ear, claim: Follow, outcome: bytes) -> Found | int:
        """Whoever was told to follow a flight may have what it brought, whatever became of it since."""
        if outcome == STORED:
            if ear.brought is None:
                data, head = await self._reader.entry(question)
                if data is not None and head is not None and (head.fill, head.order) == (claim.id, claim.order):
                    ear.tell(data, head)
            if (brought := ear.brought) is not None:
                data, head = brought
                return self._reader.hit(question, data, head, head.created, fwd="miss")
        if outcome == SHARED and (found := await self.taped(question, claim)) is not None:
            return found
        return 0 if outcome == FAILED else claim.order

    async def taped(self, question: Question, claim: Follow) -> Found | None:
        """What a flight brought that could not be stored, from its tape."""
        log = await self._guard.read(self._store.tape(question.key, claim.id, claim.order))
        return self.read_tape(question, log)

    def read_tape(self, question: Question, log: bytes | None) -> Found | None:
        """The answer on a tape, if it is one that may be shared."""
        ending = read_ending(log) if log is not None else None
        if ending is None or ending.outcome != SHARED:
            return None
        if question.key.form == "s" and log is not None and not ending.body:
            ending = ending._replace(body=log)  # a stream that was written down as it came
        return self.shared(question, ending)

    def shared(self, question: Question, ending: Ending) -> Found:
        """An answer taken from the tape of the flight that brought it: it was not stored."""
        status = Status(question.key.text, fwd="miss", collapsed=True, detail=ending.detail)
        self._events.lookup(status)
        return Found(status, ending.body)
