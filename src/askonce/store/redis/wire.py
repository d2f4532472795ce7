"""How commands reach a Redis: packed bytes are sent, and replies come back, error replies among them as values.

Two wires have one method, `ask`. The sync wire blocks, on a connection from a pool. The async wire has one connection
per event loop, which carries all tasks' commands one after another (a multiplexed connection).

A connection is used by the caller that took it from its place. It goes back only when every reply to what was sent has
been read. So after a timeout, a signal or a bug, no late reply can be taken for another command's: the connection is
no longer there. On a multiplexed connection, the reply of a caller that gave up still has its place in the queue, and
is dropped when it comes.

Every connection proves itself at each use: it belongs to this process, it was not idle so long that it may have been
dropped on the way, and its server has not been reported as no primary since it was made. A connection that is closed,
or says that it is no primary, is replaced once, within the one deadline of a lookup.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from askonce.runtime import forks
from askonce.runtime.exits import when_dropped
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connection import LEAST, Connection, Cut, Spin
from askonce.store.redis.pool import Pool
from askonce.store.redis.trouble import Refusal, over


class Wire(Protocol):
    """What a store sends its commands through."""

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The `count` replies to the packed commands of `data`; a Refusal for a command that the server refused."""
        ...

    def connected(self) -> bool:
        """Whether this caller's next command needs no new connection."""
        ...

    def distrust(self) -> None:
        """Replies did not fit their commands: this caller's connection is not used again."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class SyncWire:
    """A connection from a pool, for one exchange. `ask` never suspends."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._pools: dict[int, Pool] = {}  # by process: a parent's pool is only closed
        self._closed = False

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, or a Cut if some may have come."""
        pool, now = self._pools.get(forks.pid) or self._opened(), time.monotonic()
        connection = pool.take(now)
        if connection is None:
            return self._anew(pool, data, count, now)
        try:
            replies = connection.exchange(data, count, now)
        except Cut as cut:
            if not cut.at_once:
                raise
        else:
            if self._kept(connection, replies, count):
                pool.give(connection)
                return replies
            self._address.epoch.end(connection.epoch)
        # Every script may be repeated, so it does not matter whether the server has received it.
        return self._anew(pool, data, count, now)

    def _anew(self, pool: Pool, data: bytes, count: int, began: float) -> list[Any]:
        """On a connection that must be waited for, by the deadline of the caller, which began then."""
        while True:
            connection = pool.wait(began)
            # Not since it was made: what was begun for another caller may have been cut since, unseen.
            fresh = connection.begun >= began
            start = max(began, pool.progress, time.monotonic() + LEAST - connection.timeout)
            connection.end_by(start + connection.timeout)
            try:
                replies = connection.exchange(data, count, start)
            except Cut as cut:
                if fresh or not cut.at_once:
                    raise
                continue
            if self._kept(connection, replies, count):
                pool.give(connection)
                return replies
            if fresh:
                return replies
            self._address.epoch.end(connection.epoch)

    def _opened(self) -> Pool:
        """The pool of this process: of several made at once, one is kept."""
        if self._closed:
            raise over()
        pool = Pool(self._address)
        found = self._pools.setdefault(forks.pid, pool)
        if found is pool:
            # Its connections are closed when the wire is dropped: collecting them would print a warning for each.
            when_dropped(self, pool.close)
            for pid in self._pools.keys() - {forks.pid}:
                self._pools.pop(pid).close()
            Spin.looking = False
        return found

    @staticmethod
    def _kept(connection: Connection, replies: list[Any], count: int) -> bool:
        """Whether a connection may be used again."""
        if len(replies) != count:
            connection.close()
            raise StoreTrouble("store-error", "the store sent more replies than it was asked for")
        for reply in replies:
            if type(reply) is Refusal and reply.stale:
                connection.close()
                return False
        return True

    def connected(self) -> bool:
        """Whether there is a connection."""
        pool = self._pools.get(forks.pid)
        return pool is not None and (bool(pool.idle) or pool.open() > 0)

    def distrust(self) -> None:
        """Use no present connection again: which caller has which is not known."""
        self._address.epoch.end()

    async def close(self) -> None:
        """Close all connections; one in use is closed when its user gives it back."""
        self._closed = True
        for pool in list(self._pools.values()):
            pool.close()
