"""The async wire: one connection an event loop, on which the commands of all its tasks travel one after another.

redis-py connects it (TLS, ACL, HELLO 3), then its transport is taken over by a protocol of our own: what is asked in
one turn of the loop goes out in one write, and replies are dealt out in order by the parser's callback. That is seven
times as fast as a pool of connections, and a caller who gives up costs nothing: his place in the queue stays.

A reply may be late because a large one is before it. So as long as bytes come, callers wait up to LATE timeouts; with
nothing heard for one, the connection is given up, and all who wait on it are told.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import hiredis

from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_trouble import Refusal, closed, connecting, silent
from askonce.store.wire import NOTHING, PUSH, Cut, patience

LATE = 5  # timeouts that a reply may take while others come
_abandoned: list[object] = []  # what a forked child has of its parent's: kept, so that no destructor touches it


class _Asked:
    """One batch on its way. `due` is set when it is written: a loop that was blocked before did not ask yet."""

    __slots__ = ("count", "data", "due", "replies", "said")

    def __init__(self, data: bytes, count: int, said: asyncio.Future[list[Any]]) -> None:
        self.data = data
        self.count = count
        self.said = said
        self.replies: list[Any] = []
        self.due = 0.0

    def fail(self, trouble: StoreTrouble) -> None:
        """End it without (all of) its replies; a caller who was cancelled does not care."""
        if not self.said.done():
            self.said.set_exception(Cut(trouble, self.replies))


class Trunk(asyncio.Protocol):
    """One connection of one loop, shared by all its tasks."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self.over: StoreTrouble | None = None
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader(replyError=Refusal, notEnoughData=NOTHING)
        self._out: list[_Asked] = []
        self._waiting: deque[_Asked] = deque()
        self._heard = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        # Taken out of redis-py's connection, which would close it when it is collected; there is no public name for it.
        self._writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001
        self._transport: asyncio.WriteTransport = self._writer.transport
        self._transport.set_protocol(self)

    def ask(self, data: bytes, count: int) -> asyncio.Future[list[Any]]:
        """A future of the replies. It fails by Cut, or by being cancelled."""
        asked = _Asked(data, count, self._loop.create_future())
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(asked)
        return asked.said

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.over is not None:
            for asked in out:
                asked.fail(self.over)
            return
        data = b"".join([asked.data for asked in out])
        due = self._loop.time() + patience(self._timeout, len(data))
        for asked in out:
            asked.due = due
        self._waiting.extend(out)
        self._transport.write(data)
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(due, self._sweep)

    def data_received(self, data: bytes) -> None:
        """Deal out the replies, in the order in which they were asked for."""
        self._heard = self._loop.time()
        self._reader.feed(data)
        gets, waiting = self._reader.gets, self._waiting
        try:
            while (reply := gets()) is not NOTHING:
                if type(reply) is PUSH:
                    continue
                asked = waiting[0]
                asked.replies.append(reply)
                if type(reply) is Refusal and reply.stale:
                    self.over = reply.trouble()
                if len(asked.replies) == asked.count:
                    waiting.popleft()
                    if not asked.said.done():
                        asked.said.set_result(asked.replies)
        except (hiredis.ProtocolError, IndexError) as error:
            self.end(StoreTrouble("store-error", f"not what was asked for came from the store: {error}"))
            return
        if self.over is not None and not waiting:
            self._transport.abort()

    def _sweep(self) -> None:
        """Give up what is overdue, and the whole connection when nothing at all was heard for so long."""
        self._sweeper = None
        waiting = self._waiting
        if not waiting:
            return
        now, grace = self._loop.time(), (LATE - 1) * self._timeout
        quiet = max(waiting[0].due, self._heard + self._timeout)
        if quiet <= now:
            self.end(silent(self._timeout))
            return
        for asked in waiting:
            if asked.due + grace > now:
                break
            # Its place in the queue stays, or else the next one would be given its reply.
            asked.fail(silent(LATE * self._timeout))
        self._sweeper = self._loop.call_at(min(quiet, now + self._timeout), self._sweep)

    def connection_lost(self, error: Exception | None) -> None:
        """The other end hung up, or we did."""
        self.end(closed(error or ""))

    def end(self, trouble: StoreTrouble) -> None:
        """Close it; whoever waits for replies is told."""
        self.over = self.over or trouble
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            asked.fail(trouble)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._transport.abort()


async def open_trunk(address: RedisAddress) -> Trunk:
    """Connect, with all that redis-py does for it; StoreTrouble when that failed."""
    connection = address.async_connection(CONNECT_TIMEOUT)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await connection.connect()
        return Trunk(connection, address.timeout)
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if isinstance(error, Exception):
            raise connecting(error) from error
        raise


class _Office:
    """What belongs to one loop: its trunk, the task that connects it, and what closes it when the loop ends."""

    def __init__(self, address: RedisAddress) -> None:
        self.trunk: Trunk | None = None
        self._address = address
        self._dial: asyncio.Task[Trunk] | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._over = False

    async def connected(self) -> Trunk:
        """The trunk; callers who come while it is being connected share the wait."""
        if self._over:
            raise closed("by its user")
        if self._guard is None:
            # A loop closes its async generators before it ends, and tells nobody else.
            self._guard = self._guarding()
            await self._guard.asend(None)
        if self._dial is None:
            self._dial = asyncio.get_running_loop().create_task(self._dialling(), name="askonce-dial")
            self._dial.add_done_callback(self._dialled)
        dial = self._dial
        await asyncio.wait((dial,), timeout=self._address.timeout)
        if not dial.done():
            raise silent(self._address.timeout)
        return dial.result() if not dial.cancelled() else _raise(closed("while connecting"))

    async def _dialling(self) -> Trunk:
        self.trunk = trunk = await open_trunk(self._address)
        return trunk

    def _dialled(self, dial: asyncio.Task[Trunk]) -> None:
        self._dial = None
        if not dial.cancelled():
            dial.exception()  # looked at here, because whoever waited may have gone

    async def _guarding(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close the trunk, and give up connecting, for good. On the loop's own thread."""
        self._over = True
        if self._dial is not None:
            self._dial.cancel()
        if self.trunk is not None:
            self.trunk.end(closed("by its user"))
            self.trunk = None

    async def aclose(self) -> None:
        """The same, and see it done."""
        dial, guard = self._dial, self._guard
        self.close()
        if dial is not None:
            await asyncio.wait((dial,))
        if guard is not None:
            await guard.aclose()
        await asyncio.sleep(0)  # the transport says connection_lost in the next turn


def _raise(trouble: StoreTrouble) -> Any:
    raise trouble


class AsyncWire:
    """A trunk an event loop."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._pid = os.getpid()
        self._offices: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Office] = weakref.WeakKeyDictionary()
        self._closed = False

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, and a Cut where some may have come."""
        office = self._offices.get(asyncio.get_running_loop())
        if office is None or self._pid != os.getpid():
            office = self._opened()
        trunk = office.trunk
        if trunk is None or trunk.over is not None:
            trunk = await office.connected()
            return await trunk.ask(data, count)
        try:
            return await trunk.ask(data, count)
        except Cut as cut:
            if not cut.at_once:
                raise
        # Every script may be repeated, so nothing is lost by not knowing whether the server had heard.
        trunk = await office.connected()
        return await trunk.ask(data, count)

    def _opened(self) -> _Office:
        if self._closed:
            raise StoreTrouble("store-closed", "the store was closed by its user")
        if self._pid != os.getpid():
            _abandoned.append(self._offices)
            self._offices, self._pid = weakref.WeakKeyDictionary(), os.getpid()
        return self._offices.setdefault(asyncio.get_running_loop(), _Office(self._address))

    async def close(self) -> None:
        """Close the trunks of all loops."""
        self._closed = True
        offices, self._offices = dict(self._offices), weakref.WeakKeyDictionary()
        here = asyncio.get_running_loop()
        for loop, office in offices.items():
            if loop is here:
                await office.aclose()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(office.close)
