"""The Reader reads entries without a claim, and judges them for one question. The whole hit path is here.

It does not answer what plain reads cannot decide: an entry that is too old, that looks invalidated, or that carries
tags the caller did not name. The store decides about those in a claim.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial

from askonce.core.hot_keys import HotKeys
from askonce.core.keys import Key
from askonce.core.lease import fresh_for, fresh_until, valid, windows, within_age
from askonce.core.model import (
    CODED,
    DURATION,
    Corrupt,
    Head,
    Snapshot,
    entry_body,
    entry_fields,
    read_entry,
    unpack_extensions,
)
from askonce.core.providers.named_tuples import NamedTuple
from askonce.engine.accounting import Accounting
from askonce.engine.planner import on_error
from askonce.engine.question import Question
from askonce.events import Status
from askonce.flight.guarded_store import GuardedStore
from askonce.store import Look, Near, Store, StoreTrouble

REMEMBERED = 20_000  # keys whose entries carry tags that their readers do not name
UNREADABLE = "store-unreadable"
NEAR = "near"  # the detail of a hit that no store was asked for


class Unreadable(Exception):
    """The stored answer is whole, but its reader cannot use it."""


class Found(NamedTuple):
    """The result of a lookup: a body to decode, or (body None) the value itself. `entry`: set if the store had it."""

    status: Status
    body: bytes | memoryview | None
    value: object = None
    entry: bytes | None = None
    head: Head | None = None


class AtHand(NamedTuple):
    """An entry that may be served without waiting, and what Reader.hit needs of it: the time in ms, and a detail."""

    entry: bytes
    head: Head
    now: int
    detail: str = ""


class Reader:
    """Reads the entries of one engine's store."""

    def __init__(self, guarded: GuardedStore) -> None:
        self._guarded = guarded
        self._store = guarded.store
        self._events = guarded.events
        self._background = guarded.background
        self._breakers = guarded.background.breakers
        self._codec = guarded.codec
        self._encrypted = guarded.codec.encrypts
        self._accounts = guarded.background.accounts
        self.accounting = Accounting(guarded)
        self._hot_keys = HotKeys(self._store.visits, self._background.hits.visited)
        self._remembered: dict[Key, tuple[int, ...]] = {}

    async def look(self, question: Question) -> Found | None:
        """The hit path: plain reads, without a decision by the store."""
        near = self._store.near
        if near is not None:
            held, found = question.held, self.near(question)
            if found is not None or question.held is not held:
                return found
        fields = self._fields(question) if self._remembered else question.fields
        if self._breakers.shut:
            self._guarded.check_read(question.key)
        try:
            # Not through GuardedStore.read: the extra coroutine costs a fiftieth of a hit.
            look = await self._store.look(question.key, fields)
        except StoreTrouble as trouble:
            self._guarded.met(trouble, "read", question.key)
            raise
        if self._breakers.failing:
            self._guarded.worked("read", question.key)
        return self._looked(question, look, fields)

    def near(self, question: Question) -> Found | None:
        """The answer of the near cache, judged like any other; None if the store must be asked.

        An answer that is here and does not serve is what a read would have found: `question.held` says so. But a lookup
        that may only take what is stored asks the store itself, which may have a newer one.
        """
        near, plan = self._store.near, question.plan
        if near is None or plan.terms.consistency == "strong":
            return None
        kept = near.look(question.key, question.fields)
        if kept is None:
            return None
        (entry, head), now = kept[0].answer, kept[1] // 1000
        if self._encrypted or head[2] & CODED:
            entry, opened = self.read(question, entry, head)
            if opened is None:
                return None
        if fresh_for(head, plan.limits, now) and not self._early(question, entry, head, now):
            self._events.near_hits += 1
            return self.hit(question, entry, head, now, NEAR)
        if not plan.control.only_if_cached:
            question.held, question.data = head, entry
        return None

    def at_hand(self, question: Question) -> AtHand | None:
        """What `look` would surely serve, as far as it can be read without waiting. None, and nothing is counted: look.

        An entry near its end, one that is coded or that cannot be read, and trouble of the store are left to `look`.
        """
        kept = self._at_hand_near(question) if self._store.near is not None else self._at_hand_in_store(question)
        if kept is None or self._encrypted or kept.head.flags & CODED:
            return None
        head, now, plan = kept.head, kept.now, question.plan
        fresh = now < fresh_until(head, plan.limits) if plan.plain else fresh_for(head, plan.limits, now)
        return kept if fresh and head.fresh - now > head.ttl >> 2 else None

    def serve(self, question: Question, kept: AtHand) -> Found:
        """What is at hand as the caller's answer; it is counted."""
        if kept.detail == NEAR:
            self._events.near_hits += 1
        return self.hit(question, *kept)

    def _at_hand_near(self, question: Question) -> AtHand | None:
        near = self._store.near
        if near is None or question.plan.terms.consistency == "strong":
            return None
        kept = near.look(question.key, question.fields)
        return None if kept is None else AtHand(*kept[0].answer, kept[1] // 1000, NEAR)

    def _at_hand_in_store(self, question: Question) -> AtHand | None:
        if self._breakers.shut or self._breakers.failing:
            return None
        key, fields = question.key, self._fields(question)
        look = self._store.at_hand(key, fields)
        if look is None or look.entry is None:
            return None
        try:
            head = look.head or read_entry(look.entry, key.digest, key.form)
        except Corrupt:
            return None
        still = head.clock == look.generations.clock >= look.generations.floor and head.epoch == look.generations.epoch
        if not (still or self._unmoved(key, look, head, fields)):
            return None
        return AtHand(look.entry, head, look.now_us // 1000)

    def _note(self, near: Near, question: Question, fields: tuple[int, ...], entry: bytes) -> None:
        """Tell the near cache what the store had to answer."""
        if question.terms.consistency != "strong" and near.seen(question.key, fields, len(entry)):
            self._background.start()

    async def look_all(self, questions: Sequence[Question]) -> list[Found | None]:
        """`look` for several questions, in batches."""
        found = [self.near(question) for question in questions]
        rest = [one for one, served in zip(questions, found, strict=True) if served is None and one.held is None]
        fields = [self._fields(question) for question in rest]
        works = [partial(_look, question.key, own) for question, own in zip(rest, fields, strict=True)]
        looks = await self._guarded.together([question.key for question in rest], works, reads=True)
        read: dict[int, Found | None] = {}
        for look, question, own in zip(looks, rest, fields, strict=True):
            if isinstance(look, StoreTrouble):
                raise look
            read[id(question)] = self._looked(question, look, own)
        return [served or read.get(id(question)) for question, served in zip(questions, found, strict=True)]

    def _looked(self, question: Question, look: Look, fields: tuple[int, ...]) -> Found | None:
        """What plain reads come to."""
        found = None if look.entry is None else self._served(question, look.entry, look, fields)
        if found is None:
            question.seen = look.generations
        elif look.entry is not None and (near := self._store.near) is not None:
            self._note(near, question, fields, look.entry)
        return found

    async def entries(self, questions: Sequence[Question]) -> list[tuple[bytes | None, Head | None]]:
        """`entry` for several questions, in batches."""
        keys = [question.key for question in questions]
        works = [partial(_entry, key) for key in keys]
        found: list[tuple[bytes | None, Head | None]] = []
        for data, question in zip(await self._guarded.together(keys, works, reads=True), questions, strict=True):
            if isinstance(data, StoreTrouble):
                raise data
            found.append((None, None) if data is None else self.read(question, data))
        return found

    async def peek(self, question: Question) -> tuple[bytes, Head, int] | None:
        """A fresh entry, its head and the time. Not counted as a lookup: the caller may be unable to use it."""
        fields = self._fields(question)
        look = await self._guarded.read(question.key, self._store.look(question.key, fields))
        if look.entry is None:
            return None
        data, head = self.read(question, look.entry, look.head)
        if head is None or not self._unmoved(question.key, look, head, fields):
            return None
        now = look.now_us // 1000
        return (data, head, now) if fresh_for(head, question.plan.limits, now) else None

    async def from_other_form(self, question: Question) -> Found | None:
        """The answer made from one stored in another form, if it can be made exactly."""
        for other in question.others:
            kept = await self.peek(other)
            if kept is None:
                continue
            data, head, now = kept
            try:
                made = question.retell(bytes(entry_body(data, head))) if question.retell else None
            except ValueError:
                self.unread(other)
                continue
            if made is not None:
                return self.hit(other, data, head, now, "assembled")._replace(body=None, value=made)
        return None

    def remembers(self, key: Key) -> bool:
        """Whether this key's entry is known to carry tags of its own."""
        return key in self._remembered

    def _fields(self, question: Question) -> tuple[int, ...]:
        """The fields that decide about this key: the caller's tags, and the known tags of its entry."""
        own = self._remembered.get(question.key) if self._remembered else None
        return question.fields if own is None else tuple({*question.fields, *own})

    def _served(self, question: Question, entry: bytes, look: Look, fields: tuple[int, ...]) -> Found | None:
        head, gens = look.head, look.generations
        if head is None or self._encrypted or head[2] & CODED:
            entry, head = self.read(question, entry, head)
            if head is None:
                return None
        # The usual case of _unmoved and the usual limits of fresh_for are written out: a call costs a hit a hundredth.
        still = head.clock == gens.clock >= gens.floor and head.epoch == gens.epoch
        if not (still or self._unmoved(question.key, look, head, fields)):
            return None
        now = look.now_us // 1000
        plan = question.plan
        fresh = now < fresh_until(head, plan.limits) if plan.plain else fresh_for(head, plan.limits, now)
        if fresh and not (head.fresh - now <= head.ttl >> 2 and self._early(question, entry, head, now)):
            return self.hit(question, entry, head, now)
        question.held, question.data = head, entry
        if plan.control.only_if_cached:
            stale = now < windows(head, plan.limits).stale and within_age(head, plan.limits, now)
            return self.hit(question, entry, head, now, "stale") if stale else None
        return None

    def read(self, question: Question, data: bytes, head: Head | None = None) -> tuple[bytes, Head | None]:
        """An entry that answers this question, with its body opened, and its head: `head`, if it was verified before.

        No head, and a visible miss, for anything else under its name.
        """
        key = question.key
        try:
            head = head or read_entry(data, key.digest, key.form)
            if head[2] & CODED or self._encrypted:
                data = self._codec.open_entry(key, data, head, question.terms.max_answer_bytes)
        except Corrupt as corrupt:
            self.unread(question, corrupt.reason)
            return data, None
        return data, head

    def unread(self, question: Question, reason: str = UNREADABLE) -> None:
        """Emit the event of an entry that no reader can use; it counts as a miss."""
        question.detail = reason
        self._events.emit("corrupt", question.key.text, reason)
        self._events.warn_once(reason, "an entry could not be read (%s); it counts as a miss and is replaced", reason)

    def _unmoved(self, key: Key, look: Look, head: Head, fields: tuple[int, ...]) -> bool:
        """Whether no invalidation reached the entry, as far as the read fields tell; False if they cannot tell."""
        gens = look.generations
        if head.epoch != gens.epoch or head.clock < gens.floor:
            return False
        if head.clock == gens.clock:
            return True
        try:
            own = entry_fields(look.entry or b"", head)
        except Corrupt:
            return False  # so that the claim finds it, and replaces it
        if not set(own) <= set(fields):
            # The claim judges it. The next lookup of this key reads these fields too, in its one round trip.
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = own
            return False
        return valid(Snapshot(head.epoch, head.clock), fields, gens)

    def _early(self, question: Question, data: bytes, head: Head, now: int) -> bool:
        """Whether this caller should offer to refresh before the end (XFetch). Costs nothing far from the end."""
        left = head.fresh - now
        if not 0 < left <= head.ttl >> 2 or question.control.only_if_cached:
            return False
        try:
            took = duration(data, head)
        except Corrupt:
            return False
        if head.stale - head.fresh < took:
            # No stale answer will bridge the call (a life that slid to its hard end): refresh surely, not at random.
            return left <= 2 * took + 1000
        return left <= -took * math.log(1.0 - random.random())

    def hit(self, question: Question, data: bytes, head: Head, now: int, detail: str = "", *, fwd: str = "") -> Found:
        """The entry as the caller's answer. `fwd`: why it was asked upstream all the same (``miss``: by another)."""
        key, plan = question.key, question.plan
        ttl = (fresh_until(head, plan.limits) - now) // 1000
        age = (now - head.created) // 1000 if now > head.created else 0
        # stored is False; arguments by position cost a quarter less than by name
        status = Status(key.digest.hex(), not fwd, fwd, False, fwd == "miss", ttl, detail, age)
        self._events.lookup(status, question, data)
        if fwd:
            (self.accounting.joined_entry if fwd == "miss" else self.accounting.rescued)(question, head, data)
        else:
            row = question.served = self._accounts.rows.get(head[5]) or self.accounting.row(question, head, data)
            if question.part:
                row.parts += 1  # as in events._count
            elif detail == "stale":
                row.stale += 1
            else:
                row.hits += 1
            key_hits = self._hot_keys.hit(key, head, plan.terms, now)
            if key_hits is not None:
                self._background.warm(key, key_hits, self._slid)
        return Found(status, entry_body(data, head), None, data, head)

    def _slid(self, key: Key) -> None:
        self._events.emit("slid", key.text)

    async def entry(self, question: Question) -> tuple[bytes | None, Head | None]:
        """Read the entry once more, alone."""
        data = await self._guarded.read(question.key, self._store.entry(question.key))
        return (None, None) if data is None else self.read(question, data)

    async def stale_if_error(self, question: Question, trouble: str) -> Found | None:
        """An old answer in place of an upstream error, judged by the current generations; None if none may serve."""
        limits = on_error(question.plan)
        if not limits.error:
            return None
        for _ in range(2):  # the second read includes the tags that the first one found in the entry
            fields = self._fields(question)
            try:
                look = await self._guarded.read(question.key, self._store.look(question.key, fields))
            except StoreTrouble:
                return None
            if look.entry is None:
                return None
            data, head = self.read(question, look.entry)
            if head is None:
                return None
            now = look.now_us // 1000
            if now >= windows(head, limits).error or not within_age(head, limits, now):
                return None
            if self._unmoved(question.key, look, head, fields):
                self._events.emit("saved", question.key.text, trouble)
                return self.hit(question, data, head, now, trouble, fwd="stale")
        return None


def duration(data: bytes, head: Head) -> int:
    """How long the call for an entry took, ms; Corrupt if its header does not add up."""
    return int.from_bytes(unpack_extensions(data, head).get(DURATION, b"")[:8], "big")


async def _look(key: Key, fields: tuple[int, ...], store: Store) -> Look:
    return await store.look(key, fields)


async def _entry(key: Key, store: Store) -> bytes | None:
    return await store.entry(key)
