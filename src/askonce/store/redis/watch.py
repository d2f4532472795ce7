"""Listening to the sentinels of a service: they announce a new primary, and then the old connections are given up.

Without this, a process would use the old primary until that refuses a write. But it answers reads as before for as long
as nobody has made it a replica: after a pause or a partition, or during a planned failover, that takes ten seconds.

One thread of a process listens to all sentinels of a service. It runs while there are connections that it could warn,
of whichever stores. Other threads connect to the sentinels: one that is silent must not keep it from hearing the rest.
A sentinel may be lost and may miss things, so each is also asked now and then, and after each new connection to it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from askonce.runtime.exits import start_thread
from askonce.runtime.forks import around_forks
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connection import NOTHING, PUSH, Connection
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import SentinelAddress, Service, ServiceEpoch
from askonce.store.redis.waker import Waker

LOOK = 0.5  # s between two checks whether there are connections left to warn
AGAIN = 2.0  # s between two attempts to reach a lost sentinel
ASK = 5.0  # s between two questions to a sentinel, which also show that it still answers
SUBSCRIBE = pack(b"SUBSCRIBE", b"+switch-master", b"+promoted-slave")


class Warned(Protocol):
    """A connection that is of no use when another server is the primary."""

    @property
    def closed(self) -> bool:
        """Whether nobody uses it any more."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


Connect = Callable[[RedisAddress], Connection]


class _Heard:
    """A connection to one sentinel."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.received = self.asked = time.monotonic()
        self.replies: list[Any] = []  # those to a question are two

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


class _Listener:
    """What the thread does in one run: it keeps a connection to each sentinel, by its place, and reads from all."""

    def __init__(self, epoch: ServiceEpoch, connect: Connect) -> None:
        self._epoch = epoch
        self._connect = connect
        self._heard: dict[str, _Heard] = {}
        self._next: dict[str, float] = {}
        self._reaching: set[str] = set()  # sentinels that a thread is connecting to
        self._made: deque[tuple[str, _Heard]] = deque()  # what those threads made
        self._waker = Waker()
        self._over = False

    def listen(self, services: list[Service]) -> None:
        """Listen for a moment; the stores that use these have connections to warn, the last one the newest."""
        self._reach(services[-1])
        socks = [heard.connection.sock for heard in self._heard.values()]
        ready = self._waker.wait(socks, LOOK)
        for place, heard in list(self._heard.items()):
            try:
                self._tend(place, heard, services, readable=heard.connection.sock in ready)
            except (OSError, StoreTrouble, hiredis.ProtocolError, IndexError, TypeError):
                self._heard.pop(place).connection.close()
        self._take()

    def _reach(self, service: Service) -> None:
        """Have threads connect to the sentinels that are not heard."""
        now = time.monotonic()
        known = self._heard.keys() | self._reaching
        for sentinel in service.sentinels:
            if sentinel.place not in known and self._next.get(sentinel.place, 0.0) <= now:
                self._next[sentinel.place] = now + AGAIN
                self._reaching.add(sentinel.place)
                if start_thread("askonce-connect", self._reached, sentinel, service.question) is None:
                    self._reached(sentinel, service.question)

    def _reached(self, sentinel: RedisAddress, question: bytes) -> None:
        try:
            with contextlib.suppress(StoreTrouble):
                heard = _Heard(self._connect(sentinel))
                try:
                    heard.ask(SUBSCRIBE + question)
                except OSError:
                    heard.connection.close()
                else:
                    self._made.append((sentinel.place, heard))
        finally:
            self._reaching.discard(sentinel.place)
            self._waker.wake()
            if self._over:
                self.close()

    def _take(self) -> None:
        while self._made:
            place, heard = self._made.popleft()
            self._heard[place] = heard

    def _tend(self, place: str, heard: _Heard, services: list[Service], *, readable: bool) -> None:
        """Read what one sentinel said, and ask it when it is time; an exception if it is lost."""
        if readable and any(map(services[-1].announced, heard.read())):
            self._epoch.end()
        while len(heard.replies) >= 2:
            replies, heard.replies = heard.replies[:2], heard.replies[2:]
            report = services[-1].read(replies)
            for service in services:
                service.heard(place)
            if report is not None and self._epoch.superseded_by(report):
                self._epoch.end()
        now = time.monotonic()
        if now - heard.received > 2 * ASK:
            raise TimeoutError
        if now - heard.asked > ASK:
            heard.ask(services[-1].question)

    def close(self) -> None:
        """Close the connections to the sentinels, also those that are still being made."""
        self._over = True  # first: a connection that is made from now on is closed by the thread that made it
        with contextlib.suppress(IndexError):
            while True:
                self._made.popleft()[1].connection.close()
        with contextlib.suppress(KeyError):
            while True:
                self._heard.popitem()[1].connection.close()


class _Watch:
    """The thread of one service in this process, and the connections that it warns."""

    def __init__(self, epoch: ServiceEpoch, connect: Connect) -> None:
        self._epoch = epoch
        self._connect = connect
        self._warned: dict[weakref.ref[Warned], Service] = {}
        self._running: dict[str, _Listener] = {}  # at most one entry, set and removed in one step each

    def add(self, connection: Warned, service: Service) -> None:
        """Warn this connection's users too."""
        self._warned[weakref.ref(connection)] = service
        self._start()

    def _start(self) -> None:
        if self._running:
            return
        mine, begun = _Listener(self._epoch, self._connect), None
        try:
            if self._running.setdefault("listener", mine) is mine:
                begun = start_thread("askonce-sentinel", self._run, mine)
        finally:
            if begun is None and self._running.get("listener") is mine:
                self._running.clear()

    def _services(self) -> list[Service]:
        """Those whose connections can be warned, in the order of their newest ones."""
        found: dict[int, Service] = {}
        for known, service in list(self._warned.items()):
            connection = known()
            if connection is None or connection.closed:
                self._warned.pop(known, None)
            else:
                found.pop(id(service), None)
                found[id(service)] = service
        return list(found.values())

    def _run(self, listener: _Listener) -> None:
        try:
            while services := self._services():
                listener.listen(services)
        finally:
            self._running.clear()
            listener.close()
            if self._services():  # one came while this thread was ending
                with contextlib.suppress(StoreTrouble):  # no descriptor is left: the next connection starts it
                    self._start()

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for listener in self._running.values():
            listener.close()


_watches: dict[tuple[int, ServiceEpoch], _Watch] = {}


def watch(address: SentinelAddress, connection: Warned, connect: Connect) -> None:
    """Have the users of a connection warned when the sentinels announce another primary; or StoreTrouble."""
    name = os.getpid(), address.epoch
    known = _watches.get(name) or _watches.setdefault(name, _Watch(address.epoch, connect))
    try:
        known.add(connection, address.service)
    except BaseException:
        connection.close()
        raise


def _after_fork() -> None:
    # The thread and the connections are the parent's: only the descriptors are closed here.
    while _watches:
        _watches.popitem()[1].close()


around_forks(in_child=_after_fork)
