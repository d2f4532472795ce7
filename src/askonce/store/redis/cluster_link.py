"""The background thread's connections to a Cluster: a link to each primary, and one poll for all of them.

A key's notices come from the primary that has its partition, by sharded pub/sub. When a partition moves, its old server
ends the subscriptions (sunsubscribe), or refuses new ones (MOVED). The keys are then subscribed at the new owner, and
reported as in force once more, so that their waiters look again.

A primary in trouble is trouble for its keys alone. Its link rests for a while after each failure (the hold), and is
made in a thread of its own, so the others are never kept waiting for it. Renewals that did not reach it are ``late``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from askonce.core.keys import Key
from askonce.core.tape import Notice
from askonce.runtime.drive import drive
from askonce.store import PARTITIONS, Held, Link, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.batch import Batch
from askonce.store.redis.calls import replied
from askonce.store.redis.cluster import ClusterPrimaries
from askonce.store.redis.cluster_address import ClusterAddress
from askonce.store.redis.connection import Connection
from askonce.store.redis.link import BROADCAST, CHUNK, Due, RedisLink
from askonce.store.redis.names import Names
from askonce.store.redis.near import REST, clock, near_of
from askonce.store.redis.pool import Pool
from askonce.store.redis.scripts import Scripts, pack
from askonce.store.redis.topology import AGAIN, Topology
from askonce.store.redis.tracking import Tracking
from askonce.store.redis.trouble import Refusal, unrefused
from askonce.store.redis.waker import Waker
from askonce.store.redis.wire import Wire

HOLD = 0.2  # s that a primary is left alone after its link failed; doubled each time, up to LONGEST
LONGEST = 1.0
BATCH = 512  # commands in one round trip
_PLAIN = {b"ssubscribe": b"subscribe", b"sunsubscribe": b"unsubscribe", b"smessage": b"message"}
_RENEWED = {b"ok": "ok", b"want": "want", b"lost": "lost"}


class PrimaryLink(RedisLink):
    """The link to one primary of a Cluster.

    `strayed`: keys whose notices come from another primary by now. `held`: when it may be used again after it failed
    (monotonic s), and `why` it failed.
    """

    _subscribe, _unsubscribe = b"SSUBSCRIBE", b"SUNSUBSCRIBE"

    def __init__(self, address: RedisAddress, names: Names, scripts: Scripts, tracking: Tracking, waker: Waker) -> None:
        super().__init__(address, names, scripts, tracking, waker)
        self.strayed: list[Key] = []
        self.held = 0.0
        self.why: StoreTrouble | None = None
        self.name = address.text
        self._hold = HOLD
        self._pool = Pool(address)

    @property
    def used(self) -> bool:
        """Whether it has a connection, or needs one."""
        return self._connection is not None or bool(self._keys) or self._tracking.due(clock()) < math.inf

    @property
    def sock(self) -> Any:
        """The socket of its connection; None if it has none."""
        return self._connection.sock if self._connection is not None else None

    def read(self) -> None:
        """Read what has come; StoreTrouble if the connection ended."""
        if self._connection is not None:
            self._receive(self._connection)

    def keys(self) -> list[Key]:
        """The keys whose notices it asked for."""
        return list(self._keys.values())

    def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies to commands of the background thread, on this connection."""
        if self.why is not None and time.monotonic() < self.held:
            raise StoreTrouble(self.why.kind, str(self.why), self.why.at)
        try:
            replies = self._ask(data, count)
        except StoreTrouble as trouble:
            self.failed(trouble)
            raise
        self.worked()
        return replies

    def failed(self, trouble: StoreTrouble) -> None:
        """Leave this primary alone for a while."""
        self.why = trouble.alone()
        self.held = time.monotonic() + self._hold
        self._hold = min(2 * self._hold, LONGEST)

    def worked(self) -> None:
        """It answered."""
        self.why, self._hold = None, HOLD

    def disconnect(self) -> None:
        """Close the connection; the next use makes another one."""
        super().close()

    def close(self) -> None:
        """Close the connection, and those under way, for good."""
        super().close()
        self._pool.close()

    def _opened(self) -> Connection:
        # Made in another thread. The first time, it is waited for; after a failure, it is fetched when it is there.
        patience = self._address.timeout if self.why is not None else 0.0
        connection = self._pool.wait(time.monotonic() - patience)
        connection.sock.settimeout(connection.timeout)
        return connection

    def _together(self, channels: list[bytes]) -> Iterator[list[bytes]]:
        """Channels of one slot: one command may name no others."""
        slots: dict[bytes, list[bytes]] = {}
        for channel in channels:
            slots.setdefault(channel.partition(b"}")[0], []).append(channel)
        for some in slots.values():
            for at in range(0, len(some), CHUNK):
                yield some[at : at + CHUNK]

    def _push(self, said: list[Any]) -> None:
        kind, due = said[0], self._due[0] if self._due else None
        if kind == b"sunsubscribe" and (due is None or said[1] not in due.channels):
            if (key := self._keys.pop(said[1], None)) is not None:
                self.strayed.append(key)  # not asked for: the slot has left this server
            return
        super()._push([_PLAIN.get(kind, kind), *said[1:]])

    def _refused_to(self, said: Refusal, due: Due) -> None:
        if said.strays:
            self.strayed += [key for channel in due.channels if (key := self._keys.pop(channel, None)) is not None]
        elif "unknown command" in str(said).lower():
            # Before Redis 7: notices are published to the whole cluster, and any server brings them.
            self._subscribe, self._unsubscribe = BROADCAST
            assert self._connection is not None
            channels = [channel for channel in due.channels if channel in self._keys]
            if channels:
                self._send(self._connection, self._subscribe, *channels)
        else:
            super()._refused_to(said, due)


class _Through:
    """A wire through the link to one primary: the background thread needs no further connections."""

    def __init__(self, link: PrimaryLink) -> None:
        self._link = link

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies."""
        return self._link.ask(data, count)

    def connected(self) -> bool:
        """Whether the link has a connection."""
        return self._link.sock is not None

    def distrust(self) -> None:
        """Close the link's connection; the next use makes another one."""
        self._link.disconnect()

    async def close(self) -> None:
        """Do nothing: the links are closed by what has them."""


class ClusterLink:
    """One process's subscriptions and renewals at a Cluster. Implements Link."""

    def __init__(self, address: ClusterAddress, prefix: str, topology: Topology, names: Names, tracked: str) -> None:
        self._topology = topology
        self._tracked = tracked
        self._names = names
        self._primaries = LinkedPrimaries(address, prefix, topology=topology, wire=self._wire)
        self._scripts = self._primaries.scripts
        self._waker = Waker()
        self._links: dict[str, PrimaryLink] = {}
        self._homes: dict[Key, PrimaryLink | None] = {}  # where each key is subscribed; None: nowhere yet
        self._version = 0
        self._placing = 0.0  # when keys that are subscribed nowhere are tried again (monotonic s)

    def _wire(self, address: RedisAddress) -> Wire:
        return _Through(self._link(address))

    def _link(self, address: RedisAddress) -> PrimaryLink:
        found = self._links.get(address.text)
        if found is None:
            tracking = Tracking(self._tracked, self._names, partial(_owned, self._topology, address))
            found = PrimaryLink(address, self._names, self._scripts, tracking, self._waker)
            self._links[address.text] = found
        return found

    @property
    def may_not_listen(self) -> bool:
        """Whether this user may not subscribe."""
        return any(link.may_not_listen for link in self._links.values())

    @property
    def trouble(self) -> StoreTrouble | None:
        """The trouble of a primary that is needed; None if all work."""
        return next((link.why for link in self._links.values() if link.why is not None), None)

    # subscriptions

    def subscribe(self, key: Key) -> None:
        """Ask for the notices about a key."""
        self._homes[key] = None
        self._place(key)

    def unsubscribe(self, key: Key) -> None:
        """Ask for no more notices about a key."""
        home = self._homes.pop(key, None)
        if home is not None:
            self._at(home, partial(home.unsubscribe, key))

    def _place(self, key: Key) -> None:
        """Subscribe to a key where its partition is."""
        owner = self._topology.owners[key.digest[0] % PARTITIONS]
        home = self._homes.get(key)
        if owner is None:
            self._homes[key] = None
            self._topology.refresh(self.wake)
        elif (link := self._link(owner)) is not home:
            if home is not None:
                self._at(home, partial(home.unsubscribe, key))
            self._homes[key] = link
            self._at(link, partial(link.subscribe, key))

    @staticmethod
    def _at(link: PrimaryLink, work: Any) -> Any:
        """Do something at one primary; after trouble it is left alone for a while, and told of all keys then."""
        try:
            done = work()
        except StoreTrouble as trouble:
            link.failed(trouble)
            return None
        return done

    def _settle(self) -> None:
        """Follow the partitions that have moved."""
        for link in self._links.values():
            strayed, link.strayed = link.strayed, []
            for key in strayed:
                if self._homes.get(key) is link:
                    self._homes[key] = None
            if strayed:
                self._topology.refresh(self.wake)
        if self._version != self._topology.version:
            self._version = self._topology.version
            for key in list(self._homes):
                self._place(key)
            self._close_unused()
        elif time.monotonic() >= self._placing and None in self._homes.values():
            self._placing = time.monotonic() + AGAIN
            for key in [key for key, home in self._homes.items() if home is None]:
                self._place(key)

    def _close_unused(self) -> None:
        """Close the links to servers that are no primaries any more."""
        names = set(self._primaries.names())
        for name in [name for name in self._links if name not in names]:
            self._links.pop(name).close()

    def _track(self) -> None:
        """Have a link to every primary while lookups use the near cache."""
        near = near_of(self._tracked)
        if near is not None and clock() - near.used < REST:
            for owner in {owner.text: owner for owner in self._topology.owners if owner is not None}.values():
                self._link(owner)

    # waiting

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        """Wait at most `timeout` s, or until `wake`. Return (new notices, keys whose subscription came into force)."""
        self._settle()
        self._track()
        now, waiting = time.monotonic(), dict[Any, PrimaryLink]()
        for link in list(self._links.values()):
            if link.why is not None and now < link.held:
                timeout = min(timeout, link.held - now)
            elif link.used:
                left = self._begun(link)
                timeout = min(timeout, AGAIN if left is None else left)
                if link.sock is not None:
                    waiting[link.sock] = link
        if None in self._homes.values() or any(link.strayed for link in self._links.values()):
            timeout = min(timeout, AGAIN)
        for sock in self._waker.wait(waiting, timeout):
            self._at(waiting[sock], waiting[sock].read)
        return self._collected(list(waiting.values()))

    def _begun(self, link: PrimaryLink) -> float | None:
        left: float | None = self._at(link, link.begin_poll)
        if left is not None and link.why is not None:
            link.worked()
        elif left is None:
            self._topology.failed(link.name)
        return left

    def _collected(self, links: Sequence[PrimaryLink]) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        notices: list[tuple[Key, Notice]] = []
        ready: list[Key] = []
        for link in links:
            came = self._at(link, link.end_poll)
            if came is None:
                self._topology.failed(link.name)
                continue
            notices += came[0]
            ready += came[1]
        return notices, ready

    def wake(self) -> None:
        """Make a `poll` under way return at once."""
        self._waker.wake()

    # commands

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        """``ok``, ``want``, ``lost`` or ``late`` for each lease; one round trip to each primary for some hundreds."""
        said: list[str] = []
        for at in range(0, len(held), BATCH):
            batch = Batch(self._primaries)
            verbs = [self._renewed(batch, one, heartbeat) for one in held[at : at + BATCH]]
            said += ["late" if isinstance(one, StoreTrouble) else one for one in drive(batch.run(verbs))]
        return said

    async def _renewed(self, batch: Batch, held: Held, heartbeat: int) -> str:
        key, flight, order = held
        _, lease, generations = self._names.of(key)
        wire, script, args = batch.wires[key.digest[0] % PARTITIONS], self._scripts.renew, (flight, order, heartbeat)
        reply = await replied(wire, script, (lease, generations), args)
        if type(reply) is Refusal and reply.trouble().at == "key":
            return "lost"  # something else is stored in place of the lease
        return _RENEWED.get(unrefused(reply), "late")

    def say(self, key: Key, notice: Notice) -> None:
        """Send a notice to the waiters of a key."""
        self.say_all([(key, notice)])

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        """Send many notices. Where a primary has trouble, waiters claim again without them."""
        for at in range(0, len(said), BATCH):
            batch = Batch(self._primaries)
            drive(batch.run([self._said(batch, key, notice) for key, notice in said[at : at + BATCH]]))

    async def _said(self, batch: Batch, key: Key, notice: Notice) -> None:
        wire, channel = batch.wires[key.digest[0] % PARTITIONS], self._names.channel(key)
        (reply,) = await wire.ask(pack(b"SPUBLISH", channel, notice.packed()), 1)
        if type(reply) is Refusal and "unknown command" in str(reply).lower():
            await wire.ask(pack(b"PUBLISH", channel, notice.packed()), 1)

    def probe(self) -> None:
        """Make one cheap round trip to each primary; StoreTrouble if one is in trouble."""
        if not self._topology.known:
            drive(self._primaries.ask(0, pack(b"TIME"), 1))
        for owner in {owner.text: owner for owner in self._topology.owners if owner is not None}.values():
            self._link(owner).probe()

    def close(self) -> None:
        """Close all connections."""
        for link in self._links.values():
            link.close()


class LinkedPrimaries(ClusterPrimaries):
    """The primaries of a Cluster as a store has them: with a link for the background thread, which asks them too."""

    def link(self, names: Names, tracked: str) -> Link:
        """As Primaries.link."""
        return ClusterLink(self._address, self._prefix, self.topology, names, tracked)


def _owned(topology: Topology, address: RedisAddress) -> tuple[int, ...]:
    """The partitions of one primary."""
    return tuple(partition for partition, owner in enumerate(topology.owners) if owner is address)
