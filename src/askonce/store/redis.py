"""The store on one Redis or Valkey server.

A hit is one round trip of plain reads: the body never goes through Lua, where it would cost thirty times as much.
Everything that decides is a script, the twin of a function in core.lease (see `lua/`). The verbs are written once; the
wire under them blocks in a sync store and suspends in an async one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Claim, Follow, Generations, Grant, Hit, Lead, Stale
from askonce.core.model import FORMS, Lifetime, Sealed, Snapshot, pack_fields
from askonce.core.tape import Ending
from askonce.errors import ConfigError, PartialInvalidation, StoreUnavailable
from askonce.store import PARTITIONS, Link, Look, StoreTrouble
from askonce.store import redis_address as addresses
from askonce.store.names import Names
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_link import RedisLink
from askonce.store.scripts import Script, Scripts, Word, claim_args, pack, release_args
from askonce.store.trouble import Refusal, unrefused
from askonce.store.wire import Cut, SyncWire, Wire


class RedisStore:
    """Entries, leases and generations of one prefix in one Redis or Valkey. Implements Store."""

    kind = "redis"

    def __init__(self, address: RedisAddress, *, prefix: str = "", asynchronous: bool = False) -> None:
        self.names = Names(prefix)
        # The prefix too: the fleet thread's link makes its names with that of the store that it came from.
        self.address = f"{address.text}#{prefix}"
        self.scripts = Scripts()
        self._address = address
        self._prefix = prefix
        self._asynchronous = asynchronous
        self._wire: Wire = self._new_wire()

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "", asynchronous: bool = False, client: Any = None, **options: Any
    ) -> RedisStore:
        """The store of a URL, or of a configured client whose connection options are taken; nothing is sent."""
        if client is None:
            return cls(addresses.from_url(url, options), prefix=prefix, asynchronous=asynchronous)
        if options:
            raise ConfigError(f"options beside client=: set {', '.join(options)} on the client itself")
        return cls(addresses.from_client(client), prefix=prefix, asynchronous=asynchronous)

    def __repr__(self) -> str:
        return f"<RedisStore {self.address}>"

    def _new_wire(self) -> Wire:
        if self._asynchronous:
            from askonce.store.trunk import AsyncWire  # a sync program needs no asyncio

            return AsyncWire(self._address)
        return SyncWire(self._address)

    # reading

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        """The entry and the generations by plain reads, in one round trip; writes nothing."""
        asked = fields if type(fields) is tuple else tuple(fields)
        entry, read, time = await self._wire.ask(self.names.look(key, asked), 3)
        try:
            now_us = int(time[0]) * 1_000_000 + int(time[1])
            clock, floor = int(read[1] or 0), int(read[2] or 0)
            moved = {one: int(when) for one, when in zip(asked, read[3:], strict=True) if when} if asked else {}
        except (TypeError, ValueError):
            raise _look_trouble(entry, read, time) from None
        if type(entry) is Refusal:
            raise entry.trouble()
        return Look(entry, Generations(read[0] or b"", clock, floor, moved), now_us)

    async def entry(self, key: Key) -> bytes | None:
        """The entry's bytes alone."""
        return await self._get(self.names.of(key)[0])

    async def tape(self, key: Key, flight: bytes, order: int) -> bytes | None:
        """The log of one flight, or None."""
        return await self._get(self.names.tape(key, flight, order))

    async def _get(self, name: bytes) -> bytes | None:
        found: bytes | None = unrefused((await self._wire.ask(pack(b"GET", name), 1))[0])
        return found

    # deciding

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Decide by core.lease.claim."""
        said = await self._run(self.scripts.claim, self.names.of(key), claim_args(key, ask))
        return read_claim(said, ask.id)

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Store an answer; wakes the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order))
        channel = self.names.channel(key)
        args = (flight, order, life.ttl, life.grace, life.error, life.cap, *sealed, key.form, channel)
        verdict: bytes = await self._run(self.scripts.fill, keys, args)
        return verdict.decode()

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Give a lease back, write the ending to the tape if needed, wake the waiters."""
        keys = (*self.names.of(key), self.names.tape(key, flight, order))
        args = release_args(key, flight, order, ending, failed, hint, self.names.channel(key))
        await self._run(self.scripts.release, keys, args)

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        """Slide an entry; False when there was nothing to lengthen."""
        entry, _, generations = self.names.of(key)
        args = (key.digest, key.form, flight, order, hot_ttl, cap)
        return bool(await self._run(self.scripts.extend, (entry, generations), args))

    async def count(self, key: Key, hits: int, window: int) -> int:
        """Add hits to the key's counter: those within about the last `window` ms."""
        return int(await self._run(self.scripts.count, (self.names.hits(key),), (hits, window)))

    async def forget(self, key: Key) -> None:
        """Delete the entries and leases of a question in all its forms."""
        forms: tuple[Form, ...] = FORMS  # type: ignore[assignment]
        keys = [name for form in forms for name in self.names.of(Key(key.digest, form))[:2]]
        await self._run(self.scripts.forget, tuple(keys), ())

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        """Move the generations of every partition: one batch, one round trip.

        PartialInvalidation when not all of them answered, StoreUnavailable when none did.
        """
        args = (int(everything), pack_fields(fields))
        names = [(self.names.generations(partition),) for partition in range(PARTITIONS)]
        try:
            replies = await self._run_all(self.scripts.invalidate, names, args)
            why = next((reply.trouble() for reply in replies if type(reply) is Refusal), None)
        except Cut as cut:
            replies, why = cut.replies, cut
        except StoreTrouble as trouble:
            replies, why = [], trouble
        done = sum(type(reply) is not Refusal for reply in replies)
        if why is None:
            return
        if not done:
            raise StoreUnavailable(f"nothing was invalidated: {why}", why.kind) from why
        message = f"{done} of {PARTITIONS} partitions were invalidated, so do it again: {why}"
        raise PartialInvalidation(message, done, PARTITIONS) from why

    # the rest of the contract

    def link(self) -> Link:
        """A new link, for the fleet thread alone."""
        return RedisLink(self._address, self.names, self.scripts)

    def blocking(self) -> RedisStore:
        """This place for the fleet thread: a store with a connection of its own."""
        return RedisStore(self._address, prefix=self._prefix)

    def after_fork(self) -> None:
        """Let go of the parent's connections without a word on them."""
        self._wire = self._new_wire()

    async def close(self) -> None:
        """Close every connection."""
        await self._wire.close()

    # sending

    async def _run(self, script: Script, keys: tuple[bytes, ...], args: tuple[Word, ...]) -> Any:
        (reply,) = await self._wire.ask(script.call(keys, args), 1)
        if type(reply) is Refusal and reply.noscript:
            (reply,) = await self._wire.ask(script.call(keys, args, whole=True), 1)
        return unrefused(reply)

    async def _run_all(self, script: Script, keys: Sequence[tuple[bytes, ...]], args: tuple[Word, ...]) -> list[Any]:
        replies: list[Any] = []
        for whole in (False, True):
            # The first call by its text teaches the server the rest of the batch.
            calls = [script.call(one, args, whole=whole and at == 0) for at, one in enumerate(keys)]
            replies = await self._wire.ask(b"".join(calls), len(calls))
            if not any(type(reply) is Refusal and reply.noscript for reply in replies):
                break
        return replies


def _look_trouble(*replies: Any) -> StoreTrouble:
    for reply in replies:
        if type(reply) is Refusal:
            return reply.trouble()
    return StoreTrouble("store-foreign", "what stands where generations belong was not written by askonce")


def read_claim(said: list[Any], flight: bytes) -> Claim:
    """What the script answered."""
    kind = said[0]
    if kind == 0:
        return Lead(_grant(said, 1, flight))
    if kind == 3:
        return Follow(said[1], said[2], said[3])
    grant = _grant(said, 4, flight) if len(said) > 4 else None
    return (Hit if kind == 1 else Stale)(said[1], said[2], said[3], grant)


def _grant(said: list[Any], at: int, flight: bytes) -> Grant:
    order, epoch, clock = said[at : at + 3]
    return Grant(flight, order, Snapshot(epoch, clock))
