"""The near cache of one process over one Redis: hot answers in the process, voided by the server's notices.

A hit is served from here without any command. It is never older than LIMIT: the server had told all that changed up
to the last proof of the connection that is told (`tracking`), and a proof is believed for so long and no longer. So
nothing has to be noticed: a lost or half-dead connection, a busy background thread, a process that was frozen or a
machine that was suspended only let the proof grow old, and then every lookup goes to the server.

All caches of a process at one address share one near cache. It is filled by the connection of the background thread,
never by a caller: a reply that a caller reads on its own connection may be older than a notice.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection, Sequence

from askonce.core.keys import Key
from askonce.core.model import FORMS
from askonce.core.near import Kept, Part, Table
from askonce.core.providers.named_tuples import NamedTuple
from askonce.runtime.boot_clock import boot_clock
from askonce.runtime.forks import around_forks
from askonce.store import PARTITIONS, NearListener

INTERVAL = 0.5  # s between two proofs
LIMIT = 2 * INTERVAL  # s that a proof is believed: the most that an answer from here is behind the server
REST = 5.0  # s without a lookup, after which no more proofs are asked for
WAITING = 1024  # answers that wait to be read
AGAIN = 0.05  # s between two wake-ups of the background thread
ON = "on"
IDLE = "idle"

clock = boot_clock
NOBODY = Part(PARTITIONS)  # it has no proof


class Want(NamedTuple):
    """An answer to be read: the fields of its lookup, and its size in bytes when it was last seen."""

    fields: tuple[int, ...]
    size: int


class RedisNear:
    """The near cache of one process over one address. Implements Near."""

    def __init__(self, limit: int) -> None:
        self.table = Table(limit)
        self.parts = [NOBODY] * PARTITIONS  # who is told about a partition
        self.wanted: dict[Key, Want] = {}
        self.used = -math.inf  # when a lookup last came (s of `clock`)
        self.state = IDLE  # else ``on``, or why not
        self._woken = -math.inf
        self._listeners: dict[int, weakref.ref[NearListener]] = {}

    # of any thread

    def look(self, key: Key, fields: tuple[int, ...]) -> tuple[Kept, int] | None:
        """A kept answer that no invalidation has reached, and the server's time, us; None if the server must be asked.

        The proof is looked at first, and everything else after it: what is found then is at least as new as the proof.
        """
        partition = key[0][0] % PARTITIONS
        part = self.parts[partition]
        now = clock()
        proved, us = part.proof
        if now - proved > LIMIT:
            return None
        slot = self.table.slots.get(key)
        if slot is None or slot.part is not part or (kept := slot.kept) is None:
            return None
        place = part.places[partition]
        if place is None or (standing := place.standing) is None or not kept.stands(standing, fields):
            return None
        slot.visited = True
        self.used = now
        return kept, us + int((now - proved) * 1_000_000)

    def seen(self, key: Key, fields: tuple[int, ...], size: int) -> bool:
        """Note that the server answered a lookup with an entry of `size` bytes; True if the thread must be woken."""
        self.used = now = clock()
        slot = self.table.slots.get(key)
        if size > self.table.largest or self.state not in {ON, IDLE}:
            return False
        # What is there was not found: its generations are not known, or its proof is old.
        wants = slot.kept is not None if slot is not None else self.table.seen.again(key)
        if wants and len(self.wanted) < WAITING:
            self.wanted[key] = Want(fields, size)
        due = wants or now - self.parts[key.digest[0] % PARTITIONS].proof[0] > INTERVAL
        if not due or now - self._woken < AGAIN:
            return False
        self._woken = now
        return True

    def void(self, key: Key) -> None:
        """This process has written this entry."""
        self.wanted.pop(key, None)
        self.table.void(key)

    def forget(self, key: Key) -> None:
        """This process has forgotten a question: all its forms."""
        for form in FORMS:
            self.void(Key(key.digest, form))  # type: ignore[arg-type]

    def move(self) -> None:
        """This process has moved the generations of every partition."""
        for part in {id(part): part for part in self.parts}.values():
            part.move()

    # of the thread of the connection

    def begin(self, part: Part, partitions: Sequence[int]) -> None:
        """From now on, this part is told about these partitions."""
        for partition in partitions:
            self.parts[partition] = part
        self._tell(ON, "")

    def leave(self, part: Part, partitions: Collection[int]) -> None:
        """This part is not told about these partitions any more."""
        for partition in partitions:
            if self.parts[partition] is part:
                self.parts[partition] = NOBODY
            part.places[partition] = None
        self.table.lose(part, partitions)
        self._unwant(partitions)

    def _unwant(self, partitions: Collection[int]) -> None:
        for key in [key for key in list(self.wanted) if key.digest[0] % PARTITIONS in partitions]:
            self.wanted.pop(key, None)

    def end(self, part: Part, state: str, why: str = "") -> None:
        """This part is not told any more."""
        part.proof = (-math.inf, 0)
        mine = {partition for partition, one in enumerate(self.parts) if one is part}
        for partition in mine:
            self.parts[partition] = NOBODY
        self.table.forget(part)
        self._unwant(mine)
        if all(one is NOBODY for one in self.parts):  # else the other primaries' go on
            self._tell(state, why)

    # who is told

    def tell(self, listener: NearListener) -> None:
        """Tell a listener of changes, for as long as it lives."""
        for name, known in list(self._listeners.items()):
            if known() is None:
                self._listeners.pop(name, None)
        self._listeners[id(listener)] = weakref.ref(listener)

    def _tell(self, state: str, why: str) -> None:
        if state == self.state:
            return
        self.state = state
        for known in list(self._listeners.values()):
            if (listener := known()) is not None:
                listener.near_changed(state, why)

    def stats(self) -> dict[str, object]:
        """What it holds now."""
        return {
            "state": self.state,
            "entries": len(self.table.slots),
            "bytes": self.table.total(),
            "limit": self.table.limit,
            "evicted": self.table.evicted,
        }

    def clear(self) -> None:
        """Begin anew: a forked child is told nothing."""
        self.table = Table(self.table.limit)
        self.parts = [NOBODY] * PARTITIONS
        self.wanted = {}
        self.state = IDLE


_known: weakref.WeakValueDictionary[str, RedisNear] = weakref.WeakValueDictionary()


def near_of(address: str) -> RedisNear | None:
    """The near cache of this process at an address; None if no cache uses one."""
    return _known.get(address)


def join(address: str, limit: int) -> RedisNear:
    """The near cache of this process at an address, as large as the largest that was asked for."""
    near = _known.get(address)
    if near is None:
        near = _known.setdefault(address, RedisNear(limit))
    near.table.limit = max(near.table.limit, limit)
    return near


def _after_fork() -> None:
    for near in list(_known.values()):
        near.clear()


around_forks(in_child=_after_fork)
