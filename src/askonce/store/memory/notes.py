"""The notes of a memory (core.notes): one ring for each prefix."""

from __future__ import annotations

from collections import deque
from itertools import islice

from askonce.core.eviction import OVERHEAD
from askonce.core.notes import LIFE, RING, RING_BYTES, Note, Noted
from askonce.store import ledger

SHARE = 32  # part of the memory that notes may take: a thirty-second


class Rings:
    """The notes by the number of their prefix. `size`: their bytes altogether."""

    def __init__(self) -> None:
        self._rings: dict[int, deque[Noted]] = {}
        self.size = 0

    def add(self, note: Note, now: int, max_bytes: int) -> None:
        """Append a note; the oldest of its ring go."""
        ring = self._rings.setdefault(ledger.realm(note.prefix), deque())
        ring.append(Noted(now, *note[1:]))
        self.size += _size(ring[-1])
        while ring and (len(ring) > RING or self.size > min(RING_BYTES, max_bytes // SHARE) or now > ring[0].at + LIFE):
            self.size -= _size(ring.popleft())

    def read(self, realm: int, owner: bytes, name: bytes, count: int) -> list[Noted]:
        """Store.notes."""
        found = (one for one in reversed(self._rings.get(realm, ())) if one.owner.startswith(owner))
        return list(islice((one for one in found if one.name.startswith(name)), count))

    def raze(self, realm: int) -> int:
        """Delete the notes of a prefix; return how many."""
        ring = self._rings.pop(realm, deque())
        self.size -= sum(map(_size, ring))
        return len(ring)


def _size(one: Noted) -> int:
    return len(one.data) + OVERHEAD
