"""The engine for several questions that one call can answer: the inputs of a batch.

Each question has its own key and its own lease, so a later batch finds it whatever else that batch asks. All missing
questions are claimed before anything is waited for. Those that were granted share one call; the flights of other
callers are followed only after that call has landed. So no batch waits while it holds a lease whose call has not
begun, and two batches that overlap in any order cannot wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from askonce.core.codec import PLAIN, Codec
from askonce.core.lease import Claim, Follow, Hit, Lead, Stale
from askonce.core.model import Corrupt
from askonce.core.providers.named_tuples import NamedTuple
from askonce.engine import unleased
from askonce.engine.answer import Answer
from askonce.engine.batch_follower import BatchFollower, Followed
from askonce.engine.batch_leader import BatchLeader, Calls
from askonce.engine.claims import Attempt
from askonce.engine.engine import MISMATCHES, Engine
from askonce.engine.question import Part, Question
from askonce.engine.reader import Found, duration
from askonce.errors import StoreUnavailable
from askonce.events import Events
from askonce.flight.flight import Flight, NoResult
from askonce.flight.pricing import UNPRICED, Pricer
from askonce.runtime.exits import EXIT
from askonce.runtime.mode import Mode, Signal
from askonce.store import Store, StoreTrouble


@dataclass(slots=True, eq=False, repr=False)
class BatchItem:
    """One question of a batch, and its answer when there is one."""

    question: Question
    attempt: Attempt
    found: Found | None = None


class Batch(NamedTuple):
    """All items, the call that can answer them, and the signal that wakes the batch when another flight ends."""

    items: list[BatchItem]
    calls: Calls
    signal: Signal


class BatchEngine(Engine):
    """An Engine that also answers several questions at once."""

    def __init__(
        self,
        store: Store,
        mode: Mode,
        events: Events,
        *,
        strict: bool = False,
        codec: Codec = PLAIN,
        pricer: Pricer = UNPRICED,
    ) -> None:
        super().__init__(store, mode, events, strict=strict, codec=codec, pricer=pricer)
        self._batch_leader = BatchLeader(self._guarded, self.board, mode)
        self._others = BatchFollower(self._guarded, self._reader, mode)

    async def ask_many(self, questions: Sequence[Question], calls: Calls) -> list[Found]:
        """Return the answers to distinct questions of one plan. One call of `calls` answers all that have none."""
        if self.events.observed and not questions[0].began:
            began = time.perf_counter()
            for question in questions:
                question.began = began
            if self.events.surroundings:
                return await self.events.surrounded(questions[0], self.ask_many, questions, calls)
        over = self.ending_begun and self._over()
        owner = self.mode.owner()
        since = self.board.next_number()
        part = questions[0].part or Part()  # the same, if the rest of a batch is asked again
        for question in questions:
            question.since, question.part = since, part
        items = [BatchItem(question, Attempt(owner)) for question in questions]
        batch = Batch(items, calls, self.mode.signal())
        try:
            if over:
                raise StoreTrouble(EXIT)
            await self._claims.within([item.attempt for item in items], partial(self._resolve, batch))
        except StoreTrouble as trouble:
            await self._all_without_store(_missing(items), calls, trouble.kind)
        found = [item.found for item in items if item.found is not None]
        if not part.counted:
            self._count(questions[0], found)
        return found

    def _count(self, question: Question, found: Sequence[Found]) -> None:
        """Count the call that a batch without a call of its own would have made."""
        kinds = {"joined" if one.status.collapsed else "stale" if one.status.fwd else "hits" for one in found}
        kind = next((kind for kind in ("stale", "joined") if kind in kinds), "hits")
        one = found[0]
        try:
            ms = 0 if one.entry is None or one.head is None else duration(one.entry, one.head)
        except Corrupt:  # whoever reads it finds that, and asks again
            return
        self.accounting.batch(question, kind, ms)

    async def _resolve(self, batch: Batch) -> None:
        readable = [item for item in batch.items if not item.question.unreadable]
        found = await self._reader.look_all([item.question for item in readable])
        for item, one in zip(readable, found, strict=True):
            item.found = one
        while missing := _missing(batch.items):
            if missing[0].question.control.only_if_cached:
                raise self._not_cached(missing[0].question)
            unsettled = [item for item in missing if item.attempt.mismatches >= MISMATCHES]
            if unsettled:
                await self._all_without_store(unsettled, batch.calls, "store-unsettled")
            else:
                await self._turn(missing, batch)

    async def _turn(self, missing: list[BatchItem], batch: Batch) -> None:
        """Claim every missing item, call for those that were granted, and only then follow other flights."""
        claims = await self._claim_all(missing)
        led: list[BatchItem] = []
        to_refresh: list[BatchItem] = []
        followed: list[tuple[BatchItem, Follow]] = []
        for item, claim in zip(missing, claims, strict=True):
            if item.found is None:
                await self._assign(item, claim, led, to_refresh, followed)
        if to_refresh:
            self._refresh_all(to_refresh, batch.calls)
        if led:
            await self._lead_all(_with_flights(led), batch.calls)
        if followed and followed[0][0].question.unverified:
            followed = await self._ask_alone(followed, batch.calls)
        await self._follow_all(followed, batch)
        for item, _ in followed:
            if item.found is None:
                self._go_on(item.question)

    async def _ask_alone(
        self, followed: list[tuple[BatchItem, Follow]], calls: Calls
    ) -> list[tuple[BatchItem, Follow]]:
        """Ask upstream for what other credentials are asking, and return the rest, which this credential asks too."""
        mine = [(item, claim) for item, claim in followed if self._claims.running(claim, item.question) is not None]
        others = [item for item, claim in followed if self._claims.running(claim, item.question) is None]
        if others:
            await self._all_without_store(others, calls, others[0].question.detail)
        return mine

    async def _claim_all(self, missing: list[BatchItem]) -> list[Claim]:
        """Return a claim for each item. An item whose followed flight ended unnoticed and unstored gets its answer."""
        for item in missing:
            await self._claims.drop(item.attempt)
        claims = await self._claims.claim_all([(item.question, item.attempt) for item in missing])
        for item in missing:
            if item.attempt.waiter is not None:
                item.attempt.waiter.claimed()
        unnoticed = []
        for item, claim in zip(missing, claims, strict=True):
            named, item.attempt.named = item.attempt.named, None
            if named is not None and self._may_be_taped(claim, named):
                unnoticed.append((item, named))
        taped = await self._others.taped_all([(item.question, named) for item, named in unnoticed])
        for (item, _), found in zip(unnoticed, taped, strict=True):
            item.found = found
            if found is not None:
                await self._claims.drop(item.attempt)
        await self._read_all([pair for pair in zip(missing, claims, strict=True) if pair[0].found is None])
        return claims

    async def _read_all(self, claimed: Sequence[tuple[BatchItem, Claim]]) -> None:
        """Read the entries that the claims approved, except those that were read before."""
        wanted = []
        for item, claim in claimed:
            held = item.question.held
            if isinstance(claim, Hit | Stale) and (held is None or (held.fill, held.order) != claim[:2]):
                wanted.append(item.question)
        for question, (data, head) in zip(wanted, await self._reader.entries(wanted), strict=True):
            if data is not None and head is not None:
                question.data, question.held = data, head

    async def _assign(
        self,
        item: BatchItem,
        claim: Claim,
        led: list[BatchItem],
        to_refresh: list[BatchItem],
        followed: list[tuple[BatchItem, Follow]],
    ) -> None:
        """Act on one claim, and put its item on the list it belongs to."""
        question, attempt = item.question, item.attempt
        if isinstance(claim, Follow):
            followed.append((item, claim))
        elif isinstance(claim, Lead):
            if attempt.silent and attempt.flight is not None:
                self.events.emit("takeover", question.key.text)
                attempt.flight.takeover = True
            led.append(item)
        else:
            item.found = await self._serve(question, _nobody, claim._replace(grant=None), attempt)
            if claim.grant is not None:
                (led if item.found is None else to_refresh).append(item)

    async def _follow_all(self, followed: Sequence[tuple[BatchItem, Follow]], batch: Batch) -> None:
        """Join the flights of this process and wait for other processes' flights; a new waiter only subscribes."""
        elsewhere: list[tuple[BatchItem, Followed]] = []
        for item, claim in followed:
            if (local := self._claims.running(claim, item.question)) is not None:
                await self._join_local(item, local)
            elif not await self._claims.over(item.question, claim, item.attempt):
                elsewhere.append((item, self._followed(item, claim)))
        new = [one for _, one in elsewhere if one.attempt.waiter is None]
        if new:
            # Subscribe first, then claim again: otherwise a notice sent in between would be missed.
            await self._others.listen_all(new, batch.signal)
            self._claims.waiters.update(one.attempt.waiter for one in new if one.attempt.waiter is not None)
        elif elsewhere:
            found = await self._others.follow_all([one for _, one in elsewhere], batch.signal)
            for (item, _), brought in zip(elsewhere, found, strict=True):
                item.found = brought

    @staticmethod
    def _followed(item: BatchItem, claim: Follow) -> Followed:
        attempt = item.attempt
        if attempt.waiter is not None:
            attempt.waiter.follows = None
        attempt.named = claim
        attempt.after = max(attempt.after, claim.order)
        return Followed(item.question, attempt, claim)

    async def _join_local(self, item: BatchItem, local: Flight) -> None:
        try:
            item.found = await self._join(item.question, local)
        except NoResult:
            item.found = None

    async def _lead_all(self, group: Sequence[tuple[BatchItem, Flight]], calls: Calls) -> None:
        """Make one call for all items; each item gets the answer that its own flight landed."""
        flights = [(flight, item.question) for item, flight in group]
        for flight, _ in flights:
            flight.callers += 1  # this batch, as their leader
        later = dict(flights)
        try:
            await self.mode.start(list(later), partial(self._batch_leader.run_all, flights, calls))
            self._bind(list(later))
            for item, flight in group:
                del later[flight]
                try:
                    item.found = await self._join(item.question, flight, leader=True)
                except NoResult:
                    self._go_on(item.question)
        finally:
            for flight, question in later.items():
                flight.callers -= 1
                if not flight.callers and not flight.done:
                    self._abandoned(question, flight)

    def _bind(self, flights: list[Flight]) -> None:
        """Make every flight cancel the shared call, but only when no caller waits for any of them."""
        cancel = flights[0].cancel
        if cancel is None:
            return

        cancelled: list[bool] = []  # once for all: who comes and leaves after it takes nothing back

        def together(unless: Callable[[], bool] | None = None) -> None:
            off = self.closed or not any(flight.callers or flight.wanted_elsewhere for flight in flights)
            for flight in flights:
                flight.call_off(off or bool(cancelled))
            if off:
                cancelled.append(True)
                cancel(unless)

        for flight in flights:
            flight.cancel = together

    def _refresh_all(self, to_refresh: list[BatchItem], calls: Calls) -> None:
        """Make one call in the background for all items whose answers were served stale or early."""
        flights = [(flight, item.question) for item, flight in _with_flights(to_refresh)]
        for flight, question in flights:
            flight.callers, flight.is_refresh = 1, True
            self.events.emit("refresh", question.key.text, "batch")
        led = [flight for flight, _ in flights]
        if dropped := self.mode.run_in_background(led, partial(self._batch_leader.run_all, flights, calls)):
            self._not_begun(led, dropped)

    async def _all_without_store(self, items: list[BatchItem], calls: Calls, kind: str) -> None:
        """Ask upstream without the store: one call for what this process does not ask yet; then join the rest."""
        self._still_open()
        for item in items:
            item.question.detail = kind
        if self._strict:
            self.accounting.unanswered(items[0].question)
            raise StoreUnavailable(f"the store failed at this lookup ({kind}), and the cache is strict", kind)
        while missing := _missing(items):
            if missing[0].question.control.only_if_cached:
                raise self._not_cached(missing[0].question)
            owner = self.mode.owner()
            attempts = [Attempt(owner) for _ in missing]
            await self._claims.within(attempts, partial(self._share_all, missing, attempts, calls))

    async def _share_all(self, missing: list[BatchItem], attempts: list[Attempt], calls: Calls) -> None:
        joined: list[tuple[BatchItem, Flight]] = []
        mine: list[tuple[BatchItem, Flight]] = []
        for item, attempt in zip(missing, attempts, strict=True):
            flight, own = unleased.flight_for(
                item.question, self.board, attempt, down=self._guarded.down(item.question.key)
            )
            (mine if own else joined).append((item, flight))
        if mine:
            await self._lead_all(mine, calls)
        for item, flight in joined:
            try:
                item.found = await self._join(item.question, flight)
            except NoResult:
                self._go_on(item.question)


def _with_flights(items: list[BatchItem]) -> list[tuple[BatchItem, Flight]]:
    return [(item, item.attempt.flight) for item in items if item.attempt.flight is not None]


def _missing(items: list[BatchItem]) -> list[BatchItem]:
    return [item for item in items if item.found is None]


async def _nobody() -> Answer:
    raise AssertionError("a batch leads by itself: no single question of it is asked alone")
