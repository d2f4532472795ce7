"""How commands reach a Redis: packed bytes go out, as many replies come back, error replies among them as values.

Two wires with one method, `ask`. The sync one blocks, on a connection a thread. The async one has one connection an
event loop, on which all tasks' commands travel one after another (a trunk).

A connection is used by whoever took it out of its place, and goes back only when every reply to what was sent has been
read. So whatever happens in between, be it a timeout, a signal or a bug, no late reply can be taken for another's: the
connection is not there any more. On a trunk, the reply of a caller who gave up still has its place in the queue, and is
dropped when it comes.

Every connection proves itself at each use: that it belongs to this process, that it was not idle for so long that it
may have been dropped on the way, and that its server was not heard to be no primary any more since it was made. What is
found closed, or says that it is no primary, is replaced once, within the one deadline that a lookup has.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Protocol

from askonce.store import StoreTrouble
from askonce.store.dial import Dial, open_line
from askonce.store.line import LEAST, TRUSTED, Cut, Glance, Line
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_trouble import Refusal, unconnected


class Wire(Protocol):
    """What a store sends its commands through."""

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The `count` replies to the packed commands of `data`; a Refusal for one that the server refused."""
        ...

    def connected(self) -> bool:
        """Whether this caller's next command needs no new connection."""
        ...

    def distrust(self) -> None:
        """Replies were not what was asked for: this caller's connection is not used again."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class _Desk(threading.local):
    """One thread's line, when it is not in use, and its dial, when that took too long."""

    line: Line | None = None
    dial: Dial | None = None


class SyncWire:
    """A line a thread. `ask` never suspends."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._epoch = address.epoch
        self._desk = _Desk()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, and a Cut where some may have come."""
        desk, now = self._desk, time.monotonic()
        line, desk.line = desk.line, None
        # Each use asks these (`_trusted`, written out: a call would cost a lookup as much as all of them).
        used = (
            line is not None
            and line.pid == os.getpid()
            and line.epoch == self._epoch.number
            and now - line.used < TRUSTED
        )
        if line is None or not used:
            self._drop(line)
            return self._anew(desk, data, count, now)
        try:
            replies = line.exchange(data, count, now)
        except Cut as cut:
            if not cut.at_once:
                raise
        else:
            desk.line = self._kept(line, replies, count)
            if desk.line is not None:
                return replies
            self._address.epoch.end(line.epoch)
        # Every script may be repeated, so nothing is lost by not knowing whether the server had heard.
        return self._anew(desk, data, count, now)

    def _anew(self, desk: _Desk, data: bytes, count: int, began: float) -> list[Any]:
        """On a new line, by the deadline of the caller, who began then."""
        line = self._dialled(desk, began)
        began = max(began, time.monotonic() + LEAST - line.timeout)
        line.hurry(began + line.timeout)
        replies = line.exchange(data, count, began)
        desk.line = self._kept(line, replies, count)
        return replies

    def _trusted(self, line: Line, now: float) -> bool:
        """Whether a line is of this process, of the address's epoch, and was used not long ago."""
        return line.pid == os.getpid() and line.epoch == self._epoch.number and now - line.used < TRUSTED

    @staticmethod
    def _drop(line: Line | None) -> None:
        if line is not None and line.pid == os.getpid():
            line.close()

    def _dialled(self, desk: _Desk, began: float) -> Line:
        if self._closed:
            raise StoreTrouble("store-closed", "the store was closed by its user")
        dial, desk.dial = desk.dial, None
        if dial is None or dial.pid != os.getpid():
            dial = Dial(lambda: open_line(self._address))
        line = dial.wait(max(0.0, began + self._address.timeout - time.monotonic()))
        if line is None:
            desk.dial = dial
            raise unconnected(self._address.timeout)
        if self._pid != os.getpid():
            # A fork may have copied the lock while another thread held it; the lines are the parent's.
            self._lock, self._lines, self._pid = threading.Lock(), weakref.WeakSet(), os.getpid()
            Glance.looking = False
        with self._lock:
            self._lines.add(line)
        return line

    def _kept(self, line: Line, replies: list[Any], count: int) -> Line | None:
        if len(replies) != count:
            line.close()
            raise StoreTrouble("store-error", "the store sent more replies than it was asked for")
        for reply in replies:
            if type(reply) is Refusal and reply.stale:
                line.close()
                return None
        return line

    def connected(self) -> bool:
        """Whether this thread has a line that may be used."""
        line = self._desk.line
        return line is not None and self._trusted(line, time.monotonic())

    def distrust(self) -> None:
        """Close this thread's line."""
        line, self._desk.line = self._desk.line, None
        self._drop(line)

    async def close(self) -> None:
        """Close the lines of all threads."""
        self._closed = True
        with self._lock:
            lines, self._lines = list(self._lines), weakref.WeakSet()
        for line in lines:
            self._drop(line)
