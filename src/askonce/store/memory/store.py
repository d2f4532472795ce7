"""MemoryStore: the store of one process. For tests, for scripts, and where nothing may be left behind.

A Memory is the data and its lock; a store is a view of it under one prefix and one clock. ``memory://name`` is shared
by all stores of the process with that name, while one of them lives; ``memory://`` is private. The lock is held for
microseconds, and never while anything waits, so an async cache takes it inline too.

It is bounded: entries and tapes together stay under `max_bytes`. Expired data goes first, then the entries that save
least (core.eviction), then tapes.
"""

# ruff: noqa: D102 - the contract documents the verbs, and the order of their arguments

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from askonce.core import lease as rules
from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Generations, Lease, Slot
from askonce.core.model import DATES_AT, FORMS, HEAD_SIZE, Dates, Lifetime, Sealed, pack_dates
from askonce.core.notes import RING, Note, Noted
from askonce.core.tallies import Push, Tallied, first
from askonce.core.tape import Ending, Notice
from askonce.core.wording import whole
from askonce.errors import ConfigError
from askonce.runtime.wakeup import Wakeup
from askonce.store import (
    LOG_LIFE,
    TAPE_LIFE,
    Clock,
    Held,
    Link,
    Look,
    Near,
    Record,
    Running,
    StoreTrouble,
    Works,
    ledger,
    machine_clock,
)
from askonce.store.memory.data import Hits, Kept, Memory, memory_of

MAX_BYTES = 256 * 2**20
LEAST = 4096
T = TypeVar("T")


class _Open:
    """The Ledger of a memory: a view under the lock."""

    def __init__(self, memory: Memory, realm: int, now_us: int) -> None:
        self.now_us = now_us
        self.now = now_us // 1000
        self._memory = memory
        self._realm = realm
        memory.sweep(self.now)

    def adopt(self, key: Key) -> None:
        kept = self._memory.entries.get(key.name)
        self._realm = kept.realm if kept else self._realm

    def slot(self, key: Key) -> Slot:
        name = key.name
        kept = self._memory.entries.get(name)
        head, fields = ledger.header(kept.data if kept else None, key)
        # A link renews for every prefix of the process: the lease knows whose generations it was granted under.
        self._realm, lease = self._memory.leases.get(name, (self._realm, None))
        return Slot(head, fields, lease, self._memory.realms.get(self._realm, Generations()))

    def put_lease(self, key: Key, lease: Lease | None) -> None:
        name = key.name
        if lease is None:
            self._memory.leases.pop(name, None)
        else:
            self._memory.leases[name] = (self._realm, lease)

    def put_generations(self, generations: Generations) -> None:
        self._memory.realms[self._realm] = generations

    def put_entry(self, key: Key, sealed: Sealed, dates: Dates) -> bool:
        name = key.name
        if not self._memory.make_room(sealed.size, self.now):
            return False
        data = sealed.dated(dates)
        self._memory.places.store(name, ledger.worth_of(data, len(data)), self.now)
        self._memory.keep(self._memory.entries, name, Kept(data, max(dates[1:]), self._realm))
        return True

    def put_dates(self, key: Key, dates: Dates) -> None:
        name = key.name
        kept = self._memory.entries[name]
        moved = kept.data[:DATES_AT] + pack_dates(dates) + kept.data[HEAD_SIZE:]
        self._memory.keep(self._memory.entries, name, kept._replace(data=moved, ends=max(dates[1:])))

    def put_tape(self, key: Key, flight: bytes, order: int, log: bytes) -> None:
        name = ledger.tape_name(key, flight, order)
        if self._tape(name) is None and self._memory.make_room(len(log), self.now):
            self._memory.keep(self._memory.tapes, name, Kept(log, self.now + TAPE_LIFE, self._realm))

    def _tape(self, name: bytes) -> Kept | None:
        kept = self._memory.tapes.get(name)
        return kept if kept and self.now < kept.ends else None

    def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        if not self._memory.make_room(len(data), self.now):
            raise StoreTrouble("store-full", f"a log does not fit into {self._memory.max_bytes} bytes")
        name = ledger.tape_name(key, flight, order)
        kept = self._tape(name) or Kept(b"", self.now + LOG_LIFE, self._realm)
        length = len(kept.data)
        if new := ledger.unsaid(length, offset, data):
            self._memory.keep(self._memory.tapes, name, kept._replace(data=kept.data + new))
            self.say(key, ledger.said(flight, order, length, new))
        return length + len(new)

    def say(self, key: Key, notice: Notice) -> None:
        for link in list(self._memory.links):
            link.notify(key, notice)

    # verbs without a decision

    def count(self, key: Key, hits: int, window: int) -> int:
        name = key.name
        old = self._memory.hits.get(name)
        row = ledger.counted(old.row if old and self.now < old.ends else None, hits, window, self.now)
        kept = self._memory.entries.get(name)
        self._memory.count(name, Hits(row, self.now + window, kept.realm if kept else self._realm))
        return row[1] + row[2]

    def forget(self, key: Key) -> None:
        for form in FORMS:
            name = key.digest + form.encode()
            self._memory.drop(self._memory.entries, name)
            self._memory.leases.pop(name, None)

    def note(self, notes: Sequence[Note]) -> None:
        for one in notes:
            self._memory.notes.add(one, self.now, self._memory.max_bytes)

    def invalidate(self, fields: Sequence[int], everything: bool) -> None:
        generations = self._memory.realms.get(self._realm, Generations())
        self.put_generations(rules.invalidate(generations, fields, everything))

    def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        after, met = self._memory.step(cursor, count)
        return after, [Record(name, _header(one.data), len(one.data)) for name, one in met if one.realm == self._realm]

    def discard(self, seen: Sequence[Record]) -> int:
        entries = self._memory.entries
        same = [one.name for one in seen if one.name in entries and _same(entries[one.name].data, one.header)]
        for name in same:
            self._memory.drop(entries, name)
        return len(same)

    def flights(self, count: int) -> list[Running]:
        leases = self._memory.leases.items()
        here = ((ledger.key_of(name), lease) for name, (realm, lease) in leases if realm == self._realm)
        running = sorted((one for one in here if rules.flying(one[1], self.now)), key=lambda one: one[1].expire)
        return [ledger.running(key, lease, self._memory.listening(key)) for key, lease in running[:count]]


_FENCE = slice(40, 64)  # fill id and order in an entry (core.model)


def _header(data: bytes) -> bytes:
    return data[: int.from_bytes(data[4:8], "big")]


def _same(data: bytes, header: bytes) -> bool:
    return data[_FENCE] == header[_FENCE]


_anonymous = itertools.count(1)


class MemoryStore:
    """A prefix's view of a Memory."""

    kind = "memory"
    near: Near | None = None

    def __init__(self, memory: Memory, address: str, prefix: str, clock: Clock, *, asynchronous: bool = False) -> None:
        self.address = address
        self._asynchronous = asynchronous
        self._memory = memory
        self.prefix = prefix
        self._realm = ledger.realm(prefix)
        self._clock = clock
        self.visits = memory.visits

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "",
        asynchronous: bool = False,
        max_bytes: object = MAX_BYTES,
        clock: Clock | None = None,
        **unknown: object,
    ) -> Self:
        """``memory://`` is private, ``memory://name`` is shared in the process. `clock` returns microseconds."""
        parts = urlsplit(url)
        if unknown:
            raise ConfigError(ledger.unknown_options("memory", unknown, ("max_bytes", "clock")))
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ConfigError(f"{whole(url)}: write memory:// for a separate memory, or memory://name for a shared one")
        room = ledger.bytes_option(max_bytes, LEAST)
        ledger.check_clock(clock)
        name = parts.netloc
        address = f"memory://{name or f'#{next(_anonymous)}'}"
        return cls(memory_of(name, room), address, prefix, clock or machine_clock, asynchronous=asynchronous)

    def _do(self, verb: Callable[[_Open], T]) -> T:
        """Run a verb under the lock."""
        return self._memory.do(lambda: verb(_Open(self._memory, self._realm, self._clock())))

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        return self.at_hand(key, fields)

    def at_hand(self, key: Key, fields: Sequence[int]) -> Look:
        del fields  # all of them are read
        # Generations only move forward, and so do entries. Read first, they may say too early that an entry moved, but
        # never too late. So a hit needs no lock.
        generations = self._memory.realms.get(self._realm) or Generations()
        kept = self._memory.entries.get(key.name)
        return Look(kept.data if kept else None, generations, self._clock())

    async def claim(self, key: Key, ask: Ask) -> Claim:
        return self._do(lambda opened: ledger.claim(opened, key, ask))

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        return self._do(lambda opened: ledger.fill(opened, key, flight, order, sealed, life))

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        self._do(lambda opened: ledger.release(opened, key, flight, order, ending, failed=failed, hint=hint))

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        return self._do(lambda opened: ledger.extend(opened, key, flight, order, hot_ttl, cap))

    async def count(self, key: Key, hits: int, window: int) -> int:
        return self._do(lambda opened: opened.count(key, hits, window))

    async def tell(self, count: int) -> None:
        self._memory.do(lambda: self._memory.visited(self._memory.visits.take(count)))

    async def tally(self, push: Push) -> None:
        self._memory.do(lambda: self._memory.tallies.add(push, self._clock() // 1000))

    async def tallied(self, table: str, back: int) -> tuple[int, list[Tallied]]:
        now = self._clock() // 1000
        return now, self._memory.do(lambda: self._memory.tallies.read(self._realm, table, first(table, now, back)))

    async def entry(self, key: Key) -> bytes | None:
        kept = self._memory.entries.get(key.name)
        return kept.data if kept else None

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        kept = self._memory.tapes.get(ledger.tape_name(key, flight, order))
        return kept.data[start:] if kept and self._clock() // 1000 < kept.ends else None

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        return self._do(lambda opened: opened.append(key, flight, order, offset, data))

    async def note(self, notes: Sequence[Note]) -> None:
        self._do(lambda opened: opened.note(notes))

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Noted]:
        return self._memory.do(lambda: self._memory.notes.read(self._realm, owner, name, count))

    async def forget(self, key: Key) -> None:
        self._do(lambda opened: opened.forget(key))

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        self._do(lambda opened: opened.invalidate(fields, everything))

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        if self._asynchronous:
            import asyncio  # late: a sync cache needs none

            await asyncio.sleep(0)  # a walk has many steps, and no other one suspends
        return self._do(lambda opened: opened.scan(cursor, count))

    async def flights(self, count: int) -> list[Running]:
        return self._do(lambda opened: opened.flights(count))

    async def standing(self) -> Sequence[Generations]:
        return [self._memory.realms.get(self._realm, Generations())]

    async def discard(self, seen: Sequence[Record]) -> int:
        return self._do(lambda opened: opened.discard(seen))

    async def raze(self, count: int) -> int:
        return self._memory.do(lambda: self._memory.raze(self._realm, count))

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        del reads
        return [await ledger.met(work(self)) for work in works]

    def primary(self, key: Key) -> str:
        del key
        return ""

    def primaries(self) -> Sequence[str]:
        return ("",)

    def connected(self, key: Key) -> bool:
        del key
        return True

    def reconnect(self, primary: str) -> None:
        """Do nothing: there are no connections."""

    def link(self) -> Link:
        return MemoryLink(self._memory, self._realm, self._clock)

    def blocking(self) -> MemoryStore:
        """Itself: it never suspends, and closing it closes nothing."""
        return self

    def after_fork(self) -> None:
        """Do nothing: the hooks below lock every memory during a fork, so the copy is complete."""

    async def close(self) -> None:
        """Do nothing: a memory ends with the last store that uses it."""


class MemoryLink:
    """The sender puts notices straight into this link's inbox."""

    trouble: StoreTrouble | None = None

    def __init__(self, memory: Memory, realm: int, clock: Clock) -> None:
        self._memory = memory
        self._realm = realm
        self._clock = clock
        self._keys: set[Key] = set()
        self._fresh: list[Key] = []
        self._inbox: deque[tuple[Key, Notice]] = deque()
        self._wakeup = Wakeup()
        memory.do(lambda: memory.links.add(self))

    def _do(self, verb: Callable[[_Open], T]) -> T:
        return self._memory.do(lambda: verb(_Open(self._memory, self._realm, self._clock())))

    def notify(self, key: Key, notice: Notice) -> None:
        """Take a notice about any key, in the thread that sent it."""
        if key in self._keys:
            self._inbox.append((key, notice))
            self._wakeup.set()

    def listens(self, key: Key) -> bool:
        """Whether it wants the notices about a key."""
        return key in self._keys

    def subscribe(self, key: Key) -> None:
        self._keys.add(key)
        self._fresh.append(key)

    def unsubscribe(self, key: Key) -> None:
        self._keys.discard(key)

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        if not (self._inbox or self._fresh):
            self._wakeup.wait(timeout)
        notices = [self._inbox.popleft() for _ in range(len(self._inbox))]
        ready, self._fresh = self._fresh, []
        return notices, ready

    def wake(self) -> None:
        self._wakeup.set()

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        return self._do(lambda opened: ledger.renew(opened, held, heartbeat))

    def say(self, key: Key, notice: Notice) -> None:
        self._do(lambda opened: opened.say(key, notice))

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        for key, notice in said:
            self.say(key, notice)

    def probe(self) -> None:
        """Do nothing: a memory is never in trouble."""

    def close(self) -> None:
        self._memory.do(lambda: self._memory.links.discard(self))
