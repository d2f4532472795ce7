"""The tallies in a Redis (core.tallies): a hash for each bucket, all in one partition."""

from __future__ import annotations

from collections.abc import Sequence

from askonce.core.tallies import SENDER_LIFE, TABLES, Push, Tallied
from askonce.core.tallies import first as first_bucket
from askonce.store.redis.calls import run
from askonce.store.redis.names import TALLIES, Names
from askonce.store.redis.scripts import TIME, Notice, Scripts, pack
from askonce.store.redis.trouble import foreign, read_time, unrefused
from askonce.store.redis.wire import Wire

AT_ONCE = 50  # buckets that are read in one round trip


class TallyVerbs:
    """The part of a RedisStore that concerns tallies."""

    names: Names
    scripts: Scripts
    _wires: Sequence[Wire]

    async def tally(self, push: Push) -> None:
        """Add what a process gathered; a push that came before counts once."""
        now = await self._now()  # first: a script's keys are declared, and their names hold the time
        buckets = {table: now // TABLES[table].span for table in dict.fromkeys(one.table for one in push.tallies)}
        places = {table: at for at, table in enumerate(buckets, 2)}
        keys = (self.names.sender(push.sender), *(self.names.tallies(*bucket) for bucket in buckets.items()))
        args: list[Notice] = [push.number, SENDER_LIFE]
        for table, label, counts in push.tallies:
            rules = TABLES[table]
            args += [places[table], rules.most, int(rules.replaces), (rules.kept + 1) * rules.span, label, len(counts)]
            for name, count in counts.items():
                args += [name, count]
        await run(self._wires[TALLIES], self.scripts.tally, keys, tuple(args))

    async def tallied(self, table: str, back: int) -> tuple[int, list[Tallied]]:
        """The time, ms, and the tallies of a table in the last `back` buckets."""
        now = await self._now()
        last = now // TABLES[table].span
        found: list[Tallied] = []
        for first in range(first_bucket(table, now, back), last + 1, AT_ONCE):
            some = range(first, min(first + AT_ONCE, last + 1))
            data = b"".join(pack(b"HGETALL", self.names.tallies(table, at)) for at in some)
            replies = await self._wires[TALLIES].ask(data, len(some))
            for at, reply in zip(some, replies, strict=True):
                found += _read(at, unrefused(reply))
        return now, found

    async def _now(self) -> int:
        (said,) = await self._wires[TALLIES].ask(TIME, 1)
        return read_time(said)


def _read(at: int, said: dict[bytes, bytes]) -> list[Tallied]:
    """The tallies of a bucket; StoreTrouble if it is no hash of askonce's."""
    found: dict[bytes, dict[str, int]] = {}
    try:
        for field, count in said.items():
            name, mark, label = field.partition(b"\0")
            if name and mark:
                found.setdefault(label, {})[name.decode()] = int(count)
    except (AttributeError, ValueError):
        raise foreign() from None
    return [Tallied(at, label, counts) for label, counts in found.items()]
