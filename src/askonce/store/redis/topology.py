"""Which primary of a Cluster has which partition, as the cluster says.

It is learned from CLUSTER SLOTS, over a connection of its own, in a thread of its own: a node may be frozen, and
nobody else's work may wait for that. Asked are first the node that was named last as an owner, then primaries that
work, then all others. It is learned again when a server says that a partition is elsewhere, when a primary has trouble,
and every AGAIN seconds while one that still has partitions goes on having trouble.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from askonce.core.providers.named_tuples import NamedTuple
from askonce.events import log
from askonce.runtime.exits import start_thread
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.cluster_address import ClusterAddress
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.scripts import pack
from askonce.store.redis.trouble import Refusal, garbled, single

SLOTS = pack(b"CLUSTER", b"SLOTS")
AGAIN = 0.25  # s between two attempts
LONGEST = 30.0  # s since the last trouble, after which nothing is asked any more
REPLY = 0.5  # s that the answer may take: it is no lookup's
MOST = 16  # nodes that are asked in one attempt
Owners = tuple[RedisAddress | None, ...]


class Range(NamedTuple):
    """Slots `first` to `last`, and the primary that has them."""

    first: int
    last: int
    host: str
    port: int


class Topology:
    """The owners of one prefix's partitions. Any thread may call it; nothing in it takes a lock.

    `owners`: by partition; None where no primary has it. `version`: another one in each state, 0 at first.
    `failing`: primaries whose last command failed, and when (monotonic s).
    """

    def __init__(self, address: ClusterAddress, slots: Sequence[int]) -> None:
        self.address = address
        # One attribute: what two threads learn at the same time must not be taken for one another's.
        self._state: tuple[int, Owners] = (0, (None,) * len(slots))
        self._versions = count(1)
        self.failing: dict[str, float] = {}
        self.trouble: StoreTrouble | None = None  # of the last attempt
        self._slots = slots
        self._hint: RedisAddress | None = None
        self._attempt: _Attempt | None = None
        self._last = -AGAIN  # when the last attempt ended

    @property
    def owners(self) -> Owners:
        """The owner of each partition."""
        return self._state[1]

    @property
    def version(self) -> int:
        """The number of this state."""
        return self._state[0]

    @property
    def state(self) -> tuple[int, Owners]:
        """Both."""
        return self._state

    @property
    def known(self) -> bool:
        """Whether the cluster has answered."""
        return self.version > 0

    @property
    def just_failed(self) -> bool:
        """Whether nobody answered a moment ago: nothing is gained by waiting for the next attempt."""
        return self.trouble is not None and time.monotonic() - self._last < AGAIN

    def moved(self, partition: int, node: RedisAddress) -> None:
        """A server says that a node has this partition now. The rest of what changed is learned in the background."""
        owners = self.owners
        if owners[partition] is not node:
            self._hint = node
            self._set((*owners[:partition], node, *owners[partition + 1 :]))
            self.refresh()

    def failed(self, primary: str) -> None:
        """A primary has trouble: another one may take its place."""
        self.failing[primary] = time.monotonic()
        self.refresh()

    def worked(self, primary: str) -> None:
        """A primary has answered."""
        self.failing.pop(primary, None)

    def refresh(self, then: Callable[[], object] | None = None) -> None:
        """Learn it again, in the background; call `then` when that was tried."""
        attempt = self._attempt
        if attempt is None or not attempt.alive:
            attempt = _Attempt()
            if then is not None:
                attempt.waiting.append(then)
            try:
                self._attempt = attempt
                attempt.start(self._run, attempt)
            except BaseException:  # an interrupt: without a thread, it would stand in the way of all later ones
                attempt.over = True
                attempt.tell()
                raise
        elif then is not None:
            attempt.waiting.append(then)
            if attempt.over:
                then()

    # in the thread

    def _run(self, attempt: _Attempt) -> None:
        try:
            time.sleep(max(0.0, min(AGAIN, self._last + AGAIN - time.monotonic())))
            self._try()
            while self._pressing():
                attempt.tell()
                time.sleep(AGAIN * random.uniform(0.8, 1.2))  # not all processes at once
                self._try()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            log.debug("the topology was not learned: %r", error)
            self.trouble = StoreTrouble("store-error", f"the cluster's topology cannot be read: {error!r}")
        finally:
            if self._attempt is attempt:
                self._attempt = None
            attempt.over = True
            attempt.tell()

    def _pressing(self) -> bool:
        """Whether a primary that still has partitions has had trouble lately."""
        owners = {owner.text for owner in self.owners if owner is not None}
        since = time.monotonic() - LONGEST
        for name, when in list(self.failing.items()):
            if name not in owners or when < since:
                self.failing.pop(name, None)
        return bool(self.failing)

    def _try(self) -> None:
        """Ask one node after another until one answers."""
        trouble = None
        hint, self._hint = self._hint, None
        for node in self._nodes(hint):
            try:
                found = _asked(node)
            except StoreTrouble as met:
                trouble = trouble if trouble is not None and trouble.about == "cluster" else met.alone()
                continue
            self.trouble = None
            self._learn(found)
            break
        else:
            self.trouble = trouble
        self._last = time.monotonic()

    def _nodes(self, hint: RedisAddress | None) -> list[RedisAddress]:
        owners = [owner for owner in self.owners if owner is not None]
        known = {node.text: node for node in (*([hint] if hint else []), *owners, *self.address.seeds)}
        working = [node for name, node in known.items() if name not in self.failing]
        return [*working, *(node for name, node in known.items() if name in self.failing)][:MOST]

    def _learn(self, ranges: Sequence[Range]) -> None:
        owners: list[RedisAddress | None] = []
        for slot in self._slots:
            found = next((one for one in ranges if one.first <= slot <= one.last), None)
            owners.append(self.address.node(found.host, found.port) if found else None)
        if not self.known or tuple(owners) != self.owners:
            self._set(tuple(owners))

    def _set(self, owners: Owners) -> None:
        self._state = (next(self._versions), owners)


class _Attempt:
    """A thread that learns the topology, and who waits for it. `over`: it will tell nobody any more."""

    def __init__(self) -> None:
        self.over = False
        self.waiting: deque[Callable[[], object]] = deque()
        self._pid = os.getpid()

    @property
    def alive(self) -> bool:
        """Whether it can still tell those who wait."""
        return not self.over and self._pid == os.getpid()

    def start(self, work: Callable[[_Attempt], object], attempt: _Attempt) -> None:
        """Run it in a thread; here if none can be started."""
        if start_thread("askonce-topology", work, attempt) is None:
            work(attempt)

    def tell(self) -> None:
        """Tell those who wait that an attempt was made."""
        while self.waiting:
            self.waiting.popleft()()


def _asked(node: RedisAddress) -> list[Range]:
    """The slots as one node knows them; StoreTrouble if it does not answer, or is no node of a cluster."""
    connection = open_connection(node)
    try:
        connection.timeout = max(REPLY, connection.timeout)
        connection.end_by(time.monotonic() + connection.timeout)
        (reply,) = connection.exchange(SLOTS, 1)
    finally:
        connection.close()
    if type(reply) is Refusal:
        raise single(node.text, reply) if "cluster support disabled" in str(reply) else reply.trouble()
    try:
        return list(_ranges(reply, node))
    except (TypeError, ValueError, IndexError, AttributeError):
        raise garbled(repr(reply)[:80]) from None


def _ranges(reply: Sequence[Any], node: RedisAddress) -> Iterator[Range]:
    for first, last, primary, *_ in reply:
        host, port = primary[0], primary[1]
        # Without a name of its own, a node is where it was asked.
        yield Range(int(first), int(last), host.decode() if host not in {b"", b"?", None} else node.host, int(port))
