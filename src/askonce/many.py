"""Many: the engine for several questions at once, whose answers one call can bring (the inputs of a batch).

Each question has a key and a lease of its own, so that it is found whatever batch it is asked in next. All that are
missing are claimed before anything is waited for: those granted are flown together in one call, and only when it has
landed are the flights of others followed. So nobody waits while he holds a lease that was not flown, and two batches
that overlap in any order cannot wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from askonce import unleased
from askonce.claims import Pursuit
from askonce.core import upstream
from askonce.core.lease import Follow, Lead
from askonce.core.tape import FAILED, Ending
from askonce.errors import StoreUnavailable
from askonce.events import Events
from askonce.flight import Flight, Gone, Mode
from askonce.pilot import Answer, Pilot
from askonce.protocol import MISMATCHES, Engine
from askonce.question import Question
from askonce.reader import Found
from askonce.store import Store, StoreTrouble

Calls = Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]  # an answer for each, in their order


@dataclass(slots=True)
class Quest:
    """One of the questions, on its way to an answer."""

    question: Question
    pursuit: Pursuit
    found: Found | None = None


class Convoy(Pilot):
    """A Pilot of flights that share one call."""

    async def fly_all(self, flown: Sequence[tuple[Flight, Question]], calls: Calls) -> None:
        """`fly` for all: one call, and each flight landed by its own answer."""
        for flight, question in flown:
            self._lead(flight, question)
        first, began = flown[0][1].key.text, time.monotonic()
        self._events.emit("call", first)
        try:
            answers = await calls([question for _, question in flown])
        except Exception as error:  # noqa: BLE001 - as in fly
            self._events.emit("failed", first, type(error).__name__)
            await self._crash(flown, error, type(error).__name__)
        except BaseException as error:
            await self._crash(flown, Gone(error), "gone")
            raise
        else:
            seconds = time.monotonic() - began
            self._events.emit("called", first, seconds=seconds)
            for (flight, question), answer in zip(flown, answers, strict=True):
                flight.land(await self._landed(flight, question, answer, seconds))
        finally:
            for flight, _ in flown:
                self._over(flight)

    async def _crash(self, flown: Sequence[tuple[Flight, Question]], error: Exception, why: str) -> None:
        """Land them all without an answer."""
        failed, hint = bool(upstream.trouble(error)), upstream.hint_of(error)
        for flight, _ in flown:
            await self._return(flight, Ending(FAILED, why), failed=failed, hint=hint)
            flight.land(error=error)


class Many(Engine):
    """An Engine that also takes several questions at once."""

    def __init__(self, store: Store, mode: Mode, events: Events, *, strict: bool = False) -> None:
        super().__init__(store, mode, events, strict=strict)
        self._convoy = Convoy(self._guard, self.board, mode)

    async def ask_many(self, questions: Sequence[Question], calls: Calls) -> list[Found]:
        """The answers to distinct questions of one plan; `calls` is made for those that nobody has, all at once."""
        self._used()
        owner = self.mode.owner()
        since = self.board.tick()
        for question in questions:
            question.since = since
        quests = [Quest(question, Pursuit(owner)) for question in questions]
        try:
            await self._claims.within([quest.pursuit for quest in quests], partial(self._seek, quests, calls))
        except StoreTrouble as trouble:
            await self._all_alone(_missing(quests), calls, trouble.kind)
        return [quest.found for quest in quests if quest.found is not None]

    async def _seek(self, quests: list[Quest], calls: Calls) -> None:
        for quest in quests:
            quest.found = None if quest.question.unreadable else await self._reader.look(quest.question)
        while missing := _missing(quests):
            if missing[0].question.control.only_if_cached:
                raise self._not_cached(missing[0].question)
            restless = [quest for quest in missing if quest.pursuit.mismatches >= MISMATCHES]
            if restless:
                await self._all_alone(restless, calls, "store-restless")
            else:
                await self._turn(missing, calls)

    async def _turn(self, missing: list[Quest], calls: Calls) -> None:
        """Claim them all; fly what was granted; and only then follow the flights of others."""
        led: list[Quest] = []
        late: list[Quest] = []
        followed: list[tuple[Quest, Follow]] = []
        for quest in missing:
            await self._claimed(quest, led, late, followed)
        if late:
            self._refresh_all(late, calls)
        if led:
            await self._lead_all(_flown(led), calls)
        for quest, claim in followed:
            try:
                quest.found = await self._heed(quest.question, _nobody, claim, quest.pursuit)
            except Gone:
                quest.found = None
            if quest.found is None:
                self._go_on(quest.question)

    async def _claimed(
        self,
        quest: Quest,
        led: list[Quest],
        late: list[Quest],
        followed: list[tuple[Quest, Follow]],
    ) -> None:
        """One claim, and the list that its quest belongs to now."""
        question, pursuit = quest.question, quest.pursuit
        await self._claims.drop(pursuit)
        claim = await self._claims.claim(question, pursuit)
        if pursuit.ear is not None:
            pursuit.ear.claimed()
        quest.found = await self._missed(question, claim, pursuit)
        if quest.found is not None:
            await self._claims.drop(pursuit)
            return
        if isinstance(claim, Follow):
            followed.append((quest, claim))
        elif isinstance(claim, Lead):
            if pursuit.silent:
                self.events.emit("takeover", question.key.text)
            led.append(quest)
        else:
            quest.found = await self._serve(question, _nobody, claim._replace(grant=None), pursuit)
            if claim.grant is not None:
                (led if quest.found is None else late).append(quest)

    async def _lead_all(self, flown: Sequence[tuple[Quest, Flight]], calls: Calls) -> None:
        """Fly together; each quest has what its own flight brought."""
        flights = [(flight, quest.question) for quest, flight in flown]
        for flight, _ in flights:
            flight.callers += 1  # ours: who joins one of them and leaves again does not abandon it
        try:
            await self.mode.start([flight for flight, _ in flights], partial(self._convoy.fly_all, flights, calls))
            self._bind([flight for flight, _ in flights])
            for quest, flight in flown:
                try:
                    quest.found = await self._join(quest.question, flight, leader=True)
                except Gone:
                    self._go_on(quest.question)
        finally:
            for flight, question in flights:
                flight.callers -= 1
                if not flight.callers and not flight.done:
                    self._abandoned(question, flight)

    def _bind(self, flights: list[Flight]) -> None:
        """One call is ended by one cancellation: for any of them, when nobody waits for any of them."""
        cancel = flights[0].cancel
        if cancel is None:
            return

        def together() -> None:
            if self.closed or not any(flight.callers for flight in flights):
                cancel()

        for flight in flights:
            flight.cancel = together

    def _refresh_all(self, late: list[Quest], calls: Calls) -> None:
        """Fly where nobody waits, for all whose answers were served stale or early."""
        flights = [(flight, quest.question) for quest, flight in _flown(late)]
        for flight, question in flights:
            flight.callers = 1
            self.events.emit("refresh", question.key.text, "batch")
        led = [flight for flight, _ in flights]
        if dropped := self.mode.behind(led, partial(self._convoy.fly_all, flights, calls)):
            for flight in led:
                self.board.end(flight)
            self.events.emit("dropped", late[0].question.key.text, dropped)

    async def _all_alone(self, quests: list[Quest], calls: Calls, kind: str) -> None:
        """Ask upstream without the store: what nobody in this process asks just now in one call, then join the rest."""
        self._still_open()
        for quest in quests:
            quest.question.detail = kind
        if self._strict:
            raise StoreUnavailable(f"the store did not serve this lookup ({kind}), and the cache is strict", kind)
        while missing := _missing(quests):
            if missing[0].question.control.only_if_cached:
                raise self._not_cached(missing[0].question)
            owner = self.mode.owner()
            pursuits = [Pursuit(owner) for _ in missing]
            await self._claims.within(pursuits, partial(self._share_all, missing, pursuits, calls))

    async def _share_all(self, missing: list[Quest], pursuits: list[Pursuit], calls: Calls) -> None:
        down = self._guard.down
        joined: list[tuple[Quest, Flight]] = []
        mine: list[tuple[Quest, Flight]] = []
        for quest, pursuit in zip(missing, pursuits, strict=True):
            flight, own = unleased.flight_for(quest.question, self.board, pursuit, down=down)
            (mine if own else joined).append((quest, flight))
        if mine:
            await self._lead_all(mine, calls)
        for quest, flight in joined:
            try:
                quest.found = await self._join(quest.question, flight)
            except Gone:
                self._go_on(quest.question)


def _flown(quests: list[Quest]) -> list[tuple[Quest, Flight]]:
    return [(quest, quest.pursuit.flight) for quest in quests if quest.pursuit.flight is not None]


def _missing(quests: list[Quest]) -> list[Quest]:
    return [quest for quest in quests if quest.found is None]


async def _nobody() -> Answer:
    raise AssertionError("a batch leads by itself: no single question of it is flown alone")
