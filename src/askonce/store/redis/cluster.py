"""The primaries of a Cluster: a store's wires to them, and how a redirected command reaches its key.

A command goes to the primary that had its partition last. A node that does not have it says where it is: MOVED is
learned, and ASK holds for this one command, behind an ASKING of its own. Only the refused commands of a batch are sent
again, so no reply is lost. TRYAGAIN says that the keys of a script are at two nodes, because their slot is being moved;
it is tried again for a moment, and is then trouble of this key alone. A READONLY is answered by asking who is
primary now, and a CLUSTERDOWN is trouble at once, for it may last.

Whatever is sent again may be: every script may be repeated.
"""

# ruff: noqa: D102 - the protocol (Primaries) says what each method does

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from askonce.runtime.exits import EXIT
from askonce.store import CONNECT_TIMEOUT, PARTITIONS, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.cluster_address import ClusterAddress
from askonce.store.redis.names import Names
from askonce.store.redis.primaries import Asked, Replies, ask_together, wire_to
from askonce.store.redis.scripts import pack, sharded
from askonce.store.redis.topology import Topology
from askonce.store.redis.trouble import Refusal, moving, unconnected, uncovered
from askonce.store.redis.waits import TaskWaits, ThreadWaits, Waits
from askonce.store.redis.wire import Wire

T = TypeVar("T")
ASKING = pack(b"ASKING")
HOPS = 6  # times that one command is sent elsewhere
PAUSES = (0.0, 0.005, 0.01, 0.02, 0.04, 0.04)  # s before a slot that is being moved is tried again


class Node:
    """One primary: its address, and a store's wire to it."""

    __slots__ = ("address", "name", "wire")

    def __init__(self, address: RedisAddress, wire: Wire) -> None:
        self.address = address
        self.name = address.text
        self.wire = wire


class _Sent:
    """One command on its way: where it was sent, and what came of it: a reply, or the trouble of its primary."""

    __slots__ = ("asking", "data", "node", "partition", "reply")

    def __init__(self, partition: int, data: bytes, node: Node, reply: Any) -> None:
        self.partition = partition
        self.data = data
        self.node = node
        self.reply = reply
        self.asking = False

    @property
    def strays(self) -> bool:
        """Whether it must be sent again."""
        return type(self.reply) is Refusal and self.reply.strays


class ToPartition:
    """The wire to whichever primary has one partition."""

    def __init__(self, primaries: ClusterPrimaries, partition: int) -> None:
        self._primaries = primaries
        self._partition = partition

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies of the primary that has the partition."""
        return await self._primaries.ask(self._partition, data, count)

    def connected(self) -> bool:
        """Whether there is a connection to that primary."""
        node = self._primaries.node(self._partition)
        return node is not None and node.wire.connected()

    def distrust(self) -> None:
        """Use no present connection to that primary again."""
        if (node := self._primaries.node(self._partition)) is not None:
            node.wire.distrust()

    async def close(self) -> None:
        """Do nothing: the primaries close their wires."""


class ClusterPrimaries:
    """The primaries of a Cluster for one prefix. Implements Primaries. `wire`: makes the wire to one of them."""

    def __init__(
        self,
        address: ClusterAddress,
        prefix: str,
        *,
        asynchronous: bool = False,
        topology: Topology | None = None,
        wire: Callable[[RedisAddress], Wire] | None = None,
    ) -> None:
        self.text = address.text
        self.scripts = sharded()
        self.wires: Sequence[Wire] = [ToPartition(self, partition) for partition in range(PARTITIONS)]
        self.topology = topology or Topology(address, Names(prefix).slots())
        self._address = address
        self._prefix = prefix
        self._asynchronous = asynchronous
        self._waits: Waits = TaskWaits() if asynchronous else ThreadWaits()
        self._wire = wire
        self._nodes: dict[str, Node] = {}
        self._table: tuple[int, list[Node | None]] = (0, [None] * PARTITIONS)
        self._closed = False

    @property
    def version(self) -> int:
        return self.topology.version

    def name(self, partition: int) -> str:
        owner = self.topology.owners[partition]
        return owner.text if owner is not None else ""

    def names(self) -> Sequence[str]:
        return list({owner.text: None for owner in self.topology.owners if owner is not None}) or [""]

    def node(self, partition: int) -> Node | None:
        """The primary that has a partition, as far as is known."""
        version, nodes = self._table
        return nodes[partition] if version == self.topology.version else self._tabulated()[partition]

    def _tabulated(self) -> list[Node | None]:
        """Take over what the topology knows. A wire that nothing uses any more closes its connections."""
        version, owners = self.topology.state
        nodes = [None if owner is None else self._node(owner) for owner in owners]
        self._table = (version, nodes)
        for name in set(self._nodes) - {owner.text for owner in owners if owner is not None}:
            self._nodes.pop(name, None)
        return nodes

    def _node(self, address: RedisAddress) -> Node:
        found = self._nodes.get(address.text)
        if found is None:
            wire = self._wire(address) if self._wire else wire_to(address, asynchronous=self._asynchronous)
            found = self._nodes.setdefault(address.text, Node(address, wire))
        return found

    # asking

    async def ask(self, partition: int, data: bytes, count: int) -> list[Any]:
        """The replies of the primary that has a partition."""
        node = self.node(partition) or await self._found(partition)
        replies = await self._sent(node, data, count)
        for reply in replies:
            if _strays(reply):
                sent = [_Sent(partition, *one) for one in zip(commands(data), [node] * count, replies, strict=True)]
                await self._follow(sent)
                return [_untroubled(one.reply) for one in sent]
        return replies

    async def ask_all(self, asked: Sequence[Asked]) -> list[Replies]:
        places: list[Node | StoreTrouble] = [await self._place(one.partition) for one in asked]
        groups: dict[Node, list[int]] = {}
        for at, place in enumerate(places):
            if isinstance(place, Node):
                groups.setdefault(place, []).append(at)
        found: list[Replies] = [place if isinstance(place, StoreTrouble) else [] for place in places]
        works = [self._sent_all(node, [asked[at] for at in some]) for node, some in groups.items()]
        for some, replies in zip(groups.values(), await self._waits.side_by_side(works), strict=True):
            for at, said in zip(some, replies, strict=True):
                found[at] = said
        return await self._followed(asked, places, found)

    async def _place(self, partition: int) -> Node | StoreTrouble:
        try:
            return self.node(partition) or await self._found(partition)
        except StoreTrouble as trouble:
            return trouble

    async def _followed(
        self, asked: Sequence[Asked], places: Sequence[Node | StoreTrouble], found: list[Replies]
    ) -> list[Replies]:
        """The replies, after those commands that were sent elsewhere have theirs."""
        sent: dict[int, list[_Sent]] = {}
        for at, (one, node, said) in enumerate(zip(asked, places, found, strict=True)):
            if isinstance(node, Node) and not isinstance(said, StoreTrouble) and any(map(_strays, said)):
                pairs = zip(commands(one.data), said, strict=True)
                sent[at] = [_Sent(one.partition, data, node, reply) for data, reply in pairs]
        if sent:
            await self._follow([one for some in sent.values() for one in some])
        for at, some in sent.items():
            replies = [one.reply for one in some]
            found[at] = next((reply for reply in replies if isinstance(reply, StoreTrouble)), replies)
        return found

    async def confirmed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await work()

    async def ask_at(self, name: str, data: bytes, count: int) -> list[Any]:
        node = await self._found(0) if not self.topology.known else self._nodes.get(name)
        if node is None and name in self.names():
            self._tabulated()
            node = self._nodes.get(name)
        if node is None:
            raise moving(f"{name} has none any more")
        return await self._sent(node, data, count)

    async def _sent(self, node: Node, data: bytes, count: int) -> list[Any]:
        try:
            replies = await node.wire.ask(data, count)
        except StoreTrouble as trouble:
            self._failed(node, trouble)
            raise
        if self.topology.failing:
            self.topology.worked(node.name)
        return replies

    async def _sent_all(self, node: Node, asked: Sequence[Asked]) -> list[Replies]:
        replies = await ask_together(node.wire, asked)
        troubles = [said for said in replies if isinstance(said, StoreTrouble)]
        if troubles:
            self._failed(node, troubles[0])
        elif self.topology.failing:
            self.topology.worked(node.name)
        return replies

    def _failed(self, node: Node, trouble: StoreTrouble) -> None:
        trouble.primary = node.name
        if trouble.kind != EXIT and trouble.at != "key" and not self._closed:
            self.topology.failed(node.name)

    # redirects

    async def _follow(self, sent: Sequence[_Sent]) -> None:
        """Send again what was refused by a node that does not have it, or does not have all of it."""
        if any(type(one.reply) is Refusal and one.reply.down for one in sent):
            self.topology.refresh()
        for hop in range(HOPS):
            # One that says READONLY is asked again once: by then it is known who took its place.
            again = [one for one in sent if one.strays and (one.reply.redirect or one.reply.moving or not hop)]
            if not again:
                break
            if any(one.reply.moving for one in again):
                await self._waits.pause(PAUSES[hop])
            if any(one.reply.redirect is None and not one.reply.moving for one in again):
                await self._learned()
            groups: dict[tuple[Node, bool], list[_Sent]] = {}
            for one in again:
                groups.setdefault(self._direct(one), []).append(one)
            for (node, asking), some in groups.items():
                await self._resent(node, some, asking=asking)
        for one in sent:
            if type(one.reply) is Refusal and (one.reply.strays or one.reply.down):
                one.reply = self._lost(one)

    def _direct(self, one: _Sent) -> tuple[Node, bool]:
        """Where a refused command goes next, and whether behind an ASKING."""
        redirect = one.reply.redirect
        if redirect is None:
            # A slot that is being moved: once more where it was. Otherwise where the partition is by now.
            moved = self.node(one.partition) if not one.reply.moving else None
            one.node, one.asking = moved or one.node, one.asking and one.reply.moving
        else:
            address = self._address.node(redirect.host or one.node.address.host, redirect.port)
            one.asking = redirect.kind == "ASK"
            if not one.asking:
                self.topology.moved(one.partition, address)
            one.node = self._node(address)
        return one.node, one.asking

    async def _resent(self, node: Node, some: Sequence[_Sent], *, asking: bool) -> None:
        data = [ASKING + one.data if asking else one.data for one in some]
        width = 2 if asking else 1
        try:
            replies = await self._sent(node, b"".join(data), width * len(some))
        except StoreTrouble as trouble:
            for one in some:
                one.reply = trouble
            return
        for one, reply in zip(some, replies[width - 1 :: width], strict=True):
            one.reply = reply

    @staticmethod
    def _lost(one: _Sent) -> StoreTrouble:
        """The trouble of a command that no node did."""
        reply: Refusal = one.reply
        trouble = moving(reply) if reply.moving or reply.redirect else reply.trouble()
        trouble.primary = one.node.name
        if reply.down:
            trouble.at = "key"  # the others' slots may be served
        return trouble

    # the topology

    async def _found(self, partition: int) -> Node:
        """The primary of a partition that has none yet; StoreTrouble if there is none."""
        if not self.topology.known and not self.topology.just_failed:
            await self._learned(CONNECT_TIMEOUT)
        else:
            self.topology.refresh()
        node = self.node(partition)
        if node is not None:
            return node
        if self.topology.known:
            raise uncovered()
        known = self.topology.trouble
        timeout = self._address.seeds[0].timeout
        raise StoreTrouble(known.kind, str(known), "connecting", known.about) if known else unconnected(timeout)

    async def _learned(self, timeout: float = 0.0) -> None:
        """Wait until the topology was asked for once more, or for one timeout."""
        await self._waits.until_told(self.topology.refresh, timeout or self._address.seeds[0].timeout)

    # the rest

    def addresses(self) -> Mapping[int, RedisAddress]:
        found = {owner.text: (at, owner) for at, owner in enumerate(self.topology.owners) if owner is not None}
        return dict(found.values())

    def reconnect(self, name: str) -> None:
        if (node := self._nodes.get(name)) is not None:
            node.address.epoch.end()

    def blocking(self) -> Self:
        return type(self)(self._address, self._prefix, topology=self.topology)

    async def close(self) -> None:
        self._closed = True
        for node in list(self._nodes.values()):
            await node.wire.close()


def _strays(reply: Any) -> bool:
    return type(reply) is Refusal and (reply.strays or reply.down)


def _untroubled(reply: Any) -> Any:
    if isinstance(reply, StoreTrouble):
        raise reply
    return reply


def commands(data: bytes) -> list[bytes]:
    """Packed commands, one by one."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        begin, end = at, data.index(b"\r\n", at)
        words = int(data[at + 1 : end])
        at = end + 2
        for _ in range(words):
            end = data.index(b"\r\n", at)
            at = end + 2 + int(data[at + 1 : end]) + 2
        found.append(data[begin:at])
    return found
