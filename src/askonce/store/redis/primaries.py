"""The primaries of a Redis, and a store's wires to them. A single server is one primary that has every partition.

A primary has an address, a wire, breakers, and a link of the background thread; what goes wrong with one is trouble for
its keys alone. All names of a partition have one hash slot, so a command about a key goes to one primary.
"""

# ruff: noqa: D102 - the protocol says what each method does

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import PARTITIONS, Link, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connection import Cut
from askonce.store.redis.link import RedisLink
from askonce.store.redis.names import Names
from askonce.store.redis.scripts import Scripts, shipped
from askonce.store.redis.tracking import Tracking
from askonce.store.redis.wire import SyncWire, Wire

T = TypeVar("T")


class Asked(NamedTuple):
    """Commands about one partition, packed, and how many replies they have."""

    partition: int
    data: bytes
    replies: int


Replies = list[Any] | StoreTrouble  # to one Asked: all of them, or why not


class Primaries(Protocol):
    """What a RedisStore has in place of a server. `wires`: for each partition, a wire to the primary that has it."""

    text: str  # the address, without a password
    wires: Sequence[Wire]
    scripts: Scripts

    def name(self, partition: int) -> str:
        """As Store.primary."""
        ...

    def names(self) -> Sequence[str]:
        """As Store.primaries."""
        ...

    @property
    def version(self) -> int:
        """Another number after each change of which primary has which partition."""
        ...

    async def ask_all(self, asked: Sequence[Asked]) -> list[Replies]:
        """The replies to each; one round trip for each primary."""
        ...

    async def confirmed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do a work that must not be lost, again if those who acknowledged it turn out to be no primaries any more."""
        ...

    async def ask_at(self, name: str, data: bytes, count: int) -> list[Any]:
        """The replies of one primary to commands that are about no key."""
        ...

    def addresses(self) -> Mapping[int, RedisAddress]:
        """Where they are, as far as is known, each by one of its partitions."""
        ...

    def reconnect(self, name: str) -> None:
        """As Store.reconnect."""
        ...

    def link(self, names: Names, tracked: str) -> Link:
        """As Store.link. `tracked`: the address of the near cache that it fills."""
        ...

    def blocking(self) -> Primaries:
        """The same primaries, with wires of their own that block."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def wire_to(address: RedisAddress, *, asynchronous: bool) -> Wire:
    """A new wire to one server."""
    if asynchronous:
        from askonce.store.redis.async_wire import AsyncWire  # here: a sync program needs no asyncio

        return AsyncWire(address)
    return SyncWire(address)


class OnePrimary:
    """A single server. Implements Primaries."""

    version = 0

    def __init__(self, address: RedisAddress, *, asynchronous: bool) -> None:
        self.text = address.text
        self.scripts = shipped()
        self._address = address
        self._wire = wire_to(address, asynchronous=asynchronous)
        self.wires: Sequence[Wire] = (self._wire,) * PARTITIONS

    def name(self, partition: int) -> str:
        del partition
        return ""

    def names(self) -> Sequence[str]:
        return ("",)

    async def ask_all(self, asked: Sequence[Asked]) -> list[Replies]:
        return await ask_together(self._wire, asked)

    async def confirmed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await work()

    async def ask_at(self, name: str, data: bytes, count: int) -> list[Any]:
        del name
        return await self._wire.ask(data, count)

    def addresses(self) -> Mapping[int, RedisAddress]:
        return {0: self._address}

    def reconnect(self, name: str) -> None:
        del name
        self._address.epoch.end()

    def link(self, names: Names, tracked: str) -> Link:
        return RedisLink(self._address, names, self.scripts, Tracking(tracked, names))

    def blocking(self) -> OnePrimary:
        return OnePrimary(self._address, asynchronous=False)

    async def close(self) -> None:
        await self._wire.close()


async def ask_together(wire: Wire, asked: Sequence[Asked]) -> list[Replies]:
    """The replies to each, in one round trip of one wire."""
    trouble: StoreTrouble | None = None
    try:
        replies = await wire.ask(b"".join([one.data for one in asked]), sum(one.replies for one in asked))
    except Cut as cut:
        replies, trouble = cut.replies, cut
    except StoreTrouble as met:
        replies, trouble = [], met
    found: list[Replies] = []
    done = 0
    for one in asked:
        mine = replies[done : done + one.replies]
        done += one.replies
        found.append(mine if len(mine) == one.replies or trouble is None else trouble)
    return found
