"""The store on one Redis or Valkey server.

A hit is one round trip of plain reads: the body never passes through Lua, where it would cost thirty times as much.
Every decision is a script, the twin of a function in core.lease (see `lua/`). The verbs are written once; the wire
below them blocks in a sync store and suspends in an async one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Claim, Follow, Generations, Grant, Hit, Lead, Stale
from askonce.core.model import FORMS, Lifetime, Sealed, Snapshot, pack_fields
from askonce.core.tape import Ending
from askonce.errors import ConfigError, PartialInvalidation, StoreUnavailable
from askonce.store import PARTITIONS, Link, Look, Record, Running, StoreTrouble, Works
from askonce.store.redis import cluster_address
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.batch import Batch
from askonce.store.redis.calls import run
from askonce.store.redis.flights import flights
from askonce.store.redis.names import Names
from askonce.store.redis.near import RedisNear, near_of
from askonce.store.redis.near import join as join_near
from askonce.store.redis.notes import NoteVerbs
from askonce.store.redis.primaries import OnePrimary, Primaries
from askonce.store.redis.scripts import Notice, claim_args, pack, release_args
from askonce.store.redis.sentinel import SentinelAddress
from askonce.store.redis.sentinel_primary import SentinelPrimary
from askonce.store.redis.tallies import TallyVerbs
from askonce.store.redis.targets import target
from askonce.store.redis.trouble import Refusal, foreign, garbled, unrefused, untroubled
from askonce.store.redis.walk import Walk
from askonce.store.redis.wire import Wire

T = TypeVar("T")
MOVES = 4_096  # fields that an invalidation moves in one round trip: some milliseconds of the server's time
_VERDICTS = {b"stored": "stored", b"unkept": "unkept", b"moved": "moved", b"lost": "lost"}


class RedisStore(TallyVerbs, NoteVerbs):
    """Entries, leases and generations of one prefix in one Redis or Valkey. Implements Store."""

    kind = "redis"
    visits = None  # the server chooses what it evicts: its maxmemory-policy

    def __init__(self, primaries: Primaries, *, prefix: str = "", near: int = 0) -> None:
        self.names = Names(prefix)
        # The prefix too: the background thread's link makes its names with the prefix of the store it came from.
        self.address = f"{primaries.text}#{prefix}"
        self.near: RedisNear | None = join_near(self.address, near) if near else None
        self.scripts = primaries.scripts
        self._primaries = primaries
        self.prefix = prefix
        self._wires: Sequence[Wire] = primaries.wires
        self._confirmed = primaries.confirmed
        self._walk = Walk(primaries, self.names)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "",
        asynchronous: bool = False,
        client: Any = None,
        near: int = 0,
        **options: Any,
    ) -> RedisStore:
        """The store of a URL, or of a configured client whose connection options are used; nothing is sent.

        `near`: the bytes of its near cache, 0 for none.
        """
        if client is not None and options:
            raise ConfigError(f"options given with client=: set {', '.join(options)} on the client itself")
        return cls(_primaries(url, options, client, prefix, asynchronous=asynchronous), prefix=prefix, near=near)

    def __repr__(self) -> str:
        return f"<RedisStore {self.address}>"

    # reading

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        """Read the entry and the generations plainly, in one round trip; write nothing."""
        asked = fields if type(fields) is tuple else tuple(fields)
        entry, read, time = await self._wires[key.digest[0] % PARTITIONS].ask(self.names.look(key, asked), 3)
        try:
            now_us = int(time[0]) * 1_000_000 + int(time[1])
            clock, floor = int(read[1] or 0), int(read[2] or 0)
            moved = {one: int(when) for one, when in zip(asked, read[3:], strict=True) if when} if asked else {}
        except (TypeError, ValueError, IndexError):
            raise self._look_trouble(key, entry, read, time) from None
        if type(entry) is not bytes and entry is not None:
            raise self._look_trouble(key, entry, read, time)
        return Look(entry, Generations(read[0] or b"", clock, floor, moved), now_us)

    async def tell(self, count: int) -> None:
        """Do nothing: the server sees each visit."""
        del count

    async def entry(self, key: Key) -> bytes | None:
        """Read only the entry's bytes."""
        return await self._get(key, self.names.of(key)[0])

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        """Read the log of one flight from byte `start` on; None if there is no such log."""
        name = self.names.tape(key, flight, order)
        if not start:
            return await self._get(key, name)
        # An empty range is empty too.
        some, there = await self._wire(key).ask(pack(b"GETRANGE", name, start, -1) + pack(b"EXISTS", name), 2)
        return self._read(key, some, bytes) if self._read(key, there, int) else None

    async def _get(self, key: Key, name: bytes) -> bytes | None:
        (found,) = await self._wire(key).ask(pack(b"GET", name), 1)
        return None if found is None else self._read(key, found, bytes)

    def _read(self, key: Key, reply: Any, kind: type[T]) -> T:
        """A reply of this type; StoreTrouble for a refusal, and for a reply that does not fit the command."""
        if type(reply) is kind:
            return reply
        raise self._trouble(key, unrefused(reply))

    def _trouble(self, key: Key, reply: Any) -> StoreTrouble:
        # The connection is out of step, or leads to something that is not a Redis.
        self._wire(key).distrust()
        return garbled(repr(reply)[:80])

    def at_hand(self, key: Key, fields: Sequence[int]) -> Look | None:
        """None: what is in this process is in the near cache."""
        del key, fields
        return None

    def _look_trouble(self, key: Key, *replies: Any) -> StoreTrouble:
        for reply in replies:
            if type(reply) is Refusal:
                return reply.trouble()
        entry, read, time = replies
        if isinstance(read, list) and isinstance(time, list) and (entry is None or type(entry) is bytes):
            return foreign()
        return self._trouble(key, replies)

    # decisions

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Decide by core.lease.claim."""
        keys = (*self.names.of(key), self._index(key))
        args = claim_args(key, ask, self.names.channel(key))
        said = await run(self._wire(key), self.scripts.claim, keys, args)
        try:
            return read_claim(said, ask.id)
        except (TypeError, ValueError, IndexError):
            raise self._trouble(key, said) from None

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Store an answer; wakes the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order), self._index(key))
        channel = self.names.channel(key)
        args = (flight, order, life.ttl, life.grace, life.error, life.cap, life.age, *sealed, key.form, channel)
        try:
            said = self._read(key, await run(self._wire(key), self.scripts.fill, keys, args), bytes)
        finally:
            if (near := near_of(self.address)) is not None:
                near.void(key)
        if (verdict := _VERDICTS.get(said)) is None:
            raise self._trouble(key, said)
        return verdict

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Give a lease back, write the ending to the tape if needed, wake the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order), self._index(key))
        args = release_args(key, flight, order, ending, failed, hint, self.names.channel(key))
        await run(self._wire(key), self.scripts.release, keys, args)

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        """Write `data` at `offset` of a flight's log, and say what is new in it; return the log's new length."""
        args = (flight, order, offset, data, self.names.channel(key))
        return self._read(
            key,
            await run(self._wire(key), self.scripts.append, (self.names.tape(key, flight, order),), args),
            int,
        )

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        """Slide an entry; False if there was nothing to lengthen."""
        entry, _, generations = self.names.of(key)
        args = (key.digest, key.form, flight, order, hot_ttl, cap)
        return bool(self._read(key, await run(self._wire(key), self.scripts.extend, (entry, generations), args), int))

    async def count(self, key: Key, hits: int, window: int) -> int:
        """Add hits to the key's counter; return those within about the last `window` ms."""
        return self._read(
            key, await run(self._wire(key), self.scripts.count, (self.names.hits(key),), (hits, window)), int
        )

    async def forget(self, key: Key) -> None:
        """Delete the entries and leases of a question in all its forms."""
        forms: tuple[Form, ...] = FORMS  # type: ignore[assignment]
        keys = [name for form in forms for name in self.names.of(Key(key.digest, form))[:2]]
        try:
            await self._confirmed(lambda: run(self._wire(key), self.scripts.forget, tuple(keys), ()))
        finally:
            if (near := near_of(self.address)) is not None:
                near.forget(key)

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        """Move the generations of every partition: one batch, one round trip; several for very many fields.

        PartialInvalidation if not all of them answered, StoreUnavailable if none did.
        """
        try:
            await self._confirmed(lambda: self._invalidate(fields, everything=everything))
        finally:
            if (near := near_of(self.address)) is not None:
                near.move()

    async def _invalidate(self, fields: Sequence[int], *, everything: bool) -> None:
        args = (int(everything), pack_fields(fields))
        wide = max(1, min(PARTITIONS, MOVES // max(1, len(fields))))
        missed: dict[int, StoreTrouble] = {}
        failed: dict[str, StoreTrouble] = {}  # primaries that are not asked again
        for first in range(0, PARTITIONS, wide):
            some = range(first, min(first + wide, PARTITIONS))
            missed |= {one: failed[name] for one in some if (name := self._primaries.name(one)) in failed}
            tried = [one for one in some if one not in missed]
            said = await self.together([partial(RedisStore._move, partition=one, args=args) for one in tried])
            missed |= {one: reply for one, reply in zip(tried, said, strict=True) if isinstance(reply, StoreTrouble)}
            failed |= {self._primaries.name(one): why for one, why in missed.items() if why.at != "key"}
        if missed:
            raise _partly_done(missed, {why.primary or self._primaries.name(one) for one, why in missed.items()})

    async def _move(self, partition: int, args: tuple[Notice, ...]) -> int:
        keys = (self.names.generations(partition),)
        return int(await run(self._wires[partition], self.scripts.invalidate, keys, args))

    def _index(self, key: Key) -> bytes:
        return self.names.flights(key.digest[0] % PARTITIONS)

    # walking through the store

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        """About `count` entries of this prefix, and the next cursor; b"" at the end."""
        return await self._walk.scan(cursor, count)

    async def flights(self, count: int) -> list[Running]:
        """Up to `count` leases of flights under way, the longest first; no walk through the keys looks for them."""
        return await flights(self._primaries, self.names, count)

    async def standing(self) -> Sequence[Generations]:
        """The generations of every partition, with all that moved."""
        return await self._walk.standing()

    async def discard(self, seen: Sequence[Record]) -> int:
        """Delete entries that are still the ones seen; return how many."""
        said = await self.together([partial(RedisStore._discard, record=record) for record in seen])
        return sum(untroubled(said))

    async def _discard(self, record: Record) -> int:
        wire = self._wires[self.names.partition(record.name)]
        return int(await run(wire, self.scripts.discard, (record.name,), (record.header[40:64],)))

    async def raze(self, count: int) -> int:
        """Delete about `count` of this prefix's data, generations last; return how many, 0 when nothing is left."""
        return await self._walk.raze(count)

    # the rest of the contract

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        """Run each of `works`, in one round trip for all of one primary."""
        del reads  # both go the same way
        batch = Batch(self._primaries)
        copied = copy.copy(self)
        copied._wires, copied._confirmed = batch.wires, _as_it_is  # noqa: SLF001 - its own class
        return await batch.run([work(copied) for work in works])

    def primary(self, key: Key) -> str:
        """The name of the primary that has a key now."""
        return self._primaries.name(key.digest[0] % PARTITIONS)

    def primaries(self) -> Sequence[str]:
        """The names of all primaries that have keys now."""
        return self._primaries.names()

    def connected(self, key: Key) -> bool:
        """Whether a command of this caller about a key needs no new connection."""
        return self._wire(key).connected()

    def reconnect(self, primary: str) -> None:
        """Make new connections to a primary before the next use."""
        self._primaries.reconnect(primary)

    def servers(self) -> Mapping[int, RedisAddress]:
        """Where the primaries are, as far as is known, each by one of its partitions; for a diagnosis."""
        return self._primaries.addresses()

    def link(self) -> Link:
        """A new link, only for the background thread."""
        return self._primaries.link(self.names, self.address)

    def blocking(self) -> RedisStore:
        """The same store for the background thread, with its own connections."""
        return RedisStore(self._primaries.blocking(), prefix=self.prefix)

    def after_fork(self) -> None:
        """Do nothing: a wire checks the process id whenever it takes a connection."""

    async def close(self) -> None:
        """Close every connection."""
        self.near = None
        await self._primaries.close()

    # sending

    def _wire(self, key: Key) -> Wire:
        return self._wires[key.digest[0] % PARTITIONS]


def _primaries(url: str, options: Mapping[str, Any], client: Any, prefix: str, *, asynchronous: bool) -> Primaries:
    """The primaries that a URL or a client names."""
    if cluster_address.names_cluster(url, client):
        from askonce.store.redis.cluster_link import LinkedPrimaries  # here: it needs asyncio, and others do not

        made = cluster_address.from_url(url, options) if client is None else cluster_address.from_client(client)
        return LinkedPrimaries(made, prefix, asynchronous=asynchronous)
    address = target(url, options, client)
    if isinstance(address, SentinelAddress):
        return SentinelPrimary(address, asynchronous=asynchronous)
    return OnePrimary(address, asynchronous=asynchronous)


async def _as_it_is(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """A work of a batch is not confirmed."""
    return await work()


def _partly_done(missed: Mapping[int, StoreTrouble], primaries: Collection[str]) -> StoreUnavailable:
    """An invalidation that did not reach every partition, where, and why."""
    done, why = PARTITIONS - len(missed), next(iter(missed.values()))
    if not done:
        found = StoreUnavailable(f"nothing was invalidated: {why}", why.kind)
    else:
        names = sorted(filter(None, primaries))
        where = f" (not those at {', '.join(names)})" if names else ""
        message = f"{done} of {PARTITIONS} partitions were invalidated{where}, so do it again: {why}"
        found = PartialInvalidation(message, done, PARTITIONS, sorted(missed), names)
    found.__cause__ = why
    return found


def read_claim(said: list[Any], flight: bytes) -> Claim:
    """The claim in the script's reply; TypeError, ValueError or IndexError for a reply it never sends."""
    kind = said[0]
    if kind == 0:
        return Lead(_grant(said, 1, flight))
    _, fill, order, now = said[:4]
    if type(fill) is not bytes or type(order) is not int or type(now) is not int:
        raise TypeError(said)
    if kind == 3:
        return Follow(fill, order, now)
    grant = _grant(said, 4, flight) if len(said) > 4 else None
    if kind not in (1, 2):
        raise ValueError(said)
    return (Hit if kind == 1 else Stale)(fill, order, now, grant)


def _grant(said: list[Any], at: int, flight: bytes) -> Grant:
    order, epoch, clock = said[at : at + 3]
    if type(order) is not int or type(epoch) is not bytes or type(clock) is not int:
        raise TypeError(said)
    return Grant(flight, order, Snapshot(epoch, clock))
