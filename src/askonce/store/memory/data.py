"""A Memory: the data that stores of one process with one name share, its lock, and its listeners.

What is evicted when it is full is decided by core.eviction. A forked child has a copy. Every memory is locked during a
fork, so that the copy is complete.
"""

from __future__ import annotations

import itertools
import struct
import weakref
from collections.abc import Callable
from typing import Protocol, TypeVar

from askonce.core.eviction import OVERHEAD
from askonce.core.hot_keys import Visits
from askonce.core.keys import Key
from askonce.core.lease import Generations, Lease
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.tape import Notice
from askonce.runtime.forks import around_forks
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.store import StoreTrouble, ledger
from askonce.store.memory.notes import Rings
from askonce.store.memory.places import GHOST, Places
from askonce.store.memory.tallies import Tallies

T = TypeVar("T")
SMALL = 200  # bytes that a lease or counter costs altogether
SWEEP = 5_000  # ms between two sweeps
_PLACE = struct.Struct(">QQ")  # of a walk: the entries behind it, and how many had been deleted until then


class Kept(NamedTuple):
    """An entry or tape, and when it can serve no lookup any more (ms)."""

    data: bytes
    ends: int
    realm: int


class Hits(NamedTuple):
    """A hit counter (ledger.counted), and when it is no longer needed (ms)."""

    row: tuple[int, int, int]
    ends: int
    realm: int


class Listener(Protocol):
    """What is told of the notices that are sent."""

    def notify(self, key: Key, notice: Notice) -> None:
        """Take a notice about any key, in the thread that sent it."""

    def listens(self, key: Key) -> bool:
        """Whether it wants the notices about a key."""
        ...


class Memory:
    """The data, its lock, and the links that want notices. The lock is held while its methods run."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.lock = OwnedLock()
        self.entries: dict[bytes, Kept] = {}
        self.places = Places()  # of the entries
        self.visits = Visits()
        self.leases: dict[bytes, tuple[int, Lease]] = {}
        self.realms: dict[int, Generations] = {}
        self.tapes: dict[bytes, Kept] = {}
        self.hits: dict[bytes, Hits] = {}
        self.tallies = Tallies()
        self.notes = Rings()
        self.links: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.size = 0
        self.dropped = 0  # entries so far
        self._swept = 0
        _memories.add(self)

    def do(self, work: Callable[[], T]) -> T:
        """Run `work` under the lock; StoreTrouble if this thread already holds it further down."""
        try:
            return self.lock.run(work)
        except Busy as busy:
            raise StoreTrouble("store-error", f"the memory is {busy}", busy.at) from None

    def keep(self, table: dict[bytes, Kept], name: bytes, kept: Kept) -> None:
        """Store an entry or tape."""
        old = table.get(name) if table is self.entries else table.pop(name, None)  # a reader must not miss an entry
        self.size += len(kept.data) + OVERHEAD - (len(old.data) + OVERHEAD if old else 0)
        table[name] = kept

    def drop(self, table: dict[bytes, Kept], name: bytes) -> None:
        """Delete an entry or tape, if it is there."""
        kept = table.pop(name, None)
        if kept is not None:
            self.size -= len(kept.data) + OVERHEAD
        if table is self.entries:
            self.dropped += kept is not None
            self.places.drop(name)

    def count(self, name: bytes, hits: Hits) -> None:
        """Store hits of an entry. Its counter is now the last to be evicted."""
        self.hits.pop(name, None)
        self.hits[name] = hits
        while self.hits and self._over(0):
            del self.hits[next(iter(self.hits))]

    def _over(self, size: int) -> bool:
        """Whether `size` bytes more are too many, counted over all that is held here."""
        small = SMALL * (len(self.hits) + len(self.leases)) + GHOST * len(self.places.ghosts) + self.notes.size
        return self.size + small + size > self.max_bytes

    def make_room(self, size: int, now: int) -> bool:
        """Evict until `size` bytes fit; return whether they do."""
        size += OVERHEAD
        if size > self.max_bytes:
            return False
        if self._over(size):
            self.sweep(now)
        if self._over(size):
            self.evict(size, now)
        if self._over(size):
            self.places.ghosts.clear()
        while self.tapes and self._over(size):
            self.drop(self.tapes, next(iter(self.tapes)))
        while self.hits and self._over(size):
            del self.hits[next(iter(self.hits))]
        return not self._over(size)  # leases belong to flights under way, and expire

    def evict(self, size: int, now: int) -> None:
        """Delete the entries that save least, until `size` bytes fit."""
        self.visited(self.visits.take(len(self.visits)))
        while self._over(size) and self.evict_one(now) is not None:
            pass

    def evict_one(self, now: int) -> bytes | None:
        """Delete the entry that saves least; return its name, None if there is none."""
        name = self.places.victim(self._worth, now)
        if name is not None:
            length = len(self.entries[name].data) if name in self.entries else 0
            self.places.evict(name, length)
            self.drop(self.entries, name)
            self.places.forget(self.max_bytes)
        return name

    def visited(self, visits: list[tuple[Key, int]]) -> None:
        """Add visits to their entries."""
        for key, times in visits:
            name = key.name
            if name in self.entries:
                self.places.visit(name, times)

    def step(self, cursor: bytes, count: int) -> tuple[bytes, list[tuple[bytes, Kept]]]:
        """The next `count` entries of a walk in the order of the table, and its next cursor; b"" at both its ends.

        In the order of names, each step would look at all entries. What was deleted since the last step may have stood
        before its end, so the step begins so much earlier, and leaves out what it knows.
        """
        place, dropped = _PLACE.unpack_from(cursor) if cursor else (0, self.dropped)
        begin = max(0, place - (self.dropped - dropped))
        ahead = list(itertools.islice(self.entries.items(), begin, place + count))
        known = next((at for at, (name, _) in enumerate(ahead[: place - begin], 1) if name == cursor[_PLACE.size :]), 0)
        met = ahead[known : known + count]
        end = begin + known + len(met)
        return (_PLACE.pack(end, self.dropped) + met[-1][0] if len(met) == count else b""), met

    def listening(self, key: Key) -> int:
        """How many listeners want the notices about a key."""
        return sum(link.listens(key) for link in list(self.links))

    def _worth(self, name: bytes) -> int:
        kept = self.entries.get(name)
        return ledger.worth_of(kept.data, len(kept.data)) if kept else 1

    def sweep(self, now: int) -> None:
        """Delete what has expired."""
        if 0 <= now - self._swept < SWEEP:
            return
        self._swept = now
        for table in (self.entries, self.tapes):
            for name in [name for name, kept in table.items() if kept.ends <= now]:
                self.drop(table, name)
        # Counted anew: if an exception came between an entry and its size, the sum would stay wrong forever.
        self.size = sum(len(kept.data) + OVERHEAD for table in (self.entries, self.tapes) for kept in table.values())
        for name in [name for name, (_, lease) in self.leases.items() if lease.expire <= now]:
            del self.leases[name]
        for name in [name for name, hits in self.hits.items() if hits.ends <= now]:
            del self.hits[name]

    def raze(self, realm: int, count: int) -> int:
        """Delete about `count` of a prefix's data, its generations last. Return how much was deleted."""
        for table in (self.entries, self.tapes):
            names = [name for name, kept in table.items() if kept.realm == realm][:count]
            for name in names:
                self.drop(table, name)
            if names:
                return len(names)
        self.places.ghosts.clear()
        small = self._raze_small(realm) or self.tallies.raze(realm) or self.notes.raze(realm)
        return small or int(self.realms.pop(realm, None) is not None)

    def _raze_small(self, realm: int) -> int:
        leases = [name for name, (whose, _) in self.leases.items() if whose == realm]
        counters = [name for name, hits in self.hits.items() if hits.realm == realm]
        for name in leases:
            del self.leases[name]
        for name in counters:
            del self.hits[name]
        return len(leases) + len(counters)


_memories: weakref.WeakSet[Memory] = weakref.WeakSet()
_named: weakref.WeakValueDictionary[str, Memory] = weakref.WeakValueDictionary()
_naming = OwnedLock()
FORK_PATIENCE = 1.0  # s that a fork waits for the lock


def memory_of(name: str, max_bytes: int) -> Memory:
    """The memory of this name; a new one if the name is empty."""

    def found() -> Memory:
        memory = _named.get(name) if name else None
        if memory is None:
            memory = Memory(max_bytes)
            if name:
                _named[name] = memory
        memory.max_bytes = max(memory.max_bytes, max_bytes)
        return memory

    return _naming.nested(found)


def _before_fork() -> None:
    # Bounded: a fork from a signal handler may find that its own thread holds the lock.
    for lock in (_naming, *[memory.lock for memory in list(_memories)]):
        lock.pause(FORK_PATIENCE)


def _after_in_parent() -> None:
    for lock in (_naming, *[memory.lock for memory in list(_memories)]):
        lock.resume()


def _after_in_child() -> None:
    _after_in_parent()
    for memory in list(_memories):
        memory.links.clear()


around_forks(before=_before_fork, in_parent=_after_in_parent, in_child=_after_in_child)
