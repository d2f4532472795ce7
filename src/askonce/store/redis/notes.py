"""The notes in a Redis (core.notes): one ring for each partition, a list. An owner's notes are in one of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from askonce.core.notes import LIFE, NAME, OWNER, RING, RING_BYTES, Note, Noted
from askonce.store.redis.calls import run
from askonce.store.redis.names import Names
from askonce.store.redis.scripts import Notice, Scripts
from askonce.store.redis.trouble import garbled, untroubled
from askonce.store.redis.wire import Wire

STAMP = 16  # bytes before a note: all bytes so far, the time
AT_ONCE = 64  # notes that one script appends


class NoteVerbs:
    """The verbs of a store that write and read notes."""

    names: Names
    scripts: Scripts
    _wires: Sequence[Wire]

    async def note(self, notes: Sequence[Note]) -> None:
        """Store.note."""
        rings: dict[bytes, list[Note]] = {}
        for one in notes:
            rings.setdefault(self.names.notes(one.owner), []).append(one)
        works = [
            partial(NoteVerbs._append, ring=ring, some=some[at : at + AT_ONCE])
            for ring, some in rings.items()
            for at in range(0, len(some), AT_ONCE)
        ]
        if works:
            untroubled(await self.together(works))

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Noted]:
        """Store.notes."""
        rings = [self.names.notes(owner)] if owner else self.names.all_notes()
        works = [partial(NoteVerbs._read_ring, ring=ring, args=(owner, name, count)) for ring in rings]
        found = [one for some in untroubled(await self.together(works, reads=True)) for one in some]
        return sorted(found, key=lambda one: -one.at)[:count]

    async def together(self, works: Sequence[Callable[[Any], Coroutine[Any, Any, Any]]], *, reads: bool = False) -> Any:
        """Store.together."""
        raise NotImplementedError

    async def _append(self, ring: bytes, some: Sequence[Note]) -> None:
        args: list[Notice] = [RING, RING_BYTES, LIFE, *(b"".join(one[1:]) for one in some)]
        await run(self._wires[self.names.partition(ring)], self.scripts.note, (ring,), tuple(args))

    async def _read_ring(self, ring: bytes, args: tuple[bytes, bytes, int]) -> list[Noted]:
        said = await run(self._wires[self.names.partition(ring)], self.scripts.notes, (ring,), args)
        try:
            return [_noted(one) for one in said]
        except TypeError:
            raise garbled(repr(said)[:80]) from None


def _noted(data: bytes) -> Noted:
    at, rest = int.from_bytes(data[8:STAMP], "big"), data[STAMP:]
    return Noted(at, rest[:OWNER], rest[OWNER : OWNER + NAME], rest[OWNER + NAME :])
