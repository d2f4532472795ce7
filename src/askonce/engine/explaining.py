"""Explains lookups: gathers what the store has and what notes say of a question, and has core.why decide.

For people and pages, never on the way of a lookup. What this process has not noted yet is written first. Everything is
read for one owner: no note of another tenant's or credential's is even decrypted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from askonce.core.differences import likest, nearest
from askonce.core.field_digests import Digests, Node, leaves, unpacked
from askonce.core.field_names import known_names
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Generations, Limits, taken_until, valid, windows
from askonce.core.model import (
    DURATION,
    FORMS,
    Corrupt,
    Head,
    Snapshot,
    entry_fields,
    read_entry,
    read_head,
    unpack_extensions,
)
from askonce.core.notes import EVERYONE, RING, Noted
from askonce.core.parts import Later, Parts
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.seen import (
    EVERY,
    Invalidated,
    Owner,
    Seen,
    owner_named,
    owner_of,
    reached_by,
    read_note,
    survives,
)
from askonce.core.why import Difference, Evidence, Gone, Miss, Near, Past, Stored, Why, decide, troubled
from askonce.engine.question import Plan, Question
from askonce.flight.board import Board
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.mode import Mode
from askonce.store import Look, StoreTrouble

COMPARED = 512  # earlier requests that one is compared with
PATIENCE = 1.0  # s that notes which are being written are waited for
LOOK = 0.005  # s between two looks
FORGET = "forget"  # of an invalidation: one answer was forgotten


class Note(NamedTuple):
    """A note of a call, read. `at`: when the call ended, ms."""

    at: int
    owner: bytes
    name: bytes
    seen: Seen


class _Now(NamedTuple):
    """What plain reads tell of a key now."""

    time: int
    stored: Stored | None
    generations: Generations


class Asking(NamedTuple):
    """What is to be explained: what a lookup would find now, or, if one has `missed`, why that one went upstream.

    Without `parts`, all that is known is the key. `plan`: of the lookup, if it is to be made. `flight`: that of the
    miss, if it was noted; `latest`: the last one.
    """

    key: Key
    parts: Parts | Later | None = None
    fields: tuple[int, ...] = ()
    missed: bool = False
    flight: bytes = b""
    latest: bool = False
    plan: Plan | None = None

    @classmethod
    def of(cls, question: Question) -> Asking:
        """A lookup that went upstream."""
        return cls(question.key, question.parts, question.fields, True, question.flight)

    @property
    def wanted(self) -> str:
        """Why a fresh answer may not do, as in Evidence."""
        return "request" if self.plan is not None and self.plan.control.anew else ""

    def means(self, note: Note) -> bool:
        """Whether a note is of the miss that is to be explained."""
        if self.latest:
            return note.name == self.key.name and not note.seen.refresh
        return self.flight != b"" and note.seen.flight == self.flight


class Explainer:
    """Explains the lookups of one engine. `names`: what keys the digests, if answers are encrypted."""

    def __init__(self, guarded: GuardedStore, board: Board, mode: Mode) -> None:
        self._board = board
        self._mode = mode
        self._known: dict[tuple[bytes, int], Miss] = {}
        self._guarded = guarded
        self._store = guarded.store
        self._codec = guarded.codec
        self._prefix = guarded.store.prefix
        names = guarded.codec.names
        self._secret = b"" if names is None else names.notes
        self._labels = b"" if names is None else names.labels

    async def push(self) -> None:
        """Write what waits to be noted, and let the background thread write what it has begun to."""
        queue, until = self._guarded.background.notes, time.monotonic() + PATIENCE
        while queue.busy and time.monotonic() < until:
            await self._mode.signal().wait(LOOK)
        waiting = queue.take()
        try:
            await self._store.note(waiting)
        except StoreTrouble:
            queue.dropped += len(waiting)

    async def why(self, asking: Asking) -> Why:
        """Why of one lookup, or of the next one."""
        try:
            return decide(await self._evidence(asking))
        except StoreTrouble as trouble:
            return troubled(asking.key.text, trouble.kind)

    async def _evidence(self, asking: Asking) -> Evidence:
        await self.push()
        key, parts = asking.key, asking.parts() if asking.parts is not None else None
        owner = None if parts is None else owner_of(self._prefix, parts.asker, self._secret)
        mine = await self.notes(b"" if owner is None else owner.id, key.digest)
        own = next((one for one in mine if asking.means(one)), None)
        owner = owner or (owner_named(mine[0].owner, self._secret) if mine else None)
        before = [one for one in mine if own is None or _older(one, own)]
        same = [one for one in before if one.name == key.name]
        past = same[0] if same else None
        now = await self._now(key, (*asking.fields, *(past.seen.fields if past else ())), asking.plan)
        known = Evidence(key.text, now.time, None if asking.missed else now.stored)
        if known.stored is not None and known.stored.valid:
            return known._replace(wanted=asking.wanted)
        if own is not None and own.seen.held:
            return await self._held(known, own, past, key)
        if known.stored is not None or past is not None:
            return await self._past(known, past, own, now.generations, key)
        if not asking.missed and any(flight.key == key for flight in self._board.flights()):
            return known._replace(underway=True)
        return known._replace(near=await self._near(key, owner, parts, own, before)) if owner else known

    async def beginning(self, digits: str) -> set[str]:
        """The keys of noted questions that begin so, in hex digits."""
        await self.push()
        noted = await self.notes(b"", bytes.fromhex(digits[: len(digits) // 2 * 2]))
        return {key for one in noted if (key := one.name[:-1].hex()).startswith(digits)}

    async def forms(self, key: Key) -> list[str]:
        """The forms in which a question was asked, as far as it was noted, the last one first."""
        await self.push()
        noted = await self.notes(b"", key.digest)
        return list(dict.fromkeys(one.name[-1:].decode("latin-1") for one in noted))

    async def misses(self, limit: int) -> list[Miss]:
        """The last lookups that went upstream, the newest first, of all owners: for the operator."""
        await self.push()
        calls, met = await self.notes(b"", count=COMPARED), Leaves()
        missed = [at for at, one in enumerate(calls) if not one.seen.refresh]
        return [await self._remembered(calls[at], calls[at + 1 :], met) for at in missed[:limit]]

    async def _remembered(self, one: Note, before: Sequence[Note], met: Leaves) -> Miss:
        """A miss, explained once: what was before it does not change."""
        name = one.name + one.seen.flight, one.at
        miss = self._known.get(name)
        if miss is None:
            if len(self._known) >= COMPARED:
                self._known.clear()
            await self._mode.give_way()  # each takes some milliseconds
            miss = self._known[name] = await self._miss(one, [old for old in before if old.owner == one.owner], met)
        return miss

    async def _miss(self, one: Note, olds: Sequence[Note], met: Leaves) -> Miss:
        seen, form = one.seen, one.name[-1:].decode("latin-1")
        key = Key(one.name[:-1], form if form in FORMS else "v")  # type: ignore[arg-type]  # a Form
        past = next((old for old in olds if old.name == one.name), None)
        known = Evidence(key.text, one.at)
        if seen.held:
            known = await self._held(known, one, past, key)
        elif past is not None:
            now = await self._now(key, past.seen.fields)
            known = await self._past(known, past, one, now.generations, key)
        elif before := [old for old in olds if old.name[:-1] == one.name[:-1]]:
            known = known._replace(near=_of_another_form(key, before[0]))
        else:
            names = known_names(owner_named(one.owner, self._secret).secret)
            known = known._replace(near=near(tree_of(seen.tree), olds, names, met))
        return Miss(key.text, one.at / 1000, not seen.unstored, seen.unstored, seen.model, seen.scope, decide(known))

    # what the store has

    async def _now(self, key: Key, fields: tuple[int, ...], plan: Plan | None = None) -> _Now:
        look = await self._look(key, fields)
        own = _fields(look)
        if not own <= set(fields):
            look = await self._look(key, (*fields, *own))
        generations = look.generations
        if fields and self._store.kind == "sqlite":  # it reads what moved only where that decides about the entry
            (generations,) = await self._store.standing()
        return _Now(look.now_us // 1000, _stored(key, look, plan), generations)

    async def _look(self, key: Key, fields: tuple[int, ...]) -> Look:
        return await self._guarded.read(key, self._store.look(key, tuple(sorted({*fields}))))

    # what notes say

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Note]:
        """The readable notes of calls, the newest first."""
        read = [self._read(one) for one in await self._store.notes(owner, name, count)]
        return [one for one in read if isinstance(one, Note)]

    def _read(self, noted: Noted) -> Note | Invalidated | None:
        try:
            said = read_note(self._codec.open_note(noted.owner, noted.name, noted.data))
        except (Corrupt, ValueError):
            return None
        if isinstance(said, Seen):
            return Note(noted.at - said.lag, noted.owner, noted.name, said)
        return said

    async def _past(
        self, known: Evidence, past: Note | None, own: Note | None, generations: Generations, key: Key
    ) -> Evidence:
        """The evidence of a question that was asked before."""
        if past is None:
            return known._replace(gone=await self._gone(key, None, 0, known.now))
        until = known.now if own is None else own.at
        alive = past.seen.unstored != "" or survives(past.seen, generations, own.seen if own else None)
        gone = None if past.seen.unstored else await self._gone(key, past.seen, past.at, until)
        if alive and gone is not None and gone.by != FORGET:  # of the answer before, at nearly the same time
            gone = None
        alive = alive and gone is None
        said = past_of(past, valid=alive)
        return known._replace(past=said, gone=gone, now=until)

    async def _held(self, known: Evidence, own: Note, before: Note | None, key: Key) -> Evidence:
        """The evidence of a question whose entry was met when it was asked, and could not be served."""
        since, held = before.at if before is not None else 0, own.seen.held
        gone = await self._gone(key, own.seen, since, own.at)
        past = Past(since, "", fresh=held, hard=held, valid=own.at >= held)
        return known._replace(past=past, gone=gone, now=own.at, wanted=own.seen.wanted)

    async def _gone(self, key: Key, seen: Seen | None, since: int, until: int) -> Gone | None:
        """The first invalidation that reached an answer in a time, if it was noted."""
        found = [*await self._store.notes(EVERYONE, key.digest), *await self._store.notes(EVERYONE, EVERY)]
        for noted in sorted(found, key=lambda one: one.at):
            said = self._read(noted)
            if not isinstance(said, Invalidated) or not since <= (at := noted.at - said.lag) <= until:
                continue
            by = FORGET if noted.name != EVERY else "" if seen is None else self._reached(seen, said)
            if by:
                return Gone(at, by)
        return None

    def _reached(self, seen: Seen, said: Invalidated) -> str:
        return reached_by(seen, said, self._secret, self._labels)

    # what is near

    async def _near(
        self, key: Key, owner: Owner, parts: Parts | None, own: Note | None, before: Sequence[Note]
    ) -> Near | None:
        """The nearest earlier request of an owner."""
        if before:
            return _of_another_form(key, before[0])
        olds = [one for one in await self.notes(owner.id, count=COMPARED) if own is None or _older(one, own)]
        digests = Digests(owner.secret)
        made = digests.tree(parts.fields()) if parts is not None else None
        new = tree_of(own.seen.tree) if own is not None else None
        return near(new or made, olds, {**known_names(owner.secret), **digests.names}, Leaves())


def _of_another_form(key: Key, before: Note) -> Near:
    """The same question, asked before in another form."""
    form = {"v": "form", "j": "stream", "s": "stream"}[key.form]
    return Near(before.name[:-1].hex(), before.at, [Difference(form, "form")])


class Leaves(dict[bytes, frozenset[bytes] | None]):
    """The leaves of packed trees, None of what is none. Of many misses, each earlier tree is unpacked once."""

    def __missing__(self, packed: bytes) -> frozenset[bytes] | None:
        tree = tree_of(packed)
        self[packed] = found = None if tree is None else frozenset(leaves(tree))
        return found


def near(new: Node | None, olds: Sequence[Note], names: dict[bytes, str], met: Leaves) -> Near | None:
    """The nearest of several notes."""
    if new is None:
        return None
    whole = [(one, theirs) for one in olds if (theirs := met[one.seen.tree]) is not None]
    few = [whole[at][0] for at in likest(frozenset(leaves(new)), [theirs for _, theirs in whole])]
    trees = [tree for one in few if (tree := tree_of(one.seen.tree)) is not None]
    found = nearest(new, trees, lambda name: names.get(name, "?"))
    if found is None:
        return None
    note = few[found.at]
    return Near(note.name[:-1].hex(), note.at, found.differences or [Difference("body", "value")])


def tree_of(packed: bytes) -> Node | None:
    """The digests of a request; None if there are none."""
    try:
        return unpacked(packed) if packed else None
    except ValueError:
        return None


def past_of(note: Note, *, valid: bool) -> Past:
    """What a note says of the last call for a question."""
    seen = note.seen
    return Past(note.at, seen.unstored, seen.failed, note.at + seen.fresh, note.at + seen.hard, valid)


def _older(one: Note, other: Note) -> bool:
    return one.at <= other.at and one.seen.flight != other.seen.flight


def _fields(look: Look) -> set[int]:
    """The fields of the entry's own labels."""
    try:
        return set() if look.entry is None else set(entry_fields(look.entry, read_head(look.entry)))
    except Corrupt:
        return set()


def _taken(head: Head, limits: Limits) -> tuple[int, int]:
    """Until when a lookup with these limits takes an entry as fresh, and until when at all, if upstream is well."""
    fresh, end = taken_until(head, limits._replace(max_stale=0)), min(taken_until(head, limits), head.hard)
    stale = end if limits.min_fresh else max(windows(head, limits).stale, end)
    return min(fresh, end), stale if limits.max_age == NEVER else min(stale, head.created + limits.max_age)


def _stored(key: Key, look: Look, plan: Plan | None) -> Stored | None:
    """The entry, if it is one that a reader would serve."""
    if look.entry is None:
        return None
    try:
        head = read_entry(look.entry, key.digest, key.form)
        took = int.from_bytes(unpack_extensions(look.entry, head).get(DURATION, b"")[:8], "big") / 1000
        alive = valid(Snapshot(head.epoch, head.clock), entry_fields(look.entry, head), look.generations)
    except Corrupt:
        return None
    fresh, stale = (head.fresh, head.stale) if plan is None else _taken(head, plan.limits)
    return Stored(head.created, fresh, stale, took, alive)
