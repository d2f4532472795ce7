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
from collections.abc import Awaitable, Callable
from typing import NamedTuple

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
    Stale,
    fresh_for,
    valid,
    windows,
    within_age,
)
from askonce.core.model import (
    DURATION,
    Corrupt,
    Head,
    Snapshot,
    entry_body,
    entry_fields,
    read_entry,
    unpack_extensions,
)
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, read_ending
from askonce.errors import CacheClosed, NotCached, StoreUnavailable
from askonce.events import Events, Status
from askonce.fleet import HEARTBEAT, Ear, Fleet
from askonce.flight import Board, Flight, Gone, Mode
from askonce.guard import Guard
from askonce.pilot import Answer, Call, Landed, Pilot
from askonce.question import Question
from askonce.store import TIMEOUT, Look, Store, StoreTrouble

REMEMBERED = 20_000  # keys whose entries carry tags that their readers do not name
GRACE = 0.05  # s beyond a follower's wait, so that he does not look a moment before the deadline he was told


class Found(NamedTuple):
    """What a lookup gives back: a body to decode, or (body None) the very value; `entry` when the store had it."""

    status: Status
    body: bytes | memoryview | None
    value: object = None
    entry: bytes | None = None
    head: Head | None = None


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
        self._guard = Guard(store, fleet, events)
        self._pilot = Pilot(self._guard, self.board)
        self._remembered: dict[Key, tuple[int, ...]] = {}

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
        fields = self._fields(question)
        look = await self._guard(self.store.look(question.key, fields))
        return self._served(question, look, fields)

    def _fields(self, question: Question) -> tuple[int, ...]:
        """What decides about this key: the caller's tags, and those its entry was seen to carry."""
        own = self._remembered.get(question.key) if self._remembered else None
        return question.fields if own is None else tuple({*question.fields, *own})

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
        return int(-took * math.log(1.0 - random.random()))

    def _hit(
        self, question: Question, data: bytes, head: Head, now: int, detail: str = "", *, fwd: str = ""
    ) -> Found:
        """The entry as the caller's answer. `fwd`: it was asked for upstream all the same (``miss``: by another)."""
        until = windows(head, question.limits).fresh
        status = Status(
            question.key.text,
            hit=not fwd,
            fwd=fwd,
            collapsed=fwd == "miss",
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
            while mismatches < 3:
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
            return await self._guard(self.store.claim(question.key, ask))
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
        data, head = question.data or None, question.held
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
        data = await self._guard(self.store.entry(question.key))
        return data, self._read(question, data) if data is not None else None

    async def _lead(self, question: Question, call: Call, grant: Grant) -> Found:
        flight = self.board.open(question.key, grant)
        flight.callers = 1  # before it starts: a caller cancelled while it does must find himself counted
        try:
            await self.mode.start(flight, self._pilot.fly(flight, question, call))
        finally:
            flight.callers -= 1
        return await self._join(question, flight, leader=True)

    def _refresh(self, question: Question, call: Call, grant: Grant, why: str) -> None:
        """Fly where nobody waits."""
        flight = self.board.open(question.key, grant)
        self.events.emit("refresh", question.key.text, why)
        if not self.mode.behind(flight, self._pilot.fly(flight, question, call)):
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
                return self._hit(question, data, head, head.created, fwd="miss")
        if outcome == SHARED:
            log = await self._guard(self.store.tape(question.key, claim.id, claim.order))
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
            trouble = upstream.trouble(error)
            saved = await self._saved(question, trouble) if trouble else None
            if saved is None:
                detail = trouble or "failed"
                self.events.lookup(Status(question.key.text, fwd="miss", collapsed=not leader, detail=detail))
                raise
            return saved
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.done:
                self._abandoned(question, flight)
        assert isinstance(landed, Landed)
        saved = await self._saved(question, landed.answer.trouble) if landed.answer.trouble else None
        return saved or self._arrived(question, landed, leader=leader)

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

    async def _saved(self, question: Question, trouble: str) -> Found | None:
        """An old answer in place of an upstream's trouble, judged by the generations of now."""
        if not question.limits.error:
            return None
        for _ in range(2):  # the second time with the tags that the first found in the entry
            fields = self._fields(question)
            try:
                look = await self._guard(self.store.look(question.key, fields))
            except StoreTrouble:
                return None
            if look.entry is None or (head := self._read(question, look.entry)) is None:
                return None
            now = look.now_us // 1000
            if now >= windows(head, question.limits).error or not within_age(head, question.limits, now):
                return None
            if self._unmoved(question.key, look, head, fields):
                self.events.emit("saved", question.key.text, trouble)
                return self._hit(question, look.entry, head, now, trouble, fwd="stale")
        return None

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
                    await self.mode.start(flight, self._pilot.fly(flight, question, call))
                return await self._join(question, flight, leader=mine)
            except Gone:
                self._still_open()

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
        self._guard.close()
        for flight in self.board.flights():
            self.events.emit("dropped", flight.key.text, "closed")
            if flight.cancel is not None:
                flight.cancel()
        return dropped
