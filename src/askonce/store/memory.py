"""MemoryStore: the store of one process. For tests, for scripts, and for whoever wants nothing left behind.

A Memory is the data and its lock; a store is a view of it under one prefix and one clock. ``memory://name`` names a
memory that all stores of the process share for as long as one of them lives, ``memory://`` is one's own. The lock is
held for microseconds and never while anything waits, so an asynchronous cache takes it inline too.

Bounded: entries and tapes together stay under `max_bytes`. What is expired goes first, then what was touched longest
ago: entries are kept in the order of their last touch, which a dict gives for nothing. A forked child has a copy.
"""

# ruff: noqa: D102 - what a verb does, and the order of its arguments, is the contract's to say

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from askonce.core import lease as rules
from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Generations, Lease, Slot
from askonce.core.model import DATES_AT, FORMS, HEAD_SIZE, Dates, Lifetime, Sealed, pack_dates
from askonce.core.tape import FAILED, Ending, Word
from askonce.errors import ConfigError
from askonce.store import TAPE_LIFE, Held, Link, Look, ledger

MAX_BYTES = 256 * 2**20
LEAST = 4096
PIECE = 200  # bytes that an entry costs beside its own
SWEEP = 5_000  # ms between two looks for what is over

Clock = Callable[[], int]


def machine_clock() -> int:
    """Microseconds since 1970, as the machine believes."""
    return time.time_ns() // 1000


class _Kept(NamedTuple):
    """An entry or a tape, and when it can serve nobody any more (ms)."""

    data: bytes
    ends: int


class _Hits(NamedTuple):
    """A hit counter (ledger.counted), and when nobody will ask for it (ms)."""

    row: tuple[int, int, int]
    ends: int


class Memory:
    """The data, its lock, and the links that want words. Its methods are called under the lock."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self.entries: dict[bytes, _Kept] = {}
        self.leases: dict[bytes, tuple[int, Lease]] = {}
        self.realms: dict[int, Generations] = {}
        self.tapes: dict[bytes, _Kept] = {}
        self.hits: dict[bytes, _Hits] = {}
        self.links: weakref.WeakSet[MemoryLink] = weakref.WeakSet()
        self.size = 0
        self._swept = 0
        _memories.add(self)

    def keep(self, shelf: dict[bytes, _Kept], name: bytes, kept: _Kept) -> None:
        """Put an entry or tape where its age puts it, last."""
        self.drop(shelf, name)
        shelf[name] = kept
        self.size += len(kept.data) + PIECE

    def drop(self, shelf: dict[bytes, _Kept], name: bytes) -> None:
        """Take an entry or tape away, if it is there."""
        kept = shelf.pop(name, None)
        if kept is not None:
            self.size -= len(kept.data) + PIECE

    def touch(self, name: bytes) -> None:
        """An entry was used: the last to be evicted."""
        kept = self.entries.pop(name, None)
        if kept is not None:
            self.entries[name] = kept

    def make_room(self, size: int, now: int) -> bool:
        """Whether so many bytes fit, after evicting what has to go."""
        if size + PIECE > self.max_bytes:
            return False
        if self.size + size + PIECE > self.max_bytes:
            self.sweep(now)
        for shelf in (self.entries, self.tapes):
            while shelf and self.size + size + PIECE > self.max_bytes:
                self.drop(shelf, next(iter(shelf)))
        return True

    def sweep(self, now: int) -> None:
        """Forget what is over."""
        if 0 <= now - self._swept < SWEEP:
            return
        self._swept = now
        for shelf in (self.entries, self.tapes):
            for name in [name for name, kept in shelf.items() if kept.ends <= now]:
                self.drop(shelf, name)
        for name in [name for name, (_, lease) in self.leases.items() if lease.expire <= now]:
            del self.leases[name]
        for name in [name for name, hits in self.hits.items() if hits.ends <= now]:
            del self.hits[name]


_memories: weakref.WeakSet[Memory] = weakref.WeakSet()
_named: weakref.WeakValueDictionary[str, Memory] = weakref.WeakValueDictionary()
_naming = threading.Lock()
_anonymous = itertools.count(1)


def _memory(name: str, max_bytes: int) -> Memory:
    with _naming:
        memory = _named.get(name) if name else None
        if memory is None:
            memory = Memory(max_bytes)
            if name:
                _named[name] = memory
        memory.max_bytes = max(memory.max_bytes, max_bytes)
        return memory


class _Open:
    """The Ledger of a memory: a view under the lock."""

    def __init__(self, memory: Memory, realm: int, now_us: int) -> None:
        self.now_us = now_us
        self.now = now_us // 1000
        self._memory = memory
        self._realm = realm
        memory.sweep(self.now)

    def slot(self, key: Key) -> Slot:
        name = ledger.name_of(key)
        kept = self._memory.entries.get(name)
        head, fields = ledger.header(kept.data if kept else None, key)
        # A link renews for every prefix of the process: the lease knows whose generations it was granted under.
        self._realm, lease = self._memory.leases.get(name, (self._realm, None))
        return Slot(head, fields, lease, self._memory.realms.get(self._realm, Generations()))

    def put_lease(self, key: Key, lease: Lease | None) -> None:
        name = ledger.name_of(key)
        if lease is None:
            self._memory.leases.pop(name, None)
        else:
            self._memory.leases[name] = (self._realm, lease)

    def put_generations(self, generations: Generations) -> None:
        self._memory.realms[self._realm] = generations

    def put_entry(self, key: Key, sealed: Sealed, dates: Dates) -> bool:
        name = ledger.name_of(key)
        if not self._memory.make_room(sealed.size, self.now):
            return False
        self._memory.keep(self._memory.entries, name, _Kept(sealed.dated(dates), max(dates[1:])))
        return True

    def put_dates(self, key: Key, dates: Dates) -> None:
        name = ledger.name_of(key)
        data = self._memory.entries[name].data
        moved = data[:DATES_AT] + pack_dates(dates) + data[HEAD_SIZE:]
        self._memory.keep(self._memory.entries, name, _Kept(moved, max(dates[1:])))

    def put_tape(self, key: Key, flight: bytes, order: int, log: bytes) -> None:
        if self._memory.make_room(len(log), self.now):
            self._memory.keep(self._memory.tapes, _tape_name(key, flight, order), _Kept(log, self.now + TAPE_LIFE))

    def say(self, key: Key, word: Word) -> None:
        for link in self._memory.links:
            link.hear(key, word)


def _tape_name(key: Key, flight: bytes, order: int) -> bytes:
    return ledger.name_of(key) + flight + order.to_bytes(8, "big")


class MemoryStore:
    """A prefix's view of a Memory."""

    kind = "memory"

    def __init__(self, memory: Memory, address: str, prefix: str, clock: Clock) -> None:
        self.address = address
        self._memory = memory
        self._realm = ledger.realm(prefix)
        self._clock = clock

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
        """``memory://`` is private, ``memory://name`` shared within the process. `clock` gives microseconds."""
        del asynchronous  # nothing here blocks for longer than a lookup takes
        parts = urlsplit(url)
        if unknown:
            raise ConfigError(f"memory:// has no option {', '.join(unknown)}: it knows max_bytes and clock")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ConfigError(f"{url!r}: write memory:// for a memory of one's own, memory://name for a shared one")
        room = ledger.bytes_option(max_bytes, LEAST)
        name = parts.netloc
        address = f"memory://{name or f'#{next(_anonymous)}'}"
        return cls(_memory(name, room), address, prefix, clock or machine_clock)

    def _open(self) -> _Open:
        return _Open(self._memory, self._realm, self._clock())

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        del fields  # all of them are at hand
        with self._memory.lock:
            kept = self._memory.entries.get(ledger.name_of(key))
            generations = self._memory.realms.get(self._realm) or Generations()
            return Look(kept.data if kept else None, generations, self._clock())

    async def claim(self, key: Key, ask: Ask) -> Claim:
        with self._memory.lock:
            return ledger.claim(self._open(), key, ask)

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        with self._memory.lock:
            return ledger.fill(self._open(), key, flight, order, sealed, life)

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        with self._memory.lock:
            ledger.release(self._open(), key, flight, order, ending, failed=failed, hint=hint)

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        with self._memory.lock:
            return ledger.extend(self._open(), key, flight, order, hot_ttl, cap)

    async def count(self, key: Key, hits: int, window: int) -> int:
        name = ledger.name_of(key)
        with self._memory.lock:
            now = self._open().now
            old = self._memory.hits.get(name)
            row = ledger.counted(old.row if old and now < old.ends else None, hits, window, now)
            self._memory.hits[name] = _Hits(row, now + window)
            self._memory.touch(name)
            return row[1] + row[2]

    async def entry(self, key: Key) -> bytes | None:
        with self._memory.lock:
            kept = self._memory.entries.get(ledger.name_of(key))
            return kept.data if kept else None

    async def tape(self, key: Key, flight: bytes, order: int) -> bytes | None:
        with self._memory.lock:
            kept = self._memory.tapes.get(_tape_name(key, flight, order))
            return kept.data if kept and self._clock() // 1000 < kept.ends else None

    async def forget(self, key: Key) -> None:
        with self._memory.lock:
            for form in FORMS:
                name = key.digest + form.encode()
                self._memory.drop(self._memory.entries, name)
                self._memory.leases.pop(name, None)

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        with self._memory.lock:
            opened = self._open()
            generations = self._memory.realms.get(self._realm, Generations())
            opened.put_generations(rules.invalidate(generations, fields, everything))

    def link(self) -> Link:
        return MemoryLink(self._memory, self._realm, self._clock)

    def blocking(self) -> MemoryStore:
        """Itself: it never suspends, and closing it closes nothing."""
        return self

    def after_fork(self) -> None:
        """Nothing to do: the hooks below hold every memory still across a fork, so the copy is whole."""

    async def close(self) -> None:
        """Nothing to close: a memory is gone with the last store that shows it."""


class MemoryLink:
    """Words come straight from whoever says them: a condition, an inbox."""

    def __init__(self, memory: Memory, realm: int, clock: Clock) -> None:
        self._memory = memory
        self._realm = realm
        self._clock = clock
        self._keys: set[Key] = set()
        self._fresh: list[Key] = []
        self._inbox: list[tuple[Key, Word]] = []
        self._woken = False
        self._news = threading.Condition()
        with memory.lock:
            memory.links.add(self)

    def _open(self) -> _Open:
        return _Open(self._memory, self._realm, self._clock())

    def hear(self, key: Key, word: Word) -> None:
        """A word was said, in whatever thread, about whatever key."""
        with self._news:
            if key in self._keys:
                self._inbox.append((key, word))
                self._news.notify()

    def subscribe(self, key: Key) -> None:
        with self._news:
            self._keys.add(key)
            self._fresh.append(key)

    def unsubscribe(self, key: Key) -> None:
        with self._news:
            self._keys.discard(key)

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Word]], list[Key]]:
        with self._news:
            self._news.wait_for(lambda: self._inbox or self._fresh or self._woken, timeout)
            words, self._inbox = self._inbox, []
            ready, self._fresh = self._fresh, []
            self._woken = False
            return words, ready

    def wake(self) -> None:
        with self._news:
            self._woken = True
            self._news.notify()

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        with self._memory.lock:
            return ledger.renew(self._open(), held, heartbeat)

    def release(self, key: Key, flight: bytes) -> None:
        with self._memory.lock:
            ledger.release(self._open(), key, flight, 0, Ending(FAILED))

    def say(self, key: Key, word: Word) -> None:
        with self._memory.lock:
            self._open().say(key, word)

    def probe(self) -> None:
        """A memory is never in trouble."""

    def close(self) -> None:
        with self._memory.lock:
            self._memory.links.discard(self)


_stilled: list[threading.Lock] = []


def _before_fork() -> None:
    # Bounded: a fork from a signal handler may find its own thread holding a lock. The child then starts afresh.
    if _naming.acquire(timeout=1.0):
        _stilled.append(_naming)
    _stilled.extend(memory.lock for memory in list(_memories) if memory.lock.acquire(timeout=1.0))


def _after_in_parent() -> None:
    while _stilled:
        _stilled.pop().release()


def _after_in_child() -> None:
    global _naming  # noqa: PLW0603
    _stilled.clear()
    _naming = threading.Lock()
    for memory in list(_memories):
        memory.lock = threading.Lock()
        memory.links.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
