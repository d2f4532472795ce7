"""The notes in a Redis (core.notes): one ring for each partition, a list. An owner's notes are in one of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from askonce.core.notes import EVERYONE, LIFE, NAME, OWNER, RING, RING_BYTES, Note, Noted
from askonce.store import PARTITIONS, StoreTrouble
from askonce.store.redis.names import Names
from askonce.store.redis.scripts import Script, Scripts
from askonce.store.redis.trouble import garbled
from askonce.store.redis.wire import Wire

STAMP = 16  # bytes before a note: all bytes so far, the time
AT_ONCE = 64  # notes that one script appends


class NoteVerbs:
    """The verbs of a store that write and read notes."""

    names: Names
    scripts: Scripts
    _wires: Sequence[Wire]
    _run: Callable[[Wire, Script, tuple[bytes, ...], tuple[Any, ...]], Coroutine[Any, Any, Any]]

    async def note(self, notes: Sequence[Note]) -> None:
        """Store.note."""
        rings: dict[bytes, list[Note]] = {}
        for one in notes:
            rings.setdefault(self.names.notes(one.owner), []).append(one)
        works = [
            partial(_append, ring=ring, some=some[at : at + AT_ONCE])
            for ring, some in rings.items()
            for at in range(0, len(some), AT_ONCE)
        ]
        for said in await self.together(works) if works else ():
            if isinstance(said, StoreTrouble):
                raise said

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Noted]:
        """Store.notes."""
        owners = [owner] if owner else [*(bytes((at,)) + EVERYONE[1:-1] + b"\1" for at in range(PARTITIONS)), EVERYONE]
        rings = [self.names.notes(one) for one in owners]
        said = await self.together([partial(_read, ring=ring, args=(owner, name, count)) for ring in rings], reads=True)
        found: list[Noted] = []
        for one in said:
            if isinstance(one, StoreTrouble):
                raise one
            found += one
        return sorted(found, key=lambda one: -one.at)[:count]

    async def together(self, works: Sequence[Callable[[Any], Coroutine[Any, Any, Any]]], *, reads: bool = False) -> Any:
        """Store.together."""
        raise NotImplementedError

    async def append_notes(self, ring: bytes, some: Sequence[Note]) -> None:
        """Append notes to one ring."""
        args = (RING, RING_BYTES, LIFE, *(b"".join(one[1:]) for one in some))
        await self._run(self._wires[self.names.partition(ring)], self.scripts.note, (ring,), args)

    async def ring_notes(self, ring: bytes, args: tuple[bytes, bytes, int]) -> list[Noted]:
        """The notes of one ring."""
        said = await self._run(self._wires[self.names.partition(ring)], self.scripts.notes, (ring,), args)
        try:
            return [_noted(one) for one in said]
        except TypeError:
            raise garbled(repr(said)[:80]) from None


async def _append(store: NoteVerbs, ring: bytes, some: Sequence[Note]) -> None:
    await store.append_notes(ring, some)


async def _read(store: NoteVerbs, ring: bytes, args: tuple[bytes, bytes, int]) -> list[Noted]:
    return await store.ring_notes(ring, args)


def _noted(data: bytes) -> Noted:
    at, rest = int.from_bytes(data[8:STAMP], "big"), data[STAMP:]
    return Noted(at, rest[:OWNER], rest[OWNER : OWNER + NAME], rest[OWNER + NAME :])
