"""Listening to the sentinels of a service: they announce a new primary, and then the old connections are given up.

Without this, a process would use the old primary until that refuses a write. But it answers reads as before for as long
as nobody has made it a replica: after a pause or a partition, or during a planned failover, that takes ten seconds.

One thread of a process listens to all sentinels of a service. It runs while there are connections that it could warn.
A sentinel may be lost and may miss things, so each is also asked now and then, and after each new connection.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import ssl
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from askonce.runtime.exits import start_thread
from askonce.runtime.forks import around_forks
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connection import NOTHING, PUSH, Connection
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import SentinelAddress

LOOK = 0.5  # s between two checks whether there are connections left to warn
AGAIN = 2.0  # s between two attempts to reach a lost sentinel
ASK = 5.0  # s between two questions to a sentinel, which also show that it still answers
SUBSCRIBE = pack(b"SUBSCRIBE", b"+switch-master", b"+promoted-slave")
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Warned(Protocol):
    """A connection that is of no use when another server is the primary."""

    @property
    def closed(self) -> bool:
        """Whether nobody uses it any more."""
        ...


Connect = Callable[[RedisAddress], Connection]


class _Heard:
    """A connection to one sentinel."""

    def __init__(self, connection: Connection, question: bytes) -> None:
        self.connection = connection
        self.received = self.asked = time.monotonic()
        self.replies: list[Any] = []
        connection.sock.sendall(SUBSCRIBE + question)

    def ask(self, question: bytes) -> None:
        self.asked = time.monotonic()
        self.connection.sock.sendall(question)

    def read(self) -> list[list[bytes]]:
        """Read once, and return the announcements; the replies to the question are kept."""
        connection = self.connection
        connection.receive()
        while isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():
            connection.receive()
        self.received = time.monotonic()
        announced = []
        while (said := connection.gets()) is not NOTHING:
            if type(said) is not PUSH:
                self.replies.append(said)
            elif said[0] == b"message":
                announced.append(said[2].split(b" "))
        return announced


class _Watch:
    """The thread of one service in this process, and the connections that it warns."""

    def __init__(self, address: SentinelAddress, connect: Connect) -> None:
        self._service = address.service
        self._epoch = address.epoch
        self._connect = connect
        self._warned: dict[int, weakref.ref[Warned]] = {}
        self._heard: dict[RedisAddress, _Heard] = {}
        self._next: dict[RedisAddress, float] = {}
        self._running: dict[str, object] = {}  # at most one entry, set and removed in one step each

    def add(self, connection: Warned) -> None:
        """Warn this connection's users too."""
        self._warned[id(connection)] = weakref.ref(connection)
        self._start()

    def _start(self) -> None:
        mine = object()
        if self._running.setdefault("thread", mine) is mine and start_thread("askonce-sentinel", self._run) is None:
            self._running.clear()

    def _needed(self) -> bool:
        for name, known in list(self._warned.items()):
            connection = known()
            if connection is None or connection.closed:
                self._warned.pop(name, None)
        return bool(self._warned)

    def _run(self) -> None:
        try:
            while self._needed():
                self._reach()
                self._wait()
        finally:
            self.close()
            self._running.clear()
            if self._needed():  # one came while this thread was ending
                self._start()

    def close(self) -> None:
        """Close the connections to the sentinels."""
        while self._heard:
            self._heard.popitem()[1].connection.close()

    def _reach(self) -> None:
        """Connect to the sentinels that are not heard."""
        now = time.monotonic()
        for sentinel in self._service.sentinels:
            if sentinel not in self._heard and self._next.get(sentinel, 0.0) <= now:
                self._next[sentinel] = now + AGAIN
                with contextlib.suppress(StoreTrouble, OSError):
                    self._heard[sentinel] = _Heard(self._connect(sentinel), self._service.question)
                    self._service.lost.discard(sentinel)

    def _wait(self) -> None:
        with _Selector() as selector:
            for sentinel, heard in self._heard.items():
                selector.register(heard.connection.sock, selectors.EVENT_READ, sentinel)
            if self._heard:
                ready = {chosen.data for chosen, _ in selector.select(LOOK)}
            else:
                time.sleep(LOOK)
                ready = set()
        for sentinel, heard in list(self._heard.items()):
            try:
                self._tend(heard, readable=sentinel in ready)
            except (OSError, StoreTrouble, hiredis.ProtocolError, IndexError, TypeError):
                self._heard.pop(sentinel).connection.close()

    def _tend(self, heard: _Heard, *, readable: bool) -> None:
        """Read what one sentinel said, and ask it when it is time; an exception if it is lost."""
        if readable and any(map(self._service.announced, heard.read())):
            self._moved()
        if len(heard.replies) >= 2:
            replies, heard.replies = heard.replies, []
            report = self._service.read(replies[:2])
            if report is not None and self._service.superseded_by(report):
                self._moved()
        now = time.monotonic()
        if now - heard.received > 2 * ASK:
            raise TimeoutError
        if now - heard.asked > ASK:
            heard.ask(self._service.question)

    def _moved(self) -> None:
        """There is another primary: nobody uses the old connections again."""
        self._service.replaced()
        self._epoch.end()


_watches: dict[tuple[int, str], _Watch] = {}


def watch(address: SentinelAddress, connection: Warned, connect: Connect) -> None:
    """Have the users of a connection warned when the sentinels announce another primary."""
    known = _watches.get((os.getpid(), address.text))
    if known is None:
        known = _watches.setdefault((os.getpid(), address.text), _Watch(address, connect))
    known.add(connection)


def _after_fork() -> None:
    # The thread and the connections are the parent's: only the descriptors are closed here.
    while _watches:
        _watches.popitem()[1].close()


around_forks(in_child=_after_fork)
