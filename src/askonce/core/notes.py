"""Notes: what a store keeps of calls and invalidations, to explain later lookups.

A note is about one name: that of a question's entry, or an invalidation. It belongs to an owner: a digest of the prefix
and of the tenant or credential that asked, so that nothing of one owner's is compared with another's. A store keeps the
latest notes in rings, and the oldest go first. A store reads no note.
"""

from __future__ import annotations

from askonce.core.providers.named_tuples import NamedTuple

OWNER = 16  # bytes of an owner
NAME = 33  # bytes of a name: the digest of a question, and the form
EVERYONE = bytes(OWNER)  # the owner of invalidations
RING = 1024  # notes that a ring keeps at most; a store may have one ring for many owners
RING_BYTES = 2**19  # bytes of a ring
LIFE = 30 * 86_400_000  # ms that a ring is kept at most, from its last note
LARGEST = 12_288  # bytes of a note's data


class Note(NamedTuple):
    """Something to note: for which prefix, its owner, its name, and bytes that only `core.seen` reads.

    With the prefix, because the background thread writes for all prefixes of a file.
    """

    prefix: str
    owner: bytes
    name: bytes
    data: bytes


class Noted(NamedTuple):
    """A note, and when it was written: ms of the store's clock."""

    at: int
    owner: bytes
    name: bytes
    data: bytes
