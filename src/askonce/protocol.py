"""Look up, lead, follow, fill: the protocol over one question, written once for sync and async.

A lookup reads the entry plainly. What cannot be served by that is claimed, and the claim decides: serve, serve stale,
lead, or follow. A leader flies the upstream call under its lease and lands it in the store and among those who joined.
A follower in the leader's process joins the flight; in any other, it is woken by the store.

Nothing here sleeps, locks, or knows which of the two modes it runs in: waiting is a Signal's, running is a Mode's.
Trouble in the store never reaches the caller: the question is then asked upstream without it, once for this process.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from askonce.core import upstream
from askonce.core.keys import Key
from askonce.core.lease import (
    NEVER,
    Ask,
    Claim,
    Follow,
    Grant,
    Hit,
    Lead,
    Limits,
    Stale,
    fresh_for,
    valid,
    windows,
    within_age,
)
from askonce.core.model import (
    DURATION,
    FIELDS,
    Corrupt,
    Head,
    Lifetime,
    Snapshot,
    entry_body,
    entry_fields,
    pack_fields,
    read_entry,
    seal,
    unpack_extensions,
)
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, Ending, read_ending
from askonce.errors import CacheClosed, NotCached, StoreUnavailable
from askonce.events import Events, Status
from askonce.fleet import HEARTBEAT, Beat, Ear, Fleet
from askonce.flight import Board, Flight, Gone, Mode
from askonce.question import Question
from askonce.store import TIMEOUT, Held, Look, Store, StoreTrouble

T = TypeVar("T")
REMEMBERED = 20_000  # keys whose entries carry tags that their readers do not name
GRACE = 0.05  # s beyond a follower's wait, so that he does not look a moment before the deadline he was told


class Answer(NamedTuple):
    """What an upstream call brought. `refusal` says why it may not be stored; `body` None: it has no exact bytes."""

    body: bytes | None
    value: object = None
    refusal: str = ""
    extensions: Mapping[int, bytes] = {}


Call = Callable[[], Awaitable[Answer]]


class Found(NamedTuple):
    """What a lookup gives back: a body to decode, or (body None) the very value; `entry` when the store had it."""

    status: Status
    body: bytes | memoryview | None
    value: object = None
    entry: bytes | None = None
    head: Head | None = None


class Landed(NamedTuple):
    """How a flight ended for those who joined it."""

    answer: Answer
    stored: bool
    detail: str


class Engine:
    """The protocol over one store, in one mode."""

    def __init__(self, store: Store, fleet: Fleet, mode: Mode, events: Events, *, strict: bool = False) -> None:
        self.store = store
        self.fleet = fleet
        self.mode = mode
        self.events = events
        self.board = Board()
        self.closed = False
        self._strict = strict
        self._remembered: dict[Key, tuple[int, ...]] = {}
        fleet.on_back.append(self.back)

    # lookups

    async def passed(self, question: Question, reason: str, call: Callable[[], Awaitable[object]]) -> Found:
        """Call upstream as if there were no cache: not looked up, not collapsed, not stored."""
        status = Status(question.key.text, fwd="bypass", detail=reason)
        self.events.lookup(status)
        return Found(status, None, await call())

    async def ask(self, question: Question, call: Call) -> Found:
        """The answer to a question, paid for at most once by whoever asks it at this time."""
        if self.closed:
            raise CacheClosed("this cache was closed: make a new one")
        try:
            found = await self._look(question)
            return found or await self._contend(question, call)
        except StoreTrouble as trouble:
            return await self._alone(question, call, trouble.kind)

    async def _look(self, question: Question) -> Found | None:
        """The hit path: plain reads, no decision by the store."""
        key = question.key
        fields = question.fields
        if self._remembered and key in self._remembered:
            fields = tuple({*fields, *self._remembered[key]})
        breaker = self.fleet.breaker
        if breaker.open:
            raise StoreTrouble(breaker.kind)
        try:
            look = await self.store.look(key, fields)
        except StoreTrouble as trouble:
            self._trouble(trouble)
            raise
        breaker.worked()
        return self._served(question, look, fields)

    def _served(self, question: Question, look: Look, fields: tuple[int, ...]) -> Found | None:
        if look.entry is None:
            return None
        head = self._read(question, look.entry)
        if head is None or not self._unmoved(question.key, look, head, fields):
            return None
        now = look.now_us // 1000
        if fresh_for(head, question.limits, now) and not self._early(question, look.entry, head, now):
            return self._hit(question, look.entry, head, now)
        question.held, question.data = head, look.entry
        if question.control.only_if_cached:
            stale = now < windows(head, question.limits).stale and within_age(head, question.limits, now)
            return self._hit(question, look.entry, head, now, "stale") if stale else None
        return None

    def _read(self, question: Question, data: bytes) -> Head | None:
        """The head of an entry that answers this question; a visible miss for anything else under its name."""
        try:
            return read_entry(data, question.key.digest, question.key.form)
        except Corrupt as corrupt:
            question.detail = corrupt.reason
            self.events.emit("corrupt", question.key.text, corrupt.reason)
            self.events.warn_once(
                corrupt.reason, "an entry could not be read (%s); it counts as a miss and is replaced", corrupt.reason
            )
            return None

    def _unmoved(self, key: Key, look: Look, head: Head, fields: tuple[int, ...]) -> bool:
        """Whether no invalidation reached the entry, as far as what was read can tell; False where it cannot."""
        gens = look.generations
        if head.epoch != gens.epoch or head.clock < gens.floor:
            return False
        if head.clock == gens.clock:
            return True
        own = entry_fields(look.entry or b"", head)
        if not set(own) <= set(fields):
            # The claim will judge; the next lookup of this key reads these fields too, in its one round trip.
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = own
            return False
        return valid(Snapshot(head.epoch, head.clock), fields, gens)

    def _early(self, question: Question, data: bytes, head: Head, now: int) -> bool:
        """Whether this caller should offer to refresh before the end (XFetch). Costs nothing far from the end."""
        left = head.fresh - now
        if left > head.ttl >> 2 or question.control.only_if_cached:
            return False
        return left <= self._lead_time(data, head)

    @staticmethod
    def _lead_time(data: bytes, head: Head) -> int:
        took = int.from_bytes(unpack_extensions(data, head).get(DURATION, b""), "big")
        return int(-took * math.log(1.0 - random.random()))  # noqa: S311 - a lottery of moments, no secret

    def _hit(  # noqa: PLR0913
        self, question: Question, data: bytes, head: Head, now: int, detail: str = "", *, collapsed: bool = False
    ) -> Found:
        until = windows(head, question.limits).fresh
        status = Status(
            question.key.text,
            hit=not collapsed,
            fwd="miss" if collapsed else "",
            collapsed=collapsed,
            ttl=(until - now) // 1000,
            detail=detail,
            age=max(0, now - head.created) // 1000,
        )
        self.events.lookup(status)
        return Found(status, entry_body(data, head), entry=data, head=head)

    # contending for the lease

    async def _contend(self, question: Question, call: Call) -> Found:
        """Claim until there is an answer: each turn serves, leads, or follows and then looks again."""
        if question.control.only_if_cached:
            raise self._not_cached(question)
        ear: Ear | None = None
        after, mismatches, silent = 0, 0, False
        try:
            while mismatches < 3:  # noqa: PLR2004
                claim = await self._claim(question, after)
                if ear is not None:
                    ear.claimed()
                if isinstance(claim, Follow):
                    if (local := self.board.named(claim.id, claim.order)) is not None:
                        try:
                            return await self._join(question, local)
                        except Gone:
                            self._still_open()
                            continue
                    if ear is None:
                        ear = await self._listen(question, claim)
                        continue
                    got = await self._follow(question, ear, claim)
                    if isinstance(got, Found):
                        return got
                    silent = got == NEVER
                    after = max(after, got)
                    continue
                try:
                    found = await self._take(question, call, claim, silent=silent)
                except Gone:
                    self._still_open()
                    continue
                if found is not None:
                    return found
                mismatches += 1
        finally:
            if ear is not None:
                ear.close()
        return await self._alone(question, call, "store-restless")

    async def _claim(self, question: Question, after: int) -> Claim:
        flight = os.urandom(16)
        early = NEVER
        if question.held is not None and not after:
            early = max(0, question.held.ttl >> 2)  # the lottery was drawn by the reads: here it only has to be near
        ask = Ask(flight, flight[:4], question.fields, question.limits, after, early, int(HEARTBEAT * 1000))
        try:
            return await self._store(self.store.claim(question.key, ask))
        except StoreTrouble:
            # It may have been granted all the same. Such a lease may never fill: its call begins before its reply.
            self._forsaken(question.key, flight)
            raise

    def _forsaken(self, key: Key, flight: bytes) -> None:
        if not self.fleet.breaker.open:
            self.fleet.forsake(key, flight)

    async def _take(self, question: Question, call: Call, claim: Hit | Stale | Lead, *, silent: bool) -> Found | None:
        """Serve what the claim approved, if it is what we can read; lead where it made us the leader."""
        if isinstance(claim, Lead):
            if silent:
                self.events.emit("takeover", question.key.text)
            return await self._lead(question, call, claim.grant)
        data, head = question.data, question.held
        if head is None or (head.fill, head.order) != (claim.fill, claim.order):
            data, head = await self._entry(question)
        if data is None or head is None or (head.fill, head.order) != (claim.fill, claim.order):
            # The body at hand is not the one that was judged. With the lease, there is no need for it.
            return await self._lead(question, call, claim.grant) if claim.grant else None
        stale = isinstance(claim, Stale)
        if claim.grant:
            self._refresh(question, call, claim.grant, "stale" if stale else "early")
        return self._hit(question, data, head, claim.now, "stale" if stale else "")

    async def _entry(self, question: Question) -> tuple[bytes | None, Head | None]:
        data = await self._store(self.store.entry(question.key))
        return data, self._read(question, data) if data is not None else None

    async def _lead(self, question: Question, call: Call, grant: Grant) -> Found:
        flight = self.board.open(question.key, grant)
        flight.callers = 1  # before it starts: a caller cancelled while it does must find himself counted
        try:
            await self.mode.start(flight, self._fly(flight, question, call))
        finally:
            flight.callers -= 1
        return await self._join(question, flight, leader=True)

    def _refresh(self, question: Question, call: Call, grant: Grant, why: str) -> None:
        """Fly where nobody waits."""
        flight = self.board.open(question.key, grant)
        self.events.emit("refresh", question.key.text, why)
        if not self.mode.behind(flight, self._fly(flight, question, call)):
            self.board.close(flight)
            self.fleet.forsake(question.key, grant.id)
            self.events.emit("dropped", question.key.text, "too-many-refreshes")

    def _not_cached(self, question: Question) -> NotCached:
        status = Status(question.key.text, fwd="miss", detail=question.detail or "only-if-cached")
        self.events.lookup(status)
        return NotCached("only-if-cached, and the store has no answer that may be served", question.key.text)

    def _still_open(self) -> None:
        if self.closed:
            raise CacheClosed("this cache was closed while the call was waiting")

    # following

    async def _listen(self, question: Question, claim: Follow) -> Ear:
        """An ear that is sure to hear; at the latest after one store timeout we look by ourselves."""
        signal = self.mode.signal()
        ear = self.fleet.listen(question.key, signal)
        ear.follows = (claim.id, claim.order)
        try:
            if not ear.again:
                await signal.wait(TIMEOUT)
        except BaseException:
            ear.close()
            raise
        ear.again = False
        return ear

    async def _follow(self, question: Question, ear: Ear, claim: Follow) -> Found | int:
        """Wait for the flight: its answer, or the order after which to look again (NEVER: it went silent)."""
        mine = ear.follows = (claim.id, claim.order)
        until = time.monotonic() + claim.remaining / 1000 + GRACE
        while True:
            while ear.words:
                word = ear.words.popleft()
                if (word.flight, word.order) != mine:
                    continue
                if word.kind == ALIVE:
                    until = time.monotonic() + HEARTBEAT
                if word.kind == ENDED:
                    return await self._ended(question, claim, word.outcome)
            if ear.again:
                ear.again = False
                return 0
            left = until - time.monotonic()
            if left <= 0:
                return NEVER
            await ear.signal.wait(left)

    async def _ended(self, question: Question, claim: Follow, outcome: bytes) -> Found | int:
        """Whoever was told to follow a flight may have what it brought, whatever became of it since."""
        if outcome == STORED:
            data, head = await self._entry(question)
            if data is not None and head is not None and (head.fill, head.order) == (claim.id, claim.order):
                return self._hit(question, data, head, head.created, collapsed=True)
        if outcome == SHARED:
            log = await self._store(self.store.tape(question.key, claim.id, claim.order))
            ending = read_ending(log) if log is not None else None
            if ending is not None and ending.outcome == SHARED:
                return self._shared(question, Answer(ending.body), ending.detail)
        return 0 if outcome == FAILED else claim.order

    def _shared(self, question: Question, answer: Answer, detail: str) -> Found:
        status = Status(question.key.text, fwd="miss", collapsed=True, detail=detail)
        self.events.lookup(status)
        return Found(status, answer.body, answer.value)

    async def _join(self, question: Question, flight: Flight, *, leader: bool = False) -> Found:
        flight.callers += 1
        try:
            landed = await flight.join(self.mode.signal(), question.terms.max_flight)
        except Gone:
            raise
        except Exception as error:
            return await self._saved(question, error, leader=leader)
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.done:
                self._abandoned(question, flight)
        assert isinstance(landed, Landed)
        return self._arrived(question, landed, leader=leader)

    def _arrived(self, question: Question, landed: Landed, *, leader: bool) -> Found:
        status = Status(
            question.key.text,
            fwd=self._forwarded(question) if leader else "miss",
            stored=leader and landed.stored,
            collapsed=not leader,
            detail=question.detail or landed.detail,
        )
        self.events.lookup(status)
        answer = landed.answer
        return Found(status, answer.body if landed.stored or not leader else None, answer.value)

    @staticmethod
    def _forwarded(question: Question) -> str:
        """Why it went upstream, in RFC 9211's words."""
        if question.held is None:
            return "miss"
        asked = question.control.no_cache or question.control.max_age is not None
        return "request" if asked else "stale"

    async def _saved(self, question: Question, error: Exception, *, leader: bool) -> Found:
        """An old answer in place of an upstream's trouble, judged by the generations of now; else the error itself."""
        trouble = upstream.trouble(error)
        if trouble and question.limits.error:
            try:
                look = await self._store(self.store.look(question.key, question.fields))
            except StoreTrouble:
                look = None
            found = self._on_error(question, look, trouble) if look is not None else None
            if found is not None:
                return found
        detail = trouble or "failed"
        self.events.lookup(Status(question.key.text, fwd="miss", collapsed=not leader, detail=detail))
        raise error

    def _on_error(self, question: Question, look: Look, trouble: str) -> Found | None:
        if look.entry is None or (head := self._read(question, look.entry)) is None:
            return None
        now = look.now_us // 1000
        if not self._unmoved(question.key, look, head, tuple(question.fields)):
            return None
        if now >= windows(head, question.limits).error or not within_age(head, question.limits, now):
            return None
        self.events.emit("saved", question.key.text, trouble)
        found = self._hit(question, look.entry, head, now, trouble)
        found.status.fwd, found.status.hit = "stale", False
        return found

    def _abandoned(self, question: Question, flight: Flight) -> None:
        """The last caller left. Paid is paid: by default the call is finished and stored, within a limit."""
        if flight.cancel is None:
            return
        self.events.emit("abandoned", question.key.text, question.terms.on_abandon)
        if question.terms.on_abandon == "close":
            flight.cancel()
        else:
            self.mode.later(question.terms.abandon_limit, lambda: self._give_up(flight))

    def _give_up(self, flight: Flight) -> None:
        if not flight.callers and not flight.done and flight.cancel is not None:
            self.events.emit("dropped", flight.key.text, "abandon-limit")
            flight.cancel()

    # flying

    async def _fly(self, flight: Flight, question: Question, call: Call) -> None:
        """Make the upstream call and land it; never raises what the call raised, but for what ends a process."""
        beat = self._beat(flight, question)
        self.events.emit("call", question.key.text)
        try:
            answer = await call()
        except Exception as error:  # noqa: BLE001 - the upstream's, whatever it is: it is landed, and raised in join
            self.events.emit("failed", question.key.text, type(error).__name__)
            await self._return(flight, Ending(FAILED, type(error).__name__), error)
            flight.land(error=error)
        except BaseException:
            await self._return(flight, Ending(FAILED, "gone"))
            flight.land(error=Gone())
            raise
        else:
            seconds = time.monotonic() - flight.began
            self.events.emit("called", question.key.text, seconds=seconds)
            flight.land(await self._landed(flight, question, answer, seconds))
        finally:
            flight.land(error=Gone())
            if beat is not None:
                self.fleet.still(beat)
            self.board.close(flight)

    def _beat(self, flight: Flight, question: Question) -> Beat | None:
        if flight.grant is None:
            return None

        def lost() -> None:
            flight.lost = True
            self.events.emit("lost", question.key.text)

        held = Held(question.key, flight.grant.id, flight.grant.order)
        return self.fleet.beat(held, question.terms.max_flight, lost)

    async def _landed(self, flight: Flight, question: Question, answer: Answer, seconds: float) -> Landed:
        """Store what may be stored, and give the lease back with what may not."""
        detail = answer.refusal
        if answer.body is not None and len(answer.body) > question.terms.max_bytes:
            detail = detail or "too-large"
        if flight.grant is None:
            return Landed(answer, stored=False, detail=detail)
        if detail or answer.body is None:
            self.events.emit("unstored", question.key.text, detail)
            shared = Ending(SHARED, detail, answer.body) if answer.body is not None else Ending(FAILED, detail)
            await self._return(flight, shared)
            return Landed(answer, stored=False, detail=detail)
        verdict = await self._fill(flight, flight.grant, question, answer, seconds)
        self.events.emit(*self._said(verdict, question.key.text))
        return Landed(answer, stored=verdict == "stored", detail="" if verdict in {"stored", "unkept"} else verdict)

    @staticmethod
    def _said(verdict: str, key: str) -> tuple[str, str, str]:
        if verdict == "stored":
            return "stored", key, ""
        return ("refused" if verdict in {"lost", "moved"} else "unstored"), key, verdict

    async def _fill(
        self, flight: Flight, grant: Grant, question: Question, answer: Answer, seconds: float
    ) -> str:
        """The store's verdict, or the trouble it had."""
        terms = question.terms
        extensions = {
            **question.extensions(),
            **answer.extensions,
            FIELDS: pack_fields(question.fields),
            DURATION: int(seconds * 1000).to_bytes(4, "big"),
        }
        ttl = int(terms.ttl * 1000)
        body = answer.body or b""
        sealed = seal(
            question.key.form, question.key.digest, grant.id, grant.order, grant.snapshot, ttl, extensions, body
        )
        shorter = ttl * (1.0 - terms.jitter * random.random())  # noqa: S311 - only shortens, so that no ttl is a lie
        life = Lifetime(int(shorter), int(terms.grace * 1000), int(terms.stale_if_error * 1000), int(terms.max_age * 1000))
        try:
            return await self._store(self.store.fill(flight.key, grant.id, grant.order, sealed, life))
        except StoreTrouble as trouble:
            return trouble.kind

    async def _return(self, flight: Flight, ending: Ending, error: Exception | None = None) -> None:
        """Give the lease back, if there is one and the store can hear it."""
        if flight.grant is None:
            return
        failed = error is not None and bool(upstream.trouble(error))
        if failed:
            self.events.emit("backoff", flight.key.text)
        hint = upstream.hint_of(error) if error is not None else 0
        grant = flight.grant
        try:
            await self._store(
                self.store.release(flight.key, grant.id, grant.order, ending, failed=failed, hint=hint)
            )
        except StoreTrouble:
            return  # counted already; the lease dies by its deadline

    # without the store

    async def _alone(self, question: Question, call: Call, kind: str) -> Found:
        """Ask upstream without the store, once for all who ask this in this process meanwhile."""
        question.detail = kind
        if self._strict:
            raise StoreUnavailable(f"the store did not serve this lookup ({kind}), and the cache is strict", kind)
        if question.control.only_if_cached:
            raise self._not_cached(question)
        while True:
            flight, mine = self.board.alone(question.key)
            try:
                if mine:
                    await self.mode.start(flight, self._fly(flight, question, call))
                return await self._join(question, flight, leader=mine)
            except Gone:
                self._still_open()

    async def _store(self, work: Coroutine[Any, Any, T]) -> T:
        """A command of the store, with its troubles counted; left alone while the breaker is open."""
        breaker = self.fleet.breaker
        if breaker.open:
            work.close()
            raise StoreTrouble(breaker.kind)
        try:
            reply = await work
        except StoreTrouble as trouble:
            self._trouble(trouble)
            raise
        breaker.worked()
        return reply

    def _trouble(self, trouble: StoreTrouble) -> None:
        self.events.emit("trouble", detail=trouble.kind)
        self.events.warn_once(
            trouble.kind, "the store had trouble (%s: %s); calls go upstream meanwhile", trouble.kind, trouble
        )
        if self.fleet.trouble(trouble.kind):
            self.events.emit("open", detail=trouble.kind)

    def back(self) -> None:
        """The store answers again: the next trouble is new."""
        self.events.emit("back")
        for kind in ("store-refused", "store-timeout", "store-closed"):
            self.events.forgive(kind)

    # ending

    async def finish(self, limit: float) -> list[str]:
        """Wait for what is in flight, at most `limit` s; the keys of what had to be dropped."""
        until = time.monotonic() + limit
        dropped = []
        for flight in self.board.flights():
            signal = self.mode.signal()
            try:
                await flight.join(signal, max(0.0, until - time.monotonic()))
            except Gone:
                if not flight.done:
                    dropped.append(flight.key.text)
            except Exception:  # noqa: BLE001, S112 - the flight's own error was raised to its callers
                continue
        self.closed = True
        self.fleet.on_back.remove(self.back)
        for flight in self.board.flights():
            self.events.emit("dropped", flight.key.text, "closed")
            if flight.cancel is not None:
                flight.cancel()
        return dropped

    def after_fork(self) -> None:
        """Flights of the parent are not ours: nobody here would ever land them."""
        self.board = Board()
        self.events.after_fork()
