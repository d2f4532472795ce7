"""The table of a near cache: answers in this process, each of which a server tells to be changed when it is.

A slot is opened before its read is sent, and filled in place when the reply comes. Whatever voids a key (the server's
notice, a write of this process, a lost connection) takes its slot out of the table. So a read that was voided on its
way fills a slot that nothing can find, in whatever order notice, write and reply are met; no lock and no comparison is
needed. The generations of a partition are kept in the same way.

What a connection has told is complete up to its last proof: a command that was sent at that time and answered. Who
looks therefore compares the time of the proof first, and reads the table after that (`Part.proof`).

One thread, the connection's, opens, fills and evicts. Any thread may look and void: each of its steps is one step of a
dict or a deque.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict, deque
from collections.abc import Iterable

from askonce.core.keys import Key
from askonce.core.lease import Generations, valid
from askonce.core.model import Head, Snapshot
from askonce.core.providers.named_tuples import NamedTuple

OVERHEAD = 1536  # bytes of a kept answer besides its own: head, key, names, places in dicts (measured: 1,000)
FIELD = 128  # bytes of a field whose generation is known
SEEN = 128  # bytes of a key that was seen once
LARGEST = 16  # an answer may have this part of the whole
PER_SEEN = 8192  # bytes of the bound for each key that is remembered as seen once, twice over
FIELDS_MOST = 512  # fields known of one partition


class Standing(NamedTuple):
    """The generations of a partition; `known`: the fields whose last move is in them, if they ever moved."""

    generations: Generations
    known: frozenset[int]


class Kept:
    """A verified answer. `fields`: its own tags'. `passed`: what it was last found valid for (see `stands`)."""

    __slots__ = ("answer", "fields", "passed")

    def __init__(self, entry: bytes, head: Head, fields: tuple[int, ...]) -> None:
        self.answer = (entry, head)
        self.fields = fields
        self.passed: tuple[Standing | None, tuple[int, ...]] = (None, ())

    def stands(self, standing: Standing, asked: tuple[int, ...]) -> bool:
        """Whether no invalidation reached it, for a caller with these tags; False if that is not known."""
        passed = self.passed
        if passed[0] is standing and passed[1] == asked:
            return True
        head, fields = self.answer[1], {*self.fields, *asked}
        if head.clock != standing.generations.clock and not fields <= standing.known:
            return False
        if not valid(Snapshot(head.epoch, head.clock), fields, standing.generations):
            return False
        self.passed = (standing, asked)
        return True


class Slot:
    """The place of one answer, from before it is read: `kept` is None until then. `part`: whose notices concern it."""

    __slots__ = ("kept", "key", "name", "part", "size", "visited")

    def __init__(self, key: Key, name: bytes, part: Part, size: int) -> None:
        self.key = key
        self.name = name
        self.part = part
        self.size = size
        self.visited = False
        self.kept: Kept | None = None


class Place:
    """The place of a partition's generations, from before they are read."""

    __slots__ = ("standing",)

    def __init__(self) -> None:
        self.standing: Standing | None = None


class Part:
    """What one connection is told about. `proof`: up to when (s) it has told all, and the server's time then (us)."""

    __slots__ = ("places", "proof")

    def __init__(self, partitions: int) -> None:
        self.proof: tuple[float, int] = (-math.inf, 0)
        self.places: list[Place | None] = [None] * partitions

    def standing(self, partition: int) -> Standing | None:
        """The generations of a partition, if they are known."""
        place = self.places[partition]
        return place.standing if place is not None else None

    def open(self, partition: int) -> Place:
        """A place for what is about to be read."""
        place = self.places[partition] = Place()
        return place

    def move(self) -> None:
        """Forget all generations."""
        for partition in range(len(self.places)):
            self.places[partition] = None


class Seen:
    """The keys that were seen once lately: at most twice `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: set[int] = set()
        self._old: set[int] = set()

    def total(self) -> int:
        """What they take, bytes."""
        return SEEN * (len(self._young) + len(self._old))

    def again(self, key: Key) -> bool:
        """Note a key; whether it had been seen."""
        digest = hash(key)
        if digest in self._young or digest in self._old:
            return True
        if len(self._young) >= self._size:
            self._old, self._young = self._young, set()
        self._young.add(digest)
        return False


class Table:
    """The answers, bounded in bytes. What is evicted first: the oldest that was not looked at since it was passed by.

    An answer that was looked at gets another turn (SIEVE's one bit, with the hand at the old end): a hit moves nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.slots: OrderedDict[Key, Slot] = OrderedDict()
        self.seen = Seen(max(16, limit // PER_SEEN // 2))
        self.evicted = 0
        self._size = 0
        self._fields: dict[Part, int] = {}
        self._keys: dict[bytes, Key] = {}  # by the names that the server says
        self._voided: deque[Slot] = deque()  # taken out by other threads, and not subtracted yet

    @property
    def largest(self) -> int:
        """The most bytes that an entry may have to be kept."""
        return self.limit // LARGEST - OVERHEAD

    def total(self) -> int:
        """What it takes, bytes."""
        return self._size + self.seen.total() + sum(list(self._fields.values()))

    # of any thread

    def void(self, key: Key) -> None:
        """Take a key out, also one that is being read."""
        if (slot := self.slots.pop(key, None)) is not None:
            self._voided.append(slot)

    # of the connection's thread

    def open(self, key: Key, name: bytes, part: Part, size: int) -> Slot:
        """A slot for an entry of about this size, which is about to be read."""
        self._tidy()
        self.void(key)
        self._tidy()
        slot = Slot(key, name, part, size + OVERHEAD)
        self._keys[name] = key
        self._size += slot.size
        self.slots[key] = slot
        self._make_room()
        return slot

    def fill(self, slot: Slot, kept: Kept) -> None:
        """Fill a slot. If it was voided meanwhile, nothing can find it."""
        if self.slots.get(slot.key) is not slot:
            return
        grown = len(kept.answer[0]) + OVERHEAD - slot.size
        slot.size += grown
        self._size += grown
        if slot.size > self.limit // LARGEST:
            self.drop(slot)
            return
        slot.kept = kept
        self._make_room()

    def drop(self, slot: Slot) -> None:
        """Take this very slot out, if it is still there: its read found nothing that can be kept."""
        if self.slots.get(slot.key) is slot:
            self.void(slot.key)
        self._tidy()

    def told(self, name: bytes) -> None:
        """The server says that the entry of this name has changed."""
        if (key := self._keys.get(name)) is not None:
            self.void(key)
            self._tidy()

    def lose(self, part: Part, partitions: Iterable[int] | None = None) -> None:
        """Take out all that this part was told about, or only its answers in these partitions (by digest[0])."""
        some = None if partitions is None else set(partitions)
        for slot in list(self.slots.values()):
            if slot.part is part and (some is None or slot.key.digest[0] % len(part.places) in some):
                self.void(slot.key)
        self._tidy()

    def know(self, part: Part) -> None:
        """Count what a part's generations take."""
        known = [place.standing for place in part.places if place is not None]
        self._fields[part] = FIELD * sum(len(one.known) for one in known if one is not None)

    def forget(self, part: Part) -> None:
        """A part is over."""
        self.lose(part)
        self._fields.pop(part, None)
        if not (self.slots or self._voided):
            self._size = 0

    def _make_room(self) -> None:
        turns = 2 * len(self.slots)
        while self.total() > self.limit and self.slots and turns:
            turns -= 1
            self._pass_by()

    def _pass_by(self) -> None:
        # Never taken out and put back: another thread may void it in between.
        with contextlib.suppress(KeyError, RuntimeError, StopIteration):  # another thread voided the oldest one
            key = next(iter(self.slots))
            slot = self.slots[key]
            if slot.visited:
                slot.visited = False
                self.slots.move_to_end(key)
            else:
                self.void(key)
                self.evicted += 1
        self._tidy()

    def _tidy(self) -> None:
        while self._voided:
            self._subtract(self._voided.popleft())

    def _subtract(self, slot: Slot) -> None:
        self._size -= slot.size
        slot.kept, slot.size = None, 0
        if self._keys.get(slot.name) == slot.key and slot.key not in self.slots:
            del self._keys[slot.name]
