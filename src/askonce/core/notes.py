"""Notes: what a store keeps of calls and invalidations, to explain later lookups.

A note is about one name: that of a question's entry, or an invalidation. It belongs to an owner: a digest of the prefix
and of the tenant or credential that asked, so that nothing of one owner's is compared with another's. A store keeps the
latest notes in a ring, and the oldest go first. It reads no note.
"""

from __future__ import annotations

from typing import NamedTuple

OWNER = 16  # bytes of an owner
NAME = 33  # bytes of a name: the digest of a question, and the form
EVERYONE = bytes(OWNER)  # the owner of invalidations
RING = 1024  # notes that a ring keeps at most, and
RING_BYTES = 2**19  # bytes
LEAST = 64  # notes of an owner that every store keeps, if it has room for answers at all
LIFE = 30 * 86_400_000  # ms that a note is kept at most
LARGEST = 8192 + 1024  # bytes of a note's data


class Note(NamedTuple):
    """Something to note: its owner, its name, and bytes that only `core.seen` reads."""

    owner: bytes
    name: bytes
    data: bytes


class Noted(NamedTuple):
    """A note, and when it was written: ms of the store's clock."""

    at: int
    owner: bytes
    name: bytes
    data: bytes
