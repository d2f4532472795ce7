"""The Follower waits for a flight of another process, and reads its answer.

The background thread's subscription reports the flight's end. Every wait ends with the lease's deadline, as the store
named it; then the follower claims again. A lost notice costs seconds, never correctness.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from askonce.core.lease import NEVER, Claim, Follow
from askonce.core.model import Corrupt
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, Ending, read_ending
from askonce.engine.question import Question
from askonce.engine.reader import Found, Reader
from askonce.engine.remote import GRACE, RemoteReader, lasts
from askonce.events import Status
from askonce.flight.flight import LOOK
from askonce.flight.guarded_store import GuardedStore
from askonce.flight.waiters import Waiter
from askonce.runtime.mode import Mode, Owner, Signal
from askonce.store import TIMEOUT, StoreTrouble
from askonce.stream.tape import Playback


class Wait:
    """One caller's wait for one flight."""

    def __init__(self, question: Question, waiter: Waiter, claim: Follow, heartbeat: float) -> None:
        self.question = question
        self.waiter = waiter
        self.claim = claim
        self._flight = waiter.follows = (claim.id, claim.order)
        self._heartbeat = heartbeat
        waiter.until = lasts(claim)

    def outcome(self) -> bytes | int | None:
        """How the flight ended, 0 to claim again, NEVER if it went silent, or None while none of these is known."""
        waiter = self.waiter
        while waiter.notices:
            notice = waiter.notices.popleft()
            if (notice.flight, notice.order) == self._flight:
                if notice.kind == ALIVE:
                    waiter.until = time.monotonic() + self._heartbeat
                if notice.kind == ENDED:
                    waiter.over = self._flight
                    return notice.outcome
        if waiter.again:
            waiter.again = False
            return 0
        return NEVER if self.left() <= 0 else None

    def left(self) -> float:
        """Seconds left to wait."""
        return min(self.waiter.until + GRACE, self.question.until) - time.monotonic()


class Follower:
    """Waits for flights of other processes."""

    def __init__(self, guarded: GuardedStore, reader: Reader, mode: Mode) -> None:
        self._guarded = guarded
        self._store = guarded.store
        self._events = guarded.events
        self._background = guarded.background
        self._reader = reader
        self._mode = mode

    def listen(self, question: Question, claim: Follow, owner: Owner, signal: Signal | None = None) -> Waiter:
        """Open a waiter of `owner`; it is not subscribed yet."""
        waiter = self._background.listen(question.key, signal or self._mode.signal(), owner)
        waiter.follows, waiter.until = (claim.id, claim.order), lasts(claim)
        return waiter

    @staticmethod
    async def in_force(waiter: Waiter) -> None:
        """Wait until a waiter is subscribed, at most one store timeout; then the caller claims again in any case."""
        if not waiter.again:
            await waiter.signal.wait(TIMEOUT)
        waiter.again = False

    async def follow(self, question: Question, waiter: Waiter, claim: Follow) -> Found | int:
        """Wait for the flight. Return its answer, or the order after which to claim again (NEVER: it went silent)."""
        wait = Wait(question, waiter, claim, self._background.heartbeat)
        while (outcome := wait.outcome()) is None:
            await waiter.signal.wait(min(wait.left(), LOOK))
        return outcome if isinstance(outcome, int) else await self._ended(question, waiter, claim, outcome)

    async def read_remotely(
        self, question: Question, waiter: Waiter, claim: Follow, again: Callable[[], Awaitable[Claim]]
    ) -> Playback | Found | int:
        """Wait for the flight's stream to begin. Return a place on it (it owns this waiter), or as `follow`."""
        waiter.follows = (claim.id, claim.order)
        remote = RemoteReader(question, waiter, claim, self._guarded, self._reader, again)
        if not await remote.pull(question.until):
            return NEVER
        if remote.unreadable and not remote.tape.count:
            raise StoreTrouble(remote.unreadable, "a flight's log cannot be opened", "key")  # asked without the store
        if remote.whole is not None:
            return self.shared(question, remote.whole)
        if remote.dead and not remote.tape.count:
            waiter.over = (claim.id, claim.order)
            return 0 if remote.failed else NEVER

        async def left() -> None:
            waiter.close()
            self._reader.accounting.followed(question, remote.tape)

        return Playback(remote.tape, self._mode, remote.pull, left, self._background.defer)

    async def _ended(self, question: Question, waiter: Waiter, claim: Follow, outcome: bytes) -> Found | int:
        """A caller that was told to follow a flight may use its answer, whatever became of that answer since."""
        if outcome == STORED:
            if waiter.brought is None:
                data, head = await self._reader.entry(question)
                if data is not None and head is not None and (head.fill, head.order) == (claim.id, claim.order):
                    waiter.share(data, head)
            if (brought := waiter.brought) is not None:
                data, head = brought
                return self._reader.hit(question, data, head, head.created, fwd="miss")
        if outcome == SHARED and (found := await self.taped(question, claim)) is not None:
            return found
        return 0 if outcome == FAILED else claim.order

    async def taped(self, question: Question, claim: Follow) -> Found | None:
        """Return a flight's answer that could not be stored, from its tape."""
        log = await self._guarded.read(question.key, self._store.tape(question.key, claim.id, claim.order))
        return self.read_tape(question, claim, log)

    def read_tape(self, question: Question, claim: Follow, log: bytes | None) -> Found | None:
        """Return the answer on a flight's tape, if it may be shared."""
        if log is not None:
            log = self._opened(question, claim, log)
        ending = read_ending(log) if log is not None else None
        if ending is None or ending.outcome != SHARED:
            return None
        if question.key.form == "s" and log is not None and not ending.body:
            ending = ending._replace(body=log)  # a stream, recorded in its parts
        return self.shared(question, ending)

    def _opened(self, question: Question, claim: Follow, log: bytes) -> bytes:
        """A log without envelopes. StoreTrouble if it cannot be opened, so that the caller asks upstream by itself."""
        try:
            return self._guarded.codec.open_log(question.key, claim.id, log, question.terms.max_answer_bytes)
        except Corrupt as corrupt:
            self._reader.unread(question, corrupt.reason)
            raise StoreTrouble(corrupt.reason, "a flight's tape cannot be opened", "key") from corrupt

    def shared(self, question: Question, ending: Ending) -> Found:
        """Return an answer taken from a flight's tape: it was not stored."""
        status = Status(question.key.text, fwd="miss", collapsed=True, detail=ending.detail)
        self._events.lookup(status, question)
        self._reader.accounting.joined_answer(question, ending.body)
        return Found(status, ending.body)
