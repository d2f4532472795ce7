"""Claims: what a lookup asks of the store, and what it holds from its first claim until its flight runs.

Every claim is made within an owner (`within`). Its flight is on the Board and in the background thread's list before
the claim is sent. So no exception has to be caught between the store's reply and the next line: whatever ends the
lookup, the end of `within` gives back every flight that nothing runs. If that end is interrupted too, the flight is
given back by whatever meets it next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Claim, Follow
from askonce.core.tape import FAILED, Ending
from askonce.engine.question import Question
from askonce.events import Events
from askonce.flight.board import Board
from askonce.flight.flight import Flight, check_outside
from askonce.flight.guarded_store import GuardedStore
from askonce.flight.waiters import Waiter
from askonce.runtime.exits import EXIT
from askonce.runtime.mode import Mode, Running
from askonce.runtime.ownership import owned
from askonce.store import Store, StoreTrouble
from askonce.stream.tape import Cut

T = TypeVar("T")


@dataclass(slots=True, eq=False, repr=False)
class Attempt:
    """What one caller has claimed, and seen of other flights. `after`: the order of the flight it waited for last."""

    owner: Running
    flight: Flight | None = None  # claimed last; its claim was granted, or may have been
    waiter: Waiter | None = None
    named: Follow | None = None  # the flight the store named last; its end is not known
    after: int = 0
    ended: tuple[bytes, int] | None = None  # a flight of this process, named by a claim after it had ended: id, order
    silent: bool = False
    mismatches: int = 0
    unreadable: bool = False  # the entry's header is valid and its body is not: the entry must be replaced

    def follows_on(self, trouble: StoreTrouble) -> Follow | None:
        """What stands for the reply to a claim that met trouble: the flight that its caller follows, and how long that
        is under way as far as is known. None if there is none, or if Python ends: nothing waits then.

        The call that the caller waits for goes on all the same, and its end is told when the trouble is over. A call of
        the caller's own would be paid once more.
        """
        if self.waiter is None or self.named is None or trouble.kind == EXIT:
            return None
        if self.ended == self.named[:2] or self.waiter.ended(self.named[:2]):
            return None
        left = int((self.waiter.until - time.monotonic()) * 1000)
        return self.named._replace(remaining=left) if left > 0 else None


class Claims:
    """Makes the claims of one engine, and gives back those that nothing runs."""

    def __init__(self, guarded: GuardedStore, mode: Mode) -> None:
        self._guarded = guarded
        self._store = guarded.store
        self._background = guarded.background
        self._mode = mode
        self.board = Board(guarded.background, partial(_orphaned, guarded.events))
        self.waiters: set[Waiter] = set()

    def attempt(self) -> Attempt:
        """An attempt owned by the current caller."""
        return Attempt(self._mode.owner())

    async def within(self, attempts: Sequence[Attempt], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work`, which makes these attempts; all have one owner. At its end, give back what they still hold."""
        running = attempts[0].owner.work = owned(work)
        try:
            result: T = await running
            return result
        finally:
            for attempt in attempts:
                await self.leave(attempt)

    async def claim(self, question: Question, attempt: Attempt) -> Claim:
        """Ask the store. If it grants the lease, `attempt.flight` holds it."""
        ask = self._begun(question, attempt)
        try:
            return self._said(attempt, await self._guarded(question.key, self._store.claim(question.key, ask)))
        except StoreTrouble as trouble:
            if (still := await self._follows_on(attempt, trouble)) is None:
                raise
            return still

    async def claim_all(self, asking: Sequence[tuple[Question, Attempt]]) -> list[Claim]:
        """Claim several keys, in batches; each lease is renewed from its grant on. StoreTrouble if one failed."""
        works = [partial(_claim, question.key, self._begun(question, attempt)) for question, attempt in asking]
        keys = [question.key for question, _ in asking]
        claims: list[Claim] = []
        troubled: StoreTrouble | None = None
        for claim, (_, attempt) in zip(await self._guarded.together(keys, works), asking, strict=True):
            if not isinstance(claim, StoreTrouble):
                claims.append(self._said(attempt, claim))
            elif (still := await self._follows_on(attempt, claim)) is not None:
                claims.append(still)
            else:
                troubled = troubled or claim
        if troubled is not None:
            raise troubled
        return claims

    async def _follows_on(self, attempt: Attempt, trouble: StoreTrouble) -> Follow | None:
        """What stands for the reply to a claim that met trouble; the claim may have been granted, and is given back."""
        still = attempt.follows_on(trouble)
        if still is not None:
            await self.drop(attempt)
        return still

    def _begun(self, question: Question, attempt: Attempt) -> Ask:
        flight = attempt.flight = self.board.flight(question.key, attempt.owner, question.asker)
        flight.model, flight.scope = question.model, question.plan.scope
        flight.unverified = question.unverified
        self.board.post(flight)
        limits = question.limits._replace(max_age=0) if attempt.unreadable or question.unreadable else question.limits
        # The Reader has made the random XFetch decision: here it is enough that the end is near.
        early = NEVER if question.held is None or attempt.after else question.held.ttl >> 2
        heartbeat = int(self._background.heartbeat * 1000)
        return Ask(flight.id, flight.id[:4], question.fields, limits, attempt.after, early, heartbeat)

    def _said(self, attempt: Attempt, claim: Claim) -> Claim:
        flight = attempt.flight
        assert flight is not None
        if isinstance(claim, Follow) or claim.grant is None:
            flight.returned = True
            self.board.end(flight)
            attempt.flight = None
        else:
            self.board.granted(flight, claim.grant)
        return claim

    async def asked(self, question: Question) -> Claim:
        """Return the store's claim for a caller that follows and will not lead: a granted lease is given back."""
        attempt = self.attempt()
        return await self.within([attempt], partial(self.claim, question, attempt))

    async def leave(self, attempt: Attempt) -> None:
        """End the lookup: close its waiter, and give back what it still holds."""
        waiter, attempt.waiter = attempt.waiter, None
        if waiter is not None:
            self.waiters.discard(waiter)
            waiter.close()
        await self.drop(attempt)

    async def drop(self, attempt: Attempt) -> None:
        """Give up the claimed flight, unless something else owns it by now, or its stream is being read."""
        flight = attempt.flight
        if flight is None or flight.over or flight.owner is not attempt.owner:
            return
        if flight.pump is not None:
            if flight.pump.alive():
                return
            await flight.pump.end(Cut("its caller was gone before it was read"))
        self.board.end(flight)

    def running(self, claim: Follow, question: Question) -> Flight | None:
        """The flight that a claim named, if it is one of this process, something runs it, and it may answer.

        UsageError if its call asks, perhaps by another cache with this store: it would wait for itself.
        """
        check_outside(claim.id)
        flight = self.board.named(claim.id, claim.order)
        return flight if flight is not None and flight.alive() and may_answer(flight, question) else None

    async def over(self, question: Question, claim: Follow, attempt: Attempt) -> bool:
        """Whether a claim named a flight of this process that nothing runs, so that the caller claims again at once.
        Its lease is given back, if it stands: the background thread would be later.
        """
        flight = self.board.named(claim.id, claim.order)
        if flight is None:
            return self.board.made(claim.id) and await self._ended(question, claim, attempt)
        if flight.handed_over:
            return False  # the background thread tells its end, as to other processes
        if flight.pump is None or not flight.pump.hand_on():
            if not flight.returned:
                await self._give_back(question.key, claim)
                flight.returned = True
            self.board.reap(flight)
        return True

    async def _ended(self, question: Question, claim: Follow, attempt: Attempt) -> bool:
        """The same for a flight that has ended. Most ended after the claim was answered, and the next claim finds what
        came of them. Only a flight that is named once more has a lease that was granted after its end.
        """
        if attempt.ended == claim[:2]:
            await self._give_back(question.key, claim)
            return True
        attempt.ended = claim[:2]
        if attempt.waiter is None:
            return False  # it subscribes first, as to any other flight, and then claims again
        attempt.named, attempt.after = claim, max(attempt.after, claim.order)
        return True

    async def _give_back(self, key: Key, claim: Follow) -> None:
        await self._guarded(key, self._store.release(key, claim.id, claim.order, Ending(FAILED, "gone")))


def may_answer(flight: Flight, question: Question) -> bool:
    """Whether a flight's answer is for this question's caller: a credential that upstream has not accepted yet gets
    nothing that other credentials paid for.
    """
    return not question.unverified or flight.unverified == question.unverified


def _orphaned(events: Events, flight: Flight) -> None:
    events.emit("dropped", flight.key.text, "owner-gone")
    if flight.is_refresh:
        events.emit("backoff", flight.key.text)
    events.warn_once(
        "owner-gone",
        "a call's thread, task or event loop ended without notice: its lease was given back, and others may call",
    )


async def _claim(key: Key, ask: Ask, store: Store) -> Claim:
    return await store.claim(key, ask)
