"""Many: the engine for several questions at once, whose answers one call can bring (the inputs of a batch).

Each question has a key and a lease of its own, so that it is found whatever batch it is asked in next. All that are
missing are claimed before anything is waited for: those granted are flown together in one call, and only when it has
landed are the flights of others followed. So nobody waits while he holds a lease that was not flown, and two batches
that overlap in any order cannot wait for each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from askonce.core import upstream
from askonce.core.lease import Claim, Follow, Hit, Lead, Stale
from askonce.core.tape import FAILED, Ending
from askonce.engine import unleased
from askonce.engine.batch_follower import BatchFollower, Followed
from askonce.engine.claims import Pursuit
from askonce.engine.engine import MISMATCHES, Engine
from askonce.engine.leader import Answer, Pilot
from askonce.engine.question import Question
from askonce.engine.reader import Found
from askonce.errors import StoreUnavailable
from askonce.events import Events
from askonce.flight.flight import Flight, Gone, Mode
from askonce.flight.waiters import Signal
from askonce.runtime.exits import EXIT
from askonce.store import Store, StoreTrouble

Calls = Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]  # an answer for each, in their order


@dataclass(slots=True)
class Quest:
    """One of the questions, on its way to an answer."""

    question: Question
    pursuit: Pursuit
    found: Found | None = None


class Batch(NamedTuple):
    """All of them, the call that can answer them, and what wakes whoever waits for the flights of others."""

    quests: list[Quest]
    calls: Calls
    signal: Signal


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
            await self._crash(flown, error, self._failed(first, error))
        except GeneratorExit:
            raise  # as in fly
        except BaseException as error:
            for flight, _ in flown:
                self.lost(flight, "cut-off")
            await self._crash(flown, Gone(error), Ending(FAILED, "gone"))
            raise
        else:
            seconds = time.monotonic() - began
            self._events.emit("called", first, seconds=seconds)
            await self._land_all(flown, answers, seconds)
        finally:
            if not isinstance(sys.exception(), GeneratorExit):
                for flight, _ in flown:
                    self._over(flight)

    async def _land_all(
        self, flown: Sequence[tuple[Flight, Question]], answers: Sequence[Answer], seconds: float
    ) -> None:
        """Store what may be stored, in batches, and land each by what became of it; their leases live meanwhile."""
        landings = [
            self._landing(flight, question, answer, seconds)
            for (flight, question), answer in zip(flown, answers, strict=True)
        ]
        replies = iter(await self._guard.together([landing.work for landing in landings if landing.work is not None]))
        for (flight, _), landing in zip(flown, landings, strict=True):
            flight.land(self._landed_by(flight, landing, None if landing.work is None else next(replies)))

    async def _crash(self, flown: Sequence[tuple[Flight, Question]], error: Exception, ending: Ending) -> None:
        """Land them all without an answer."""
        failed, hint = self._failed_for(flown[0][0], error), upstream.hint_of(error)
        works = [self._release(flight, ending, failed=failed, hint=hint) for flight, _ in flown]
        replies = iter(await self._guard.together([work for work in works if work is not None]))
        for (flight, _), work in zip(flown, works, strict=True):
            if work is not None:
                self._returned(flight, next(replies))
            flight.land(error=error)


class Many(Engine):
    """An Engine that also takes several questions at once."""

    def __init__(self, store: Store, mode: Mode, events: Events, *, strict: bool = False) -> None:
        super().__init__(store, mode, events, strict=strict)
        self._convoy = Convoy(self._guard, self.board, mode)
        self._others = BatchFollower(self._guard, self._reader, mode)

    async def ask_many(self, questions: Sequence[Question], calls: Calls) -> list[Found]:
        """The answers to distinct questions of one plan; `calls` is made for those that nobody has, all at once."""
        over = self.late and self._over()
        owner = self.mode.owner()
        since = self.board.tick()
        for question in questions:
            question.since = since
        quests = [Quest(question, Pursuit(owner)) for question in questions]
        batch = Batch(quests, calls, self.mode.signal())
        try:
            if over:
                raise StoreTrouble(EXIT)
            await self._claims.within([quest.pursuit for quest in quests], partial(self._seek, batch))
        except StoreTrouble as trouble:
            await self._all_alone(_missing(quests), calls, trouble.kind)
        return [quest.found for quest in quests if quest.found is not None]

    async def _seek(self, batch: Batch) -> None:
        readable = [quest for quest in batch.quests if not quest.question.unreadable]
        found = await self._reader.look_all([quest.question for quest in readable])
        for quest, one in zip(readable, found, strict=True):
            quest.found = one
        while missing := _missing(batch.quests):
            if missing[0].question.control.only_if_cached:
                raise self._not_cached(missing[0].question)
            restless = [quest for quest in missing if quest.pursuit.mismatches >= MISMATCHES]
            if restless:
                await self._all_alone(restless, batch.calls, "store-restless")
            else:
                await self._turn(missing, batch)

    async def _turn(self, missing: list[Quest], batch: Batch) -> None:
        """Claim them all; fly what was granted; and only then follow the flights of others."""
        claims = await self._claim_all(missing)
        led: list[Quest] = []
        late: list[Quest] = []
        followed: list[tuple[Quest, Follow]] = []
        for quest, claim in zip(missing, claims, strict=True):
            if quest.found is None:
                await self._sort(quest, claim, led, late, followed)
        if late:
            self._refresh_all(late, batch.calls)
        if led:
            await self._lead_all(_flown(led), batch.calls)
        await self._follow_all(followed, batch)
        for quest, _ in followed:
            if quest.found is None:
                self._go_on(quest.question)

    async def _claim_all(self, missing: list[Quest]) -> list[Claim]:
        """A claim for each; those whose followed flight ended unheard and unstored have what it brought."""
        for quest in missing:
            await self._claims.drop(quest.pursuit)
        claims = await self._claims.claim_all([(quest.question, quest.pursuit) for quest in missing])
        for quest in missing:
            if quest.pursuit.ear is not None:
                quest.pursuit.ear.claimed()
        unheard = []
        for quest, claim in zip(missing, claims, strict=True):
            told, quest.pursuit.told = quest.pursuit.told, None
            if told is not None and self._may_be_taped(claim, told):
                unheard.append((quest, told))
        taped = await self._others.taped_all([(quest.question, told) for quest, told in unheard])
        for (quest, _), found in zip(unheard, taped, strict=True):
            quest.found = found
            if found is not None:
                await self._claims.drop(quest.pursuit)
        await self._read_all([pair for pair in zip(missing, claims, strict=True) if pair[0].found is None])
        return claims

    async def _read_all(self, claimed: Sequence[tuple[Quest, Claim]]) -> None:
        """Read the entries that claims approved and that are not at hand."""
        wanted = []
        for quest, claim in claimed:
            held = quest.question.held
            if isinstance(claim, Hit | Stale) and (held is None or (held.fill, held.order) != claim[:2]):
                wanted.append(quest.question)
        for question, (data, head) in zip(wanted, await self._reader.entries(wanted), strict=True):
            if data is not None and head is not None:
                question.data, question.held = data, head

    async def _sort(
        self, quest: Quest, claim: Claim, led: list[Quest], late: list[Quest], followed: list[tuple[Quest, Follow]]
    ) -> None:
        """One claim, and the list that its quest belongs to now."""
        question, pursuit = quest.question, quest.pursuit
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

    async def _follow_all(self, followed: Sequence[tuple[Quest, Follow]], batch: Batch) -> None:
        """Join the flights of this process, and wait for those of others: for a first time to hear of them."""
        elsewhere: list[tuple[Quest, Followed]] = []
        for quest, claim in followed:
            local = self.board.named(claim.id, claim.order)
            if local is None:
                elsewhere.append((quest, self._told(quest, claim)))
            else:
                await self._join_local(quest, local)
        new = [one for _, one in elsewhere if one.pursuit.ear is None]
        if new:
            # Subscribed first, then claimed again: what was said in between is not missed.
            await self._others.listen_all(new, batch.signal)
            self._claims.ears.update(one.pursuit.ear for one in new if one.pursuit.ear is not None)
        elif elsewhere:
            found = await self._others.follow_all([one for _, one in elsewhere], batch.signal)
            for (quest, _), brought in zip(elsewhere, found, strict=True):
                quest.found = brought

    @staticmethod
    def _told(quest: Quest, claim: Follow) -> Followed:
        pursuit = quest.pursuit
        if pursuit.ear is not None:
            pursuit.ear.follows = None
        pursuit.told = claim
        pursuit.after = max(pursuit.after, claim.order)
        return Followed(quest.question, pursuit, claim)

    async def _join_local(self, quest: Quest, local: Flight) -> None:
        if not local.alive():
            await self._claims.bury(local)
            return
        try:
            quest.found = await self._join(quest.question, local)
        except Gone:
            quest.found = None

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
            flight.callers, flight.behind = 1, True
            self.events.emit("refresh", question.key.text, "batch")
        led = [flight for flight, _ in flights]
        if dropped := self.mode.behind(led, partial(self._convoy.fly_all, flights, calls)):
            self._unflown(led, dropped)

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
