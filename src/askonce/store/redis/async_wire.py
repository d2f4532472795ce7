"""The async wire: one multiplexed connection per event loop. It ends with its loop, its wire, or its process.

A loop that ends notifies nobody. asyncio.run may close it with all its steps, a bare close() may, or it may be dropped.
So only the loop keeps alive what belongs to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from askonce.runtime.exits import when_dropped
from askonce.runtime.task_signal import running_loop
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connecting import first, was_first
from askonce.store.redis.connection import Cut
from askonce.store.redis.multiplexed import MultiplexedConnection, open_multiplexed
from askonce.store.redis.trouble import Refusal, closed, over, unconnected

FAR = 10 * 365 * 86400.0  # s
_abandoned: list[object] = []  # a forked child's copies of its parent's objects, kept from their destructors


Connected = MultiplexedConnection | StoreTrouble  # what connecting comes to


class _Unbegun(Coroutine[Any, Any, Connected]):
    """A coroutine that is made at its first step: a loop may end before that, and one made by then prints a warning."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Connected]]) -> None:
        self._work = work
        self._made: Coroutine[Any, Any, Connected] | None = None

    def _begun(self) -> Coroutine[Any, Any, Connected]:
        self._made = self._made or self._work()
        return self._made

    def send(self, value: Any) -> Any:
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        return self._begun().throw(*error)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def __await__(self) -> Generator[Any, Any, Connected]:
        return self._begun().__await__()


class _PerLoop:
    """What belongs to one loop: its connection, and the task that connects it.

    Only the loop keeps it alive, by a timer far in the future. A closed loop drops its timers, and so this object,
    which then closes the connection. There is no other sign of a loop's end.
    """

    def __init__(self, address: RedisAddress) -> None:
        loop = asyncio.get_running_loop()
        self.connection: MultiplexedConnection | None = None
        self._address = address
        self._pid = os.getpid()
        self._loop = weakref.ref(loop)
        self._connecting: asyncio.Task[Connected] | None = None
        self._connecting_in = 0  # which epoch of the address
        self._over = False
        # An empty context: the current caller's must not be kept.
        self._keeper = weakref.ref(loop.call_later(FAR, _nothing, self, context=contextvars.Context()))

    @property
    def mine(self) -> bool:
        """Whether this process made it."""
        return self._pid == os.getpid()

    def __del__(self, pid: Callable[[], int] = os.getpid, abandoned: list[object] = _abandoned) -> None:
        # Default arguments: a module's names are gone while the interpreter ends.
        if self.connection is None:
            return
        if self._pid != pid():
            abandoned.append(self.connection)
        elif (loop := self._loop()) is None or loop.is_closed():
            self.connection.close_after_loop()

    async def ask_anew(self, data: bytes, count: int, until: float = 0.0) -> list[Any]:
        """The replies, over a new connection; `until` is the caller's deadline (loop's s), if that is near."""
        asked = asyncio.get_running_loop().time()
        if first(self._address) is None:
            latest, until = asked + self._address.connect_timeout, 0.0
        else:
            latest = until = until or asked + self._address.timeout
        while True:
            connection = await self.connected(latest)
            try:
                return await connection.ask(data, count, until)
            except Cut as cut:
                # What was begun for another caller may have been cut before this one asked.
                if connection.begun >= asked or not cut.at_once:
                    raise

    async def connected(self, until: float) -> MultiplexedConnection:
        """The connection; callers that come while it is being made share the wait."""
        if self._over:
            raise over()
        connecting = self._attempt()
        while True:
            await asyncio.wait((connecting,), timeout=max(0.0, until - asyncio.get_running_loop().time()))
            if not connecting.done():
                raise unconnected(self._address.timeout)
            if not connecting.cancelled() or self._connecting in (None, connecting):
                return _result(connecting)
            # Another caller knew that it leads nowhere, and began anew.
            connecting = self._connecting

    def _attempt(self) -> asyncio.Task[Connected]:
        """The task that connects in this epoch: the one under way, or a new one."""
        loop = asyncio.get_running_loop()
        epoch = self._address.epoch.number
        if self._connecting is not None and (self._connecting_in != epoch or self._connecting.done()):
            self._connecting.cancel()  # it leads to no primary, or it is over and its callback was lost
            self._connecting = None
        if self._connecting is None:
            self._connecting_in = epoch
            # An empty context, as above: the connection's callbacks keep it for the connection's life.
            work = _Unbegun(self._connect)
            self._connecting = loop.create_task(work, name="askonce-connect", context=contextvars.Context())
            self._connecting._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - its loop may end
            self._connecting.add_done_callback(self._on_connected)
        return self._connecting

    async def _connect(self) -> Connected:
        # Trouble is a result: an exception of a task whose callers have all gone is logged where its loop ends first.
        try:
            connection = await open_multiplexed(self._address)
        except StoreTrouble as trouble:
            return trouble
        finally:
            was_first(self._address)
        if self._over:  # meanwhile, and the cancellation was lost in the client's steps
            connection.end(over())
            return over()
        old, self.connection = self.connection, connection
        if old is not None:
            old.retire()
        return connection

    def _on_connected(self, connecting: asyncio.Task[Connected]) -> None:
        if self._connecting is connecting:
            self._connecting = None
        if not connecting.cancelled():
            connecting.exception()  # retrieved here, because every waiting caller may have gone

    def close(self) -> None:
        """Close the connection, and stop connecting, for good. On the loop's own thread."""
        self._over = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self.connection is not None:
            self.connection.end(over())
            self.connection = None
        if (keeper := self._keeper()) is not None:
            keeper.cancel()

    async def aclose(self) -> None:
        """The same, and wait until it is done."""
        connecting = self._connecting
        self.close()
        if connecting is not None:
            await asyncio.wait((connecting,))
        await asyncio.sleep(0)  # the transport calls connection_lost in the next turn


def _nothing(_: _PerLoop) -> None:
    """The timer's callback, which never runs."""


def _result(connecting: asyncio.Task[Connected]) -> MultiplexedConnection:
    """The new connection. Any exception that ended the task becomes a StoreTrouble."""
    error = None if connecting.cancelled() else connecting.exception()
    if connecting.cancelled() or error is not None:
        raise closed("while connecting") from error
    if isinstance(connected := connecting.result(), StoreTrouble):
        raise connected
    return connected


_PerLoops = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_PerLoop]]


class AsyncWire:
    """One multiplexed connection per event loop."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._epoch = address.epoch
        self._pid = os.getpid()
        self._per_loop = self._none()
        self._closed = False

    def _none(self) -> _PerLoops:
        per_loops: _PerLoops = weakref.WeakKeyDictionary()
        # When a wire is dropped: its loops outlive it, and would keep its connections.
        when_dropped(self, _close_all, per_loops)
        return per_loops

    def _here(self) -> _PerLoop | None:
        """What belongs to the running loop; None if there is none."""
        known = self._per_loop.get(running_loop())
        return known() if known is not None and self._pid == os.getpid() else None

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, or a Cut if some may have come."""
        per_loop = self._here() or self._opened()
        connection = per_loop.connection
        if connection is None or connection.over is not None or connection.epoch != self._epoch.number:
            return await per_loop.ask_anew(data, count)
        try:
            replies = await connection.ask(data, count)
        except Cut as cut:
            if not cut.at_once:
                raise
        else:
            if not connection.stale or not any(type(reply) is Refusal and reply.stale for reply in replies):
                return replies
            self._address.epoch.end(connection.epoch)
        # Every script may be repeated, so it does not matter whether the server has received it.
        return await per_loop.ask_anew(data, count, connection.until)

    def connected(self) -> bool:
        """Whether the running loop has a usable multiplexed connection."""
        per_loop = self._here()
        connection = per_loop.connection if per_loop is not None else None
        return connection is not None and connection.over is None and connection.epoch == self._epoch.number

    def distrust(self) -> None:
        """End the connection of the running loop."""
        per_loop = self._here()
        if per_loop is not None and per_loop.connection is not None:
            per_loop.connection.end(closed("out of step"))

    def _opened(self) -> _PerLoop:
        if self._pid != os.getpid():
            self._per_loop, self._pid = self._none(), os.getpid()
        per_loop = _PerLoop(self._address)
        self._per_loop[asyncio.get_running_loop()] = weakref.ref(per_loop)
        if self._closed:  # checked last: a close on another loop may not have seen this one
            per_loop.close()
            raise over()
        return per_loop

    async def close(self) -> None:
        """Close the connections of all loops, each on its own loop."""
        self._closed = True
        per_loop = self._here()
        if per_loop is not None:
            await per_loop.aclose()
        if self._pid == os.getpid():
            _close_all(self._per_loop)


def _close_all(per_loops: _PerLoops) -> None:
    """Have each loop close its own connection. Takes no lock."""
    for loop, known in list(per_loops.items()):
        per_loop = known()
        if per_loop is not None and per_loop.mine:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and so is its connection
                loop.call_soon_threadsafe(per_loop.close)
