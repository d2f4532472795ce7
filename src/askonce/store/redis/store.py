"""The store on one Redis or Valkey server.

A hit is one round trip of plain reads: the body never passes through Lua, where it would cost thirty times as much.
Every decision is a script, the twin of a function in core.lease (see `lua/`). The verbs are written once; the wire
below them blocks in a sync store and suspends in an async one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Claim, Follow, Generations, Grant, Hit, Lead, Stale
from askonce.core.model import FORMS, MAGIC, Lifetime, Sealed, Snapshot, pack_fields
from askonce.core.tape import Ending
from askonce.errors import ConfigError, PartialInvalidation, StoreUnavailable
from askonce.store import PARTITIONS, Link, Look, Record, StoreTrouble, Works
from askonce.store.redis import address as addresses
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.batch import BatchWire
from askonce.store.redis.connection import Cut
from askonce.store.redis.link import RedisLink
from askonce.store.redis.names import Names
from askonce.store.redis.scripts import Notice, Script, claim_args, pack, release_args, shipped
from askonce.store.redis.trouble import Refusal, garbled, unrefused
from askonce.store.redis.wire import SyncWire, Wire

T = TypeVar("T")
MOVES = 4_096  # fields that an invalidation moves in one round trip: some milliseconds of the server's time
PARTITIONS_AT_ONCE = 8  # partitions whose generations are read in one round trip
_VERDICTS = {b"stored": "stored", b"unkept": "unkept", b"moved": "moved", b"lost": "lost"}


class RedisStore:
    """Entries, leases and generations of one prefix in one Redis or Valkey. Implements Store."""

    kind = "redis"

    def __init__(self, address: RedisAddress, *, prefix: str = "", asynchronous: bool = False) -> None:
        self.names = Names(prefix)
        # The prefix too: the background thread's link makes its names with the prefix of the store it came from.
        self.address = f"{address.text}#{prefix}"
        self.scripts = shipped()
        self._address = address
        self._prefix = prefix
        self._walk, self._clean = b"0", True  # how far a raze has come, and whether it found nothing so far
        self._wire: Wire = _wire(address, asynchronous)

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "", asynchronous: bool = False, client: Any = None, **options: Any
    ) -> RedisStore:
        """The store of a URL, or of a configured client whose connection options are used; nothing is sent."""
        if client is not None and options:
            raise ConfigError(f"options given with client=: set {', '.join(options)} on the client itself")
        address = addresses.from_url(url, options) if client is None else addresses.from_client(client)
        return cls(address, prefix=prefix, asynchronous=asynchronous)

    def __repr__(self) -> str:
        return f"<RedisStore {self.address}>"

    # reading

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        """Read the entry and the generations plainly, in one round trip; write nothing."""
        asked = fields if type(fields) is tuple else tuple(fields)
        entry, read, time = await self._wire.ask(self.names.look(key, asked), 3)
        try:
            now_us = int(time[0]) * 1_000_000 + int(time[1])
            clock, floor = int(read[1] or 0), int(read[2] or 0)
            moved = {one: int(when) for one, when in zip(asked, read[3:], strict=True) if when} if asked else {}
        except (TypeError, ValueError, IndexError):
            raise self._look_trouble(entry, read, time) from None
        if type(entry) is not bytes and entry is not None:
            raise self._look_trouble(entry, read, time)
        return Look(entry, Generations(read[0] or b"", clock, floor, moved), now_us)

    async def entry(self, key: Key) -> bytes | None:
        """Read only the entry's bytes."""
        return await self._get(self.names.of(key)[0])

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        """Read the log of one flight from byte `start` on; None if there is no such log."""
        name = self.names.tape(key, flight, order)
        if not start:
            return await self._get(name)
        # An empty range is empty too.
        some, there = await self._wire.ask(pack(b"GETRANGE", name, start, -1) + pack(b"EXISTS", name), 2)
        return self._read(some, bytes) if self._read(there, int) else None

    async def _get(self, name: bytes) -> bytes | None:
        (found,) = await self._wire.ask(pack(b"GET", name), 1)
        return None if found is None else self._read(found, bytes)

    def _read(self, reply: Any, kind: type[T]) -> T:
        """A reply of this type; StoreTrouble for a refusal, and for a reply that does not fit the command."""
        if type(reply) is kind:
            return reply
        raise self._trouble(unrefused(reply))

    def _trouble(self, reply: Any) -> StoreTrouble:
        # The connection is out of step, or leads to something that is not a Redis.
        self._wire.distrust()
        return garbled(repr(reply)[:80])

    def _look_trouble(self, *replies: Any) -> StoreTrouble:
        for reply in replies:
            if type(reply) is Refusal:
                return reply.trouble()
        entry, read, time = replies
        if isinstance(read, list) and isinstance(time, list) and (entry is None or type(entry) is bytes):
            return _not_ours()
        return self._trouble(replies)

    # decisions

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Decide by core.lease.claim."""
        said = await self._run(self.scripts.claim, self.names.of(key), claim_args(key, ask, self.names.channel(key)))
        try:
            return read_claim(said, ask.id)
        except (TypeError, ValueError, IndexError):
            raise self._trouble(said) from None

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Store an answer; wakes the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order))
        channel = self.names.channel(key)
        args = (flight, order, life.ttl, life.grace, life.error, life.cap, life.age, *sealed, key.form, channel)
        said = self._read(await self._run(self.scripts.fill, keys, args), bytes)
        if (verdict := _VERDICTS.get(said)) is None:
            raise self._trouble(said)
        return verdict

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Give a lease back, write the ending to the tape if needed, wake the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order))
        args = release_args(key, flight, order, ending, failed, hint, self.names.channel(key))
        await self._run(self.scripts.release, keys, args)

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        """Write `data` at `offset` of a flight's log, and say what is new in it; return the log's new length."""
        args = (flight, order, offset, data, self.names.channel(key))
        return self._read(await self._run(self.scripts.append, (self.names.tape(key, flight, order),), args), int)

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        """Slide an entry; False if there was nothing to lengthen."""
        entry, _, generations = self.names.of(key)
        args = (key.digest, key.form, flight, order, hot_ttl, cap)
        return bool(self._read(await self._run(self.scripts.extend, (entry, generations), args), int))

    async def count(self, key: Key, hits: int, window: int) -> int:
        """Add hits to the key's counter; return those within about the last `window` ms."""
        return self._read(await self._run(self.scripts.count, (self.names.hits(key),), (hits, window)), int)

    async def forget(self, key: Key) -> None:
        """Delete the entries and leases of a question in all its forms."""
        forms: tuple[Form, ...] = FORMS  # type: ignore[assignment]
        keys = [name for form in forms for name in self.names.of(Key(key.digest, form))[:2]]
        await self._run(self.scripts.forget, tuple(keys), ())

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        """Move the generations of every partition: one batch, one round trip; several for very many fields.

        PartialInvalidation if not all of them answered, StoreUnavailable if none did.
        """
        args = (int(everything), pack_fields(fields))
        wide = max(1, min(PARTITIONS, MOVES // max(1, len(fields))))
        done = 0
        for first in range(0, PARTITIONS, wide):
            moved, why = await self._moved(range(first, min(first + wide, PARTITIONS)), args)
            done += moved
            if why is not None:
                raise _partly_done(done, why) from why

    async def _moved(self, partitions: range, args: tuple[Notice, ...]) -> tuple[int, StoreTrouble | None]:
        """How many of these partitions were moved, and why not all."""
        calls = [((self.names.generations(partition),), args) for partition in partitions]
        try:
            replies = await self._run_all(self.scripts.invalidate, calls)
            why = next((reply.trouble() for reply in replies if type(reply) is Refusal), None)
        except Cut as cut:
            replies, why = cut.replies, cut
        except StoreTrouble as trouble:
            replies, why = [], trouble
        return sum(type(reply) is not Refusal for reply in replies), why

    # walking through the store

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        """About `count` entries of this prefix, and the next cursor; b"" at the end."""
        at, names = await self._scanned(cursor or b"0", self.names.pattern(b"e1"), count, b"TYPE", b"string")
        found = await self._heads([name for name in names if self.names.ours(name) == b"e1"])
        return b"" if at == b"0" else at, found

    async def _scanned(self, cursor: bytes, pattern: bytes, count: int, *more: bytes) -> tuple[bytes, list[bytes]]:
        command = pack(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", max(1, count), *more)
        at, names = unrefused((await self._wire.ask(command, 1))[0])
        return at, names

    async def _heads(self, names: list[bytes]) -> list[Record]:
        asked = [pack(b"GETRANGE", name, 0, 511) + pack(b"STRLEN", name) for name in names]
        replies = await self._wire.ask(b"".join(asked), 2 * len(asked)) if asked else []
        heads = dict(zip(names, replies[::2], strict=True))
        sizes = dict(zip(names, replies[1::2], strict=True))
        # An entry may be gone by now, or (without SCAN's TYPE) be of another type; neither is an entry.
        heads = {name: head for name, head in heads.items() if type(head) is bytes and head}
        long = [name for name, head in heads.items() if len(head) < min(_length(head), sizes[name])]
        asked = [pack(b"GETRANGE", name, 0, _length(heads[name]) - 1) for name in long]
        if asked:
            heads |= zip(long, map(unrefused, await self._wire.ask(b"".join(asked), len(asked))), strict=True)
        return [Record(name, head[: _length(head)], sizes[name]) for name, head in heads.items()]

    async def standing(self) -> Sequence[Generations]:
        """The generations of every partition, with all that moved; a few at a time, since each may have thousands."""
        found: list[Generations] = []
        for first in range(0, PARTITIONS, PARTITIONS_AT_ONCE):
            names = map(self.names.generations, range(first, first + PARTITIONS_AT_ONCE))
            asked = [pack(b"HGETALL", name) for name in names]
            replies = await self._wire.ask(b"".join(asked), len(asked))
            found += [read_generations(unrefused(reply)) for reply in replies]
        return found

    async def discard(self, seen: Sequence[Record]) -> int:
        """Delete entries that are still the ones seen; return how many."""
        calls = [((record.name,), (record.header[40:64],)) for record in seen]
        return sum(map(unrefused, await self._run_all(self.scripts.discard, calls))) if calls else 0

    async def raze(self, count: int) -> int:
        """Delete about `count` of this prefix's data, generations last; return how many, 0 when nothing is left."""
        # The walk continues where the last step stopped, so that a step does not pass other programs' keys again. The
        # generations are deleted only after a whole walk that found nothing of this prefix.
        while True:
            if self._walk == b"0":
                self._clean = True
            self._walk, found = await self._scanned(self._walk, self.names.pattern(), count)
            names = [name for name in found if self.names.ours(name) not in {b"", b"g1"}]
            if names:
                self._clean = False
                break
            if self._walk == b"0" and self._clean:
                names = [self.names.generations(partition) for partition in range(PARTITIONS)]
                break
        return int(unrefused((await self._wire.ask(pack(b"UNLINK", *names), 1))[0]))

    # the rest of the contract

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        """Run each of `works`, in one round trip for all."""
        del reads  # both go the same way
        wire = BatchWire(self._wire)
        copied = copy.copy(self)
        copied._wire = wire  # noqa: SLF001 - its own class
        return await wire.run([work(copied) for work in works])

    def connected(self) -> bool:
        """Whether a command of this caller needs no new connection."""
        return self._wire.connected()

    def reconnect(self) -> None:
        """Make new connections before the next use."""
        self._address.epoch.end()

    def link(self) -> Link:
        """A new link, only for the background thread."""
        return RedisLink(self._address, self.names, self.scripts)

    def blocking(self) -> RedisStore:
        """The same store for the background thread, with its own connection."""
        return RedisStore(self._address, prefix=self._prefix)

    def after_fork(self) -> None:
        """Do nothing: a wire checks the process id whenever it takes a connection."""

    async def close(self) -> None:
        """Close every connection."""
        await self._wire.close()

    # sending

    async def _run(self, script: Script, keys: tuple[bytes, ...], args: tuple[Notice, ...]) -> Any:
        (reply,) = await self._wire.ask(script.call(keys, args), 1)
        if type(reply) is Refusal and reply.noscript:
            (reply,) = await self._wire.ask(script.call(keys, args, whole=True), 1)
        return unrefused(reply)

    async def _run_all(self, script: Script, calls: Sequence[tuple[tuple[bytes], tuple[Notice, ...]]]) -> list[Any]:
        replies: list[Any] = []
        for whole in (False, True):
            # The first call with its text teaches the server the rest of the batch.
            packed = [script.call(keys, args, whole=whole and at == 0) for at, (keys, args) in enumerate(calls)]
            replies = await self._wire.ask(b"".join(packed), len(packed))
            if not any(type(reply) is Refusal and reply.noscript for reply in replies):
                break
        return replies


def _partly_done(done: int, why: StoreTrouble) -> StoreUnavailable:
    """An invalidation that did not reach every partition."""
    if not done:
        return StoreUnavailable(f"nothing was invalidated: {why}", why.kind)
    message = f"{done} of {PARTITIONS} partitions were invalidated, so do it again: {why}"
    return PartialInvalidation(message, done, PARTITIONS)


def _wire(address: RedisAddress, asynchronous: bool) -> Wire:
    if asynchronous:
        from askonce.store.redis.async_wire import AsyncWire  # here: a sync program needs no asyncio

        return AsyncWire(address)
    return SyncWire(address)


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


def read_generations(said: dict[bytes, bytes]) -> Generations:
    """The generations in a hash; StoreTrouble if it is not one of askonce's."""
    try:
        moved = {int(name[2:]): int(when) for name, when in said.items() if name.startswith(b"t:")}
        return Generations(said.get(b"ep", b""), int(said.get(b"clk", 0)), int(said.get(b"floor", 0)), moved)
    except (AttributeError, ValueError):
        raise _not_ours() from None


def _not_ours() -> StoreTrouble:
    return StoreTrouble("store-foreign", "another program wrote the data under the name of the generations")


def _length(head: bytes) -> int:
    """The length of an entry's header, as the entry says; 0 if it is no entry."""
    return int.from_bytes(head[4:8], "big") if head[:2] == MAGIC else 0


def _grant(said: list[Any], at: int, flight: bytes) -> Grant:
    order, epoch, clock = said[at : at + 3]
    if type(order) is not int or type(epoch) is not bytes or type(clock) is not int:
        raise TypeError(said)
    return Grant(flight, order, Snapshot(epoch, clock))
