"""Claims: what a lookup asks the store for, and has, from its first claim until its flight is flown by somebody.

Every claim is made within an owner (`within`), and its flight is on the Board and in the background thread's list
before the claim is sent. So nothing has to be caught in between. Whatever ends the lookup, be it between the store's
reply and our next line, the end of `within` gives back what nobody flies; and where that is cut off too, whoever meets
the flight next.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Claim, Follow
from askonce.core.tape import FAILED, Ending
from askonce.engine.question import Question
from askonce.flight.flight import Board, Flight, Mode, Running
from askonce.flight.guarded_store import Guard
from askonce.flight.waiters import Ear
from askonce.runtime.ownership import owned
from askonce.store import Store, StoreTrouble
from askonce.stream.tape import Cut

T = TypeVar("T")


@dataclass(slots=True)
class Pursuit:
    """What one caller has claimed, and seen of others' flights while claiming: `after`, the order it waited for."""

    owner: Running
    flight: Flight | None = None  # the one claimed last, if its claim was granted, or may have been
    ear: Ear | None = None
    told: Follow | None = None  # the flight that the store named last, and whose end is not known
    after: int = 0
    silent: bool = False
    mismatches: int = 0
    unreadable: bool = False  # the entry's header is right and its body is not: it has to be replaced


class Claims:
    """Makes the claims of one engine, and sees to what becomes of them."""

    def __init__(self, guard: Guard, mode: Mode) -> None:
        self._guard = guard
        self._store = guard.store
        self._fleet = guard.fleet
        self._events = guard.events
        self._mode = mode
        self.board = Board(guard.fleet, self._orphaned)
        self.ears: set[Ear] = set()

    def pursuit(self) -> Pursuit:
        """A pursuit of the caller of this moment."""
        return Pursuit(self._mode.owner())

    async def within(self, pursuits: Sequence[Pursuit], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do `work`, which pursues these, all of one owner."""
        running = pursuits[0].owner.work = owned(work)
        try:
            result: T = await running
            return result
        finally:
            for pursuit in pursuits:
                await self.leave(pursuit)

    async def claim(self, question: Question, pursuit: Pursuit) -> Claim:
        """Ask the store; what it grants is `pursuit.flight`."""
        ask = self._begun(question, pursuit)
        return self._said(pursuit, await self._guard(self._store.claim(question.key, ask)))

    async def claim_all(self, asking: Sequence[tuple[Question, Pursuit]]) -> list[Claim]:
        """Ask for several, in batches; each is renewed from its grant on. StoreTrouble when one had it."""
        works = [partial(_claim, question.key, self._begun(question, pursuit)) for question, pursuit in asking]
        claims: list[Claim] = []
        troubled: StoreTrouble | None = None
        for claim, (_, pursuit) in zip(await self._guard.together(works), asking, strict=True):
            if isinstance(claim, StoreTrouble):
                troubled = troubled or claim
            else:
                claims.append(self._said(pursuit, claim))
        if troubled is not None:
            raise troubled
        return claims

    def _begun(self, question: Question, pursuit: Pursuit) -> Ask:
        flight = pursuit.flight = self.board.flight(question.key, pursuit.owner)
        self.board.post(flight)
        limits = question.limits._replace(max_age=0) if pursuit.unreadable or question.unreadable else question.limits
        # The lottery of moments was drawn by the Reader: here the end only has to be near.
        early = NEVER if question.held is None or pursuit.after else question.held.ttl >> 2
        heartbeat = int(self._fleet.heartbeat * 1000)
        return Ask(flight.id, flight.id[:4], question.fields, limits, pursuit.after, early, heartbeat)

    def _said(self, pursuit: Pursuit, claim: Claim) -> Claim:
        flight = pursuit.flight
        assert flight is not None
        if isinstance(claim, Follow) or claim.grant is None:
            flight.returned = True
            self.board.end(flight)
            pursuit.flight = None
        else:
            self.board.granted(flight, claim.grant)
        return claim

    async def asked(self, question: Question) -> Claim:
        """What the store says now, for one who follows and will not lead: a lease that is granted is given back."""
        pursuit = self.pursuit()
        return await self.within([pursuit], partial(self.claim, question, pursuit))

    async def leave(self, pursuit: Pursuit) -> None:
        """The lookup ended, in whatever way: give back what it still holds."""
        ear, pursuit.ear = pursuit.ear, None
        if ear is not None:
            self.ears.discard(ear)
            ear.close()
        await self.drop(pursuit)

    async def drop(self, pursuit: Pursuit) -> None:
        """Give up the flight that was claimed, unless it is somebody else's by now, or its stream is read."""
        flight = pursuit.flight
        if flight is None or flight.over or flight.owner is not pursuit.owner:
            return
        if flight.pump is not None:
            if flight.pump.alive():
                return
            await flight.pump.end(Cut("its caller was gone before it was read"))
        self.board.end(flight)

    async def bury(self, flight: Flight) -> None:
        """Nobody flies it: give its lease back now, and not by the background thread, for we are waiting for it."""
        if flight.pump is not None and flight.pump.hand_on():
            return
        if not flight.returned:
            await self._guard(self._store.release(flight.key, flight.id, 0, Ending(FAILED, "gone")))
            flight.returned = True
        self.board.bury(flight)

    def _orphaned(self, flight: Flight) -> None:
        self._events.emit("dropped", flight.key.text, "owner-gone")
        if flight.behind:
            self._events.emit("backoff", flight.key.text)
        self._events.warn_once(
            "owner-gone",
            "a call's thread, task or event loop ended without a word: its lease was given back, and others may ask",
        )


async def _claim(key: Key, ask: Ask, store: Store) -> Claim:
    return await store.claim(key, ask)
