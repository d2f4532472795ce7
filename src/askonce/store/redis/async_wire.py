"""The async wire: a trunk an event loop, which ends with its loop, with the wire, or with the process that made it.

A loop that ends tells nobody. It may be closed by asyncio.run with all its ceremony, by a bare close(), or be dropped.
So what belongs to a loop is kept alive by the loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import weakref
from collections.abc import Callable
from typing import Any

from askonce.runtime.task_signal import running_loop
from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connecting import first, was_first
from askonce.store.redis.connection import Cut
from askonce.store.redis.multiplexed import Trunk, open_trunk
from askonce.store.redis.trouble import Refusal, closed, over, unconnected

FAR = 10 * 365 * 86400.0  # s
_abandoned: list[object] = []  # what a forked child has of its parent's: kept, so that no destructor touches it


class _Office:
    """What belongs to one loop: its trunk, and the task that connects it.

    The loop alone keeps it alive, by a timer that is far away. A loop that is closed lets go of its timers, and so of
    this, which closes the connection: with or without ceremony, for a loop tells nobody else of its end.
    """

    def __init__(self, address: RedisAddress) -> None:
        loop = asyncio.get_running_loop()
        self.trunk: Trunk | None = None
        self._address = address
        self._pid = os.getpid()
        self._loop = weakref.ref(loop)
        self._dial: asyncio.Task[Trunk] | None = None
        self._dialled_in = 0  # which epoch of the address
        self._over = False
        # An empty context: that of the caller of this moment is not to be kept.
        self._keeper = weakref.ref(loop.call_later(FAR, _nothing, self, context=contextvars.Context()))

    @property
    def mine(self) -> bool:
        """Whether it was made by this process."""
        return self._pid == os.getpid()

    def __del__(self, pid: Callable[[], int] = os.getpid, abandoned: list[object] = _abandoned) -> None:
        # By names that are given here: those of a module are gone where an interpreter ends.
        if self.trunk is None:
            return
        if self._pid != pid():
            abandoned.append(self.trunk)
        elif (loop := self._loop()) is None or loop.is_closed():
            self.trunk.left_behind()

    async def ask_anew(self, data: bytes, count: int, until: float = 0.0) -> list[Any]:
        """The replies, over a new trunk; `until` is the caller's deadline (loop's s), where that is near."""
        if first(self._address) is None:
            trunk = await self.connected(asyncio.get_running_loop().time() + CONNECT_TIMEOUT)
            return await trunk.ask(data, count)
        until = until or asyncio.get_running_loop().time() + self._address.timeout
        trunk = await self.connected(until)
        return await trunk.ask(data, count, until)

    async def connected(self, until: float) -> Trunk:
        """The trunk; callers who come while it is being connected share the wait."""
        if self._over:
            raise over()
        loop = asyncio.get_running_loop()
        epoch = self._address.epoch.number
        if self._dial is not None and (self._dialled_in != epoch or self._dial.done()):
            self._dial.cancel()  # it leads nowhere, as is known by now; or it is over, and nobody was told
            self._dial = None
        if self._dial is None:
            self._dialled_in = epoch
            # An empty context, as above: the connection's callbacks will have it for as long as it lives.
            self._dial = loop.create_task(self._dialling(), name="askonce-dial", context=contextvars.Context())
            self._dial.add_done_callback(self._dialled)
        dial = self._dial
        await asyncio.wait((dial,), timeout=max(0.0, until - loop.time()))
        if not dial.done():
            raise unconnected(self._address.timeout)
        return _connected(dial)

    async def _dialling(self) -> Trunk:
        old = self.trunk
        try:
            self.trunk = trunk = await open_trunk(self._address)
        finally:
            was_first(self._address)
        if old is not None:
            old.retire()
        return trunk

    def _dialled(self, dial: asyncio.Task[Trunk]) -> None:
        if self._dial is dial:
            self._dial = None
        if not dial.cancelled():
            dial.exception()  # looked at here, because whoever waited may have gone

    def close(self) -> None:
        """Close the trunk, and give up connecting, for good. On the loop's own thread."""
        self._over = True
        if self._dial is not None:
            self._dial.cancel()
        if self.trunk is not None:
            self.trunk.end(over())
            self.trunk = None
        if (keeper := self._keeper()) is not None:
            keeper.cancel()

    async def aclose(self) -> None:
        """The same, and see it done."""
        dial = self._dial
        self.close()
        if dial is not None:
            await asyncio.wait((dial,))
        await asyncio.sleep(0)  # the transport says connection_lost in the next turn


def _nothing(_: _Office) -> None:
    """What an office's timer would do, if its time ever came."""


def _connected(dial: asyncio.Task[Trunk]) -> Trunk:
    """What it brought. An exception that ended it was for nobody who waited."""
    error = None if dial.cancelled() else dial.exception()
    if dial.cancelled() or (error is not None and not isinstance(error, StoreTrouble)):
        raise closed("while connecting") from error
    return dial.result()


_Offices = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_Office]]


class AsyncWire:
    """A trunk an event loop."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._epoch = address.epoch
        self._pid = os.getpid()
        self._offices = self._none()
        self._closed = False

    def _none(self) -> _Offices:
        offices: _Offices = weakref.WeakKeyDictionary()
        # Of a wire that is dropped. Loops outlive it, and would keep its connections.
        weakref.finalize(self, _close_all, offices).atexit = False
        return offices

    def _here(self) -> _Office | None:
        """The office of the running loop, if there is one."""
        known = self._offices.get(running_loop())
        return known() if known is not None and self._pid == os.getpid() else None

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, and a Cut where some may have come."""
        office = self._here() or self._opened()
        trunk = office.trunk
        if trunk is None or trunk.over is not None or trunk.epoch != self._epoch.number:
            return await office.ask_anew(data, count)
        try:
            replies = await trunk.ask(data, count)
        except Cut as cut:
            if not cut.at_once:
                raise
        else:
            if not trunk.stale or not any(type(reply) is Refusal and reply.stale for reply in replies):
                return replies
            self._address.epoch.end(trunk.epoch)
        # Every script may be repeated, so nothing is lost by not knowing whether the server had heard.
        return await office.ask_anew(data, count, trunk.until)

    def connected(self) -> bool:
        """Whether the running loop has a trunk that may be used."""
        office = self._here()
        trunk = office.trunk if office is not None else None
        return trunk is not None and trunk.over is None and trunk.epoch == self._epoch.number

    def distrust(self) -> None:
        """End the trunk of the running loop."""
        office = self._here()
        if office is not None and office.trunk is not None:
            office.trunk.end(closed("out of step"))

    def _opened(self) -> _Office:
        if self._pid != os.getpid():
            self._offices, self._pid = self._none(), os.getpid()
        office = _Office(self._address)
        self._offices[asyncio.get_running_loop()] = weakref.ref(office)
        if self._closed:  # asked last: whoever closes on another loop may not have seen this one
            office.close()
            raise over()
        return office

    async def close(self) -> None:
        """Close the trunks of all loops, each on its own loop."""
        self._closed = True
        office = self._here()
        if office is not None:
            await office.aclose()
        if self._pid == os.getpid():
            _close_all(self._offices)


def _close_all(offices: _Offices) -> None:
    """Have each loop close its office. Takes no lock."""
    for loop, known in list(offices.items()):
        office = known()
        if office is not None and office.mine:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and so is its office
                loop.call_soon_threadsafe(office.close)
