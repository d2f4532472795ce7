"""Look up, lead, follow, fill: the protocol for one question, written once for sync and async.

A lookup first reads the entry. If it cannot be served from that, it claims the key, and the claim decides: serve,
serve stale, lead, or follow. A leader makes the upstream call under its lease, stores the answer and gives it to the
callers that joined. A follower in the leader's process joins the flight; in any other process, the store wakes it.

Nothing here sleeps, locks, or knows which mode it runs in: a Signal waits, a Mode runs.
Store trouble never reaches the caller: the question is asked upstream without the store, once for this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from askonce.core.codec import PLAIN, Codec
from askonce.core.lease import NEVER, Claim, Follow, Hit, Lead, Stale
from askonce.engine import unleased
from askonce.engine.accounting import HIT, PUSHING, Accounting
from askonce.engine.claims import Attempt, Claims
from askonce.engine.closing import Closing
from askonce.engine.follower import Follower
from askonce.engine.joining import Joining
from askonce.engine.leader import Call, Leader
from askonce.engine.question import Question
from askonce.engine.reader import UNREADABLE, AtHand, Found, Reader, Unreadable
from askonce.engine.stream_readers import StreamReaders
from askonce.errors import CacheClosed, NotCached, StoreUnavailable
from askonce.events import Events, Status
from askonce.flight.flight import Flight, NoResult, WaitTimedOut
from askonce.flight.guarded_store import GuardedStore
from askonce.flight.pricing import UNPRICED, Pricer
from askonce.runtime.exits import EXIT, ending
from askonce.runtime.mode import Mode
from askonce.store import Store, StoreTrouble
from askonce.stream.tape import Playback, Tape

if TYPE_CHECKING:
    from askonce.engine.explaining import Explainer

T = TypeVar("T")

PRICING = 3.0  # s that the prices of what was counted are waited for, if they are being loaded
SAMPLED = 15  # one hit in 16 is timed: their numbers end in so many bits that are 0
MISMATCHES = 3  # entries that were replaced after the claim, before the question is asked without the store


class Engine(Joining):
    """The protocol for one store, in one mode."""

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
        self.store = store
        self.codec = codec
        self.mode = mode
        self.events = events
        self.closed = False
        self.ending_begun = ending()  # closed, or Python ends: each lookup checks whether it may use the store
        self.pace = 0.0
        self._strict = strict
        self._guarded = GuardedStore(store, events, codec, pricer)
        self.accounting = Accounting(self._guarded)
        self.background = self._guarded.background
        self._claims = Claims(self._guarded, mode)
        self.board = self._claims.board
        self._leader = Leader(self._guarded, self.board, mode)
        self._reader = Reader(self._guarded)
        self._follower = Follower(self._guarded, self._reader, mode)
        self._stream_readers = StreamReaders(self._guarded, mode)
        self.noting = self._leader.noting
        self._explainer: Explainer | None = None
        self._closing = Closing(self._guarded, self._claims, self._leader, mode)

    @property
    def explainer(self) -> Explainer:
        """What explains lookups."""
        if self._explainer is None:
            from askonce.engine.explaining import Explainer  # late: it is for people, and never on the way of a lookup

            self._explainer = Explainer(self._guarded, self.board, self.mode)
        return self._explainer

    # lookups

    async def passed(self, question: Question, reason: str, call: Callable[[], Awaitable[object]]) -> Found:
        """Call upstream without the cache: no lookup, no collapsing, no storing."""
        if self.ending_begun:
            self._over()
        if question.control.only_if_cached and reason != "off":
            question.detail = reason
            raise self._not_cached(question)
        self.bypassed(reason)
        status = Status(question.key.text, fwd="bypass", detail=reason)
        self.events.lookup(status, question)
        return Found(status, None, await call())

    def bypassed(self, reason: str) -> None:
        """A request goes upstream without a lookup. With mode off, nothing is written anywhere."""
        if reason != "off":
            self.accounting.passed(reason)

    async def ask(self, question: Question, call: Call) -> Found:
        """Return the answer to a question. All callers that ask at the same time pay for at most one call."""
        if self.events.observed and not question.began:
            question.began = time.perf_counter()
            if self.events.surroundings:
                return await self.events.surrounded(question, self.ask, question, call)
        if self.ending_begun and self._over():
            return await self._without_store(question, call, EXIT)
        question.since = since = self.board.next_number()
        began = time.perf_counter() if not since & SAMPLED else 0.0
        try:
            found = await self._reader.look(question)
            if found is None and question.others:
                found = await self._reader.from_other_form(question)
            found = found or await self._contend(question, call)
        except StoreTrouble as trouble:
            found = await self._without_store(question, call, trouble.kind)
        if began and found.status.hit:
            self.accounting.took(HIT, time.perf_counter() - began)
        if question.key.form == "s" and found.body is not None:
            try:
                return self._played(found)
            except Unreadable:
                return await self.reread(question, call, self._played)
        return found

    @property
    def holds_answers(self) -> bool:
        """Whether `at_hand` may ever return an answer."""
        return self.store.near is not None or self.store.kind != "redis"

    def at_hand(self, question: Question, read: Callable[[AtHand], T | None]) -> tuple[Found, T] | None:
        """A stored answer that can be served without waiting, and what `read` makes of it. None: nothing is counted.

        For a question that nothing was read for yet. `read` returns None for what its caller cannot use.
        """
        if self.ending_begun or self.events.surroundings or question.unverified:
            return None
        if self.events.observed:
            question.began = time.perf_counter()
        began = time.perf_counter() if not self.board.next_number() & SAMPLED else 0.0
        kept = self._reader.at_hand(question)
        made = None if kept is None else read(kept)
        if kept is None or made is None:
            return None
        found = self._reader.serve(question, kept)
        if began:
            self.accounting.took(HIT, time.perf_counter() - began)
        return found, made

    def _played(self, found: Found) -> Found:
        """Give a stored or shared stream as a place on a tape; leave every other answer as it is."""
        if found.body is None:
            return found
        if found.entry is not None and found.head is not None and found.head.length > len(found.entry):
            raise Unreadable  # an empty stream is valid, but not one that misses its end
        try:
            playback = Playback(Tape.recorded(found.body), self.mode)
        except ValueError as wrong:
            raise Unreadable from wrong
        playback.pace = self.pace
        return found._replace(body=None, value=playback)

    async def reread(self, question: Question, call: Call, read: Callable[[Found], T]) -> T:
        """Ask again, because `read` cannot read what `ask` returned: a visible miss, and the new answer is stored."""
        question = self.unread(question)
        try:
            found = await self._contend(question, call)
        except StoreTrouble as trouble:
            found = await self._without_store(question, call, trouble.kind)
        try:
            return read(self._played(found) if question.key.form == "s" else found)
        except Unreadable:  # another writer stores an unreadable entry each time
            found = await self._without_store(question, call, UNREADABLE)
            return read(self._played(found) if question.key.form == "s" else found)

    def unread(self, question: Question) -> Question:
        """The question of a caller that could not read the stored answer."""
        self.accounting.unserved(question)
        self._reader.unread(question)
        return replace(question, data=b"", held=None, unreadable=True)

    def _over(self) -> bool:
        """Whether the store must not be used because Python ends. CacheClosed if only the cache was closed.

        While modules are torn down, a lookup by a destructor must not wait for a thread, nor for what a thread held.
        """
        if self.closed and not ending():
            raise CacheClosed("this cache was closed: make a new one")
        return self.closed or sys.is_finalizing()

    # claims

    async def _contend(self, question: Question, call: Call) -> Found:
        """Claim until there is an answer. Each turn serves, leads, or follows and claims again."""
        if question.control.only_if_cached:
            # A claim does not judge an entry whose own tags were unknown to the first read: read it again with them.
            found = await self._reader.look(question) if self._reader.remembers(question.key) else None
            if found is None:
                raise self._not_cached(question)
            return found
        attempt = self._claims.attempt()
        found = await self._claims.within([attempt], partial(self._attempt, question, call, attempt))
        return found or await self._without_store(question, call, "store-unsettled")

    async def _attempt(self, question: Question, call: Call, attempt: Attempt) -> Found | None:
        """Claim until there is an answer. None if the entry was replaced too often meanwhile."""
        while attempt.mismatches < MISMATCHES:
            claim = await self._claims.claim(question, attempt)
            if attempt.waiter is not None:
                attempt.waiter.claimed()
            try:
                found = await self._unnoticed_answer(question, claim, attempt)
                found = found or await self._act_on(question, call, claim, attempt)
            except NoResult:
                found = None
            if found is not None:
                return found
            await self._claims.drop(attempt)
            self._go_on(question)
        return None

    async def _act_on(self, question: Question, call: Call, claim: Claim, attempt: Attempt) -> Found | None:
        """Act on a claim. None: claim again."""
        if attempt.waiter is not None:
            attempt.waiter.follows = None
        if isinstance(claim, Lead):
            if attempt.silent and attempt.flight is not None:
                self.events.emit("takeover", question.key.text)
                attempt.flight.takeover = True
            return await self._lead(question, call, attempt)
        if not isinstance(claim, Follow):
            return await self._serve(question, call, claim, attempt)
        if (local := self._claims.running(claim, question)) is not None:
            return await self._join(question, local)
        if question.unverified:
            return await self._share(question, call, attempt)
        if await self._claims.over(question, claim, attempt):
            return None
        return await self._wait(question, claim, attempt)

    async def _wait(self, question: Question, claim: Follow, attempt: Attempt) -> Found | None:
        """Wait for a flight of another process. None: claim again."""
        attempt.named = claim
        attempt.after = max(attempt.after, claim.order)
        if attempt.waiter is None:
            # Subscribe first, then claim again: otherwise a notice sent in between would be missed.
            attempt.waiter = self._follower.listen(question, claim, attempt.owner)
            self._claims.waiters.add(attempt.waiter)
            await self._follower.in_force(attempt.waiter)
            return None
        if question.key.form == "s":
            got = await self._read_remotely(question, attempt, claim)
        else:
            got = await self._follower.follow(question, attempt.waiter, claim)
        if isinstance(got, Found):
            return got
        attempt.silent = got == NEVER
        return None

    async def _unnoticed_answer(self, question: Question, claim: Claim, attempt: Attempt) -> Found | None:
        """The answer of the followed flight, if the store no longer names it and it ended unnoticed and unstored."""
        named, attempt.named = attempt.named, None
        if named is None or not self._may_be_taped(claim, named):
            return None
        return await self._follower.taped(question, named)  # a lease granted with this claim is given back at the end

    @staticmethod
    def _may_be_taped(claim: Claim, named: Follow) -> bool:
        """Whether the flight named before may have ended without becoming an entry."""
        return claim[:2] != named[:2] if isinstance(claim, Follow) else not isinstance(claim, Hit)

    async def _serve(self, question: Question, call: Call, claim: Hit | Stale, attempt: Attempt) -> Found | None:
        """Return the entry that was approved, if it can be read. Refresh it if the claim also granted the lease."""
        data: bytes | None = question.data
        head = question.held
        if head is None or (head.fill, head.order) != (claim.fill, claim.order):
            data, head = await self._reader.entry(question)
        if data is None or head is None or (head.fill, head.order) != (claim.fill, claim.order):
            # The entry at hand is not the one that was judged. A caller with the lease leads and does not need it.
            attempt.mismatches += 1
            if data is not None and head is None:
                attempt.unreadable, attempt.after = True, 0  # also the answer it waited for: it must be replaced
            return await self._lead(question, call, attempt) if claim.grant else None
        detail = "stale" if isinstance(claim, Stale) else ""
        if claim.grant:
            self._refresh(question, call, attempt, detail or "early")
        fwd = "miss" if 0 < attempt.after <= claim.order else ""  # it waited for that flight, or for an earlier one
        return self._reader.hit(question, data, head, claim.now, detail, fwd=fwd)

    async def _lead(self, question: Question, call: Call, attempt: Attempt) -> Found:
        flight = attempt.flight
        assert flight is not None
        return await self._led(question, flight, partial(self._leader.run, flight, question, call))

    def _refresh(self, question: Question, call: Call, attempt: Attempt, why: str) -> None:
        """Make the call in the background; no caller waits for it."""
        flight = attempt.flight
        assert flight is not None
        flight.callers, flight.is_refresh = 1, True  # nobody's, and it stays: who joins and leaves does not abandon it
        self.events.emit("refresh", question.key.text, why)
        if dropped := self.mode.run_in_background([flight], partial(self._leader.run, flight, question, call)):
            self._not_begun([flight], dropped)

    def _not_begun(self, flights: Sequence[Flight], why: str) -> None:
        """End refreshes that did not begin. No backoff is set: another process may have room for them."""
        for flight in flights:
            flight.is_refresh = False
            self.board.end(flight)
        self.events.emit("dropped", flights[0].key.text, why)

    def _not_cached(self, question: Question) -> NotCached:
        status = Status(question.key.text, fwd="miss", detail=question.detail or "only-if-cached")
        self.events.lookup(status, question)
        self.accounting.unanswered(question)
        return NotCached(key=question.key.text, detail=status.detail)

    def _go_on(self, question: Question) -> None:
        """Raise if a caller that has to claim again may not: WaitTimedOut, or CacheClosed."""
        self._still_open()
        if question.until <= time.monotonic():
            self.events.lookup(Status(question.key.text, fwd="miss", collapsed=True, detail="wait-timeout"), question)
            self.accounting.unanswered(question)
            raise WaitTimedOut

    def _still_open(self) -> None:
        if self.closed and not ending():
            raise CacheClosed("this cache was closed while the call was waiting")

    # streams of other processes

    async def _read_remotely(self, question: Question, attempt: Attempt, claim: Follow) -> Found | int:
        """Follow another process's stream from its first byte. An answer that is not a stream is returned as it is."""
        assert attempt.waiter is not None
        got = await self._follower.read_remotely(question, attempt.waiter, claim, partial(self._claims.asked, question))
        if isinstance(got, Playback):
            attempt.waiter.owner = None  # belongs to the reader now, which closes it when it leaves
            attempt.waiter = None
            status = self._arrival(question, stored=False, leader=False, detail=question.detail)
            return Found(status, None, got)
        return got

    # without the store

    async def _without_store(self, question: Question, call: Call, kind: str) -> Found:
        """Ask upstream without the store, once for all callers of this process that ask the same meanwhile."""
        self._still_open()
        question.detail = kind
        if self._strict:
            self.accounting.unanswered(question)
            raise StoreUnavailable(f"the store failed at this lookup ({kind}), and the cache is strict", kind)
        if question.control.only_if_cached:
            raise self._not_cached(question)
        while True:
            attempt = self._claims.attempt()
            try:
                return await self._claims.within([attempt], partial(self._share, question, call, attempt))
            except NoResult:
                self._go_on(question)

    async def _share(self, question: Question, call: Call, attempt: Attempt) -> Found:
        flight, mine = unleased.flight_for(question, self.board, attempt, down=self._guarded.down(question.key))
        if mine:
            return await self._led(question, flight, partial(self._leader.run, flight, question, call))
        return await self._join(question, flight)

    async def pushed(self, sending: float = PRICING) -> None:
        """Push what this process has counted and not pushed yet. A push is waited for so many s, or until it fails."""
        await self.accounting.push(self.mode.signal(), time.monotonic() + PRICING, sending)

    # ending

    async def finish(self, limit: float) -> list[str]:
        """Wait for the flights under way, at most `limit` s. Return the keys of those that were dropped."""
        dropped = await self._closing.wait(limit)
        self.closed = self.ending_begun = True
        if limit:  # else the background thread pushes what it can when it ends
            await self.pushed(PUSHING)
        await self._closing.let_go()
        return dropped

    def last(self, until: float) -> None:
        """The interpreter ends: flights without a caller have until `until` (monotonic s). Lookups may still come."""
        self._closing.last(until)
        self.ending_begun = True
