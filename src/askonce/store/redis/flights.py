"""The flights of all partitions, as an index of each partition names them: a few round trips, however many keys exist.

The scripts that grant and end leases keep the index (`lua/prelude.lua`). It may name a lease that is gone, such as one
of a process that was killed, so the lease itself decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from askonce.core.keys import Key
from askonce.core.lease import Lease, flying
from askonce.core.model import Snapshot
from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import PARTITIONS, Running, ledger
from askonce.store.redis.names import Names, read_member
from askonce.store.redis.primaries import Asked, Primaries
from askonce.store.redis.scripts import TIME, pack
from askonce.store.redis.trouble import Refusal, read_time, unrefused, untroubled

STEP = 256  # leases that are read in one round trip
_NOBODY = Snapshot(b"", 0)


class _Named(NamedTuple):
    """A member of an index; `ends`: when its lease is over at the latest, ms, so the oldest has the lowest."""

    ends: float
    partition: int
    member: bytes


async def flights(primaries: Primaries, names: Names, count: int) -> list[Running]:
    """Up to `count` flights under way, the longest first."""
    named = await _named(primaries, names)
    found: list[Running] = []
    for first in range(0, len(named), STEP):
        if len(found) >= count:
            break
        some = named[first : first + STEP]
        leases, waiting = await _leases(primaries, names, some)
        now = read_time((await primaries.wires[0].ask(TIME, 1))[0])
        found += [
            ledger.running(Key(*read_member(one.member)), lease, waits)
            for one, lease, waits in zip(some, leases, waiting, strict=True)
            if lease is not None and flying(lease, now)
        ]
    return found[:count]


async def _named(primaries: Primaries, names: Names) -> list[_Named]:
    # All of them: the oldest may be of processes that were killed, and hide any number of others.
    asked = [
        Asked(partition, pack(b"ZRANGE", names.flights(partition), 0, -1, b"WITHSCORES"), 1)
        for partition in range(PARTITIONS)
    ]
    replies = enumerate([unrefused(said[0]) for said in untroubled(await primaries.ask_all(asked))])
    return sorted(
        _Named(float(score), partition, member)
        for partition, said in replies
        for member, score in (said if said and isinstance(said[0], list) else zip(said[::2], said[1::2], strict=True))
        if _is_member(member)
    )


def _is_member(member: Any) -> bool:
    try:
        return bool(read_member(member)[0])
    except (TypeError, ValueError):
        return False


async def _leases(
    primaries: Primaries, names: Names, named: Sequence[_Named]
) -> tuple[list[Lease | None], list[int | None]]:
    """The lease of each, and how many processes listen to its notices; None for what the server does not tell."""
    counting = b"SHARDNUMSUB" if primaries.scripts.sharded else b"NUMSUB"
    asked = []
    for _, partition, member in named:
        lease, channel = names.of_flight(partition, member)
        read = pack(b"HMGET", lease, b"id", b"order", b"dl", b"x", b"want", b"idle")
        asked.append(Asked(partition, read + pack(b"PUBSUB", counting, channel), 2))
    replies = untroubled(await primaries.ask_all(asked))
    return [_lease(said[0]) for said in replies], [_waiting(said[1]) for said in replies]


def _lease(said: Any) -> Lease | None:
    try:
        flight, order, deadline, expire, want, idle = said
        numbers = int(order), int(deadline), _NOBODY, (), int(expire)
        return Lease(flight, *numbers, want == b"1", idle == b"1") if flight else None
    except (TypeError, ValueError):
        return None  # gone meanwhile, or not askonce's


def _waiting(said: Any) -> int | None:
    if isinstance(said, Refusal) or not isinstance(said, list | dict):
        return None  # this user, or this service, has no PUBSUB
    counts = list(said.values()) if isinstance(said, dict) else said[1::2]
    return int(counts[0]) if counts else None
