"""A walk through all of a prefix's data, over every primary: what a listing, a sweep and a raze need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from askonce.core.lease import Generations
from askonce.core.model import MAGIC
from askonce.store import PARTITIONS, Record
from askonce.store.redis.names import Names
from askonce.store.redis.primaries import Asked, Primaries
from askonce.store.redis.scripts import pack
from askonce.store.redis.trouble import foreign, unrefused, untroubled

PARTITIONS_AT_ONCE = 8  # partitions whose generations are read in one round trip


class Walk:
    """The walks of one store."""

    def __init__(self, primaries: Primaries, names: Names) -> None:
        self._primaries = primaries
        self._names = names
        self._cursor, self._clean = b"", True  # how far a raze has come, and whether it found nothing so far

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        """About `count` entries of this prefix, and the next cursor; b"" at the end."""
        after, names = await self._step(cursor, self._names.pattern(b"e1"), count, b"TYPE", b"string")
        return after, await self._heads([name for name in names if self._names.ours(name) == b"e1"])

    async def _step(self, cursor: bytes, pattern: bytes, count: int, *more: bytes) -> tuple[bytes, list[bytes]]:
        """One step at one primary. A cursor is ``version:cursor@primary``; a walk starts over if partitions moved."""
        version, primaries = b"%d" % self._primaries.version, sorted(self._primaries.names())
        begun, _, rest = cursor.partition(b":")
        at, _, name = rest.partition(b"@") if begun == version else (b"0", b"", primaries[0].encode())
        command = pack(b"SCAN", at, b"MATCH", pattern, b"COUNT", max(1, count), *more)
        after, names = unrefused((await self._primaries.ask_at(name.decode(), command, 1))[0])
        if after == b"0":
            later = [one.encode() for one in primaries if one.encode() > name]
            if not later and version == b"%d" % self._primaries.version:
                return b"", names
            name = later[0] if later else name
        return version + b":" + after + b"@" + name, names

    async def _heads(self, names: Sequence[bytes]) -> list[Record]:
        asked = [self._about(name, pack(b"GETRANGE", name, 0, 511) + pack(b"STRLEN", name), 2) for name in names]
        found = dict(zip(names, await self._all(asked), strict=True))
        # An entry may be gone by now, or (without SCAN's TYPE) be of another type; neither is an entry.
        heads = {name: head for name, (head, _) in found.items() if type(head) is bytes and head}
        long = [name for name, head in heads.items() if len(head) < min(_length(head), found[name][1])]
        asked = [self._about(name, pack(b"GETRANGE", name, 0, _length(heads[name]) - 1), 1) for name in long]
        heads |= {name: unrefused(said[0]) for name, said in zip(long, await self._all(asked), strict=True)}
        return [Record(name, head[: _length(head)], found[name][1]) for name, head in heads.items()]

    def _about(self, name: bytes, data: bytes, count: int) -> Asked:
        return Asked(self._names.partition(name), data, count)

    async def _all(self, asked: Sequence[Asked]) -> list[list[Any]]:
        """The replies to each; StoreTrouble if a primary has trouble."""
        return untroubled(await self._primaries.ask_all(asked)) if asked else []

    async def standing(self) -> Sequence[Generations]:
        """The generations of every partition, with all that moved; a few at a time, since each may have thousands."""
        found: list[Generations] = []
        for first in range(0, PARTITIONS, PARTITIONS_AT_ONCE):
            some = range(first, first + PARTITIONS_AT_ONCE)
            asked = [Asked(partition, pack(b"HGETALL", self._names.generations(partition)), 1) for partition in some]
            found += [read_generations(unrefused(said[0])) for said in await self._all(asked)]
        return found

    async def raze(self, count: int) -> int:
        """Delete about `count` of this prefix's data, generations last; return how many, 0 when nothing is left."""
        # The walk continues where the last step stopped, so that a step does not pass other programs' keys again. The
        # generations are deleted only after a whole walk that found nothing of this prefix.
        while True:
            if not self._cursor:
                self._clean = True
            version = self._primaries.version
            self._cursor, found = await self._step(self._cursor, self._names.pattern(), count)
            names = [name for name in found if self._names.ours(name) not in {b"", b"g1"}]
            self._clean = self._clean and not names and version == self._primaries.version
            if names:
                return await self._unlink(names)
            if not self._cursor and self._clean:
                return await self._unlink([self._names.generations(partition) for partition in range(PARTITIONS)])

    async def _unlink(self, names: Sequence[bytes]) -> int:
        parts: dict[int, list[bytes]] = {}
        for name in names:
            parts.setdefault(self._names.partition(name), []).append(name)
        asked = [Asked(partition, pack(b"UNLINK", *some), 1) for partition, some in parts.items()]
        return sum(int(unrefused(said[0])) for said in await self._all(asked))


def read_generations(said: dict[bytes, bytes]) -> Generations:
    """The generations in a hash; StoreTrouble if it is not one of askonce's."""
    try:
        moved = {int(name[2:]): int(when) for name, when in said.items() if name.startswith(b"t:")}
        return Generations(said.get(b"ep", b""), int(said.get(b"clk", 0)), int(said.get(b"floor", 0)), moved)
    except (AttributeError, ValueError):
        raise foreign() from None


def _length(head: bytes) -> int:
    """The length of an entry's header, as the entry says; 0 if it is no entry."""
    return int.from_bytes(head[4:8], "big") if head[:2] == MAGIC else 0
