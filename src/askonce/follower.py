"""The Follower waits for a flight of another process, and fetches what it brought.

It hears of the end through the fleet thread's subscription. Every wait is bounded by what the store said of the
lease, after which it looks again: a lost word costs seconds, never correctness.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from askonce.core.lease import NEVER, Claim, Follow
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, Ending, read_ending
from askonce.ear import Ear, Owner
from askonce.events import Status
from askonce.flight import LOOK, Mode
from askonce.guard import Guard
from askonce.question import Question
from askonce.reader import Found, Reader
from askonce.relay import Relay
from askonce.store import TIMEOUT
from askonce.tape import Playback

GRACE = 0.05  # s beyond a follower's wait, so that he does not look a moment before the deadline he was told


class Follower:
    """Waits for the flights of others."""

    def __init__(self, guard: Guard, reader: Reader, mode: Mode) -> None:
        self._guard = guard
        self._store = guard.store
        self._events = guard.events
        self._fleet = guard.fleet
        self._reader = reader
        self._mode = mode

    def listen(self, question: Question, claim: Follow, owner: Owner) -> Ear:
        """An ear of `owner`'s; it is not in force yet."""
        ear = self._fleet.listen(question.key, self._mode.signal(), owner)
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
        mine = ear.follows = (claim.id, claim.order)
        until = time.monotonic() + claim.remaining / 1000 + GRACE
        while True:
            while ear.words:
                word = ear.words.popleft()
                if (word.flight, word.order) != mine:
                    continue
                if word.kind == ALIVE:
                    until = time.monotonic() + self._fleet.heartbeat
                if word.kind == ENDED:
                    return await self._ended(question, ear, claim, word.outcome)
            if ear.again:
                ear.again = False
                return 0
            left = min(until, question.until) - time.monotonic()
            if left <= 0:
                return NEVER
            await ear.signal.wait(min(left, LOOK))

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
