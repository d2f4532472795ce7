"""One connection to a Redis, used by one thread at a time, and read with its own parser.

Any failure during an exchange (a timeout, a signal, a bug) closes the connection: so no late reply can be taken for
another command's. One deadline holds for a whole exchange: otherwise a server that sends a byte now and then would
start the wait anew each time.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import hiredis

from askonce.runtime.readable import is_readable
from askonce.store import StoreTrouble
from askonce.store.redis.trouble import Refusal, closed, silent

PUSH = hiredis.PushNotification
NOTHING = object()  # by default hiredis returns False for "no whole reply yet", and False is a reply in RESP3
BUFFER = 65536
SPIN = 60e-6  # s
RARELY = 1000  # replies
SLOWEST = 4 * 2**20  # bytes/s: what is sent or received may take this long more before it counts as silence
TRUSTED = 30.0  # s: a connection idle for longer may have been dropped on the way without notice, and is replaced
LEAST = 0.05  # s for the first exchange on a new connection, however long connecting took


def patience(timeout: float, size: int) -> float:
    """How long an exchange of `size` bytes may take, in s: a large answer takes a while."""
    return timeout if size <= BUFFER else timeout + size / SLOWEST


class Cut(StoreTrouble):
    """A connection ended, or was given up, while replies were due; `replies` came before that."""

    def __init__(self, trouble: StoreTrouble, replies: list[Any]) -> None:
        super().__init__(trouble.kind, str(trouble), trouble.at)
        self.replies = replies

    @property
    def at_once(self) -> bool:
        """Whether it was closed before it sent anything: it had been closed while it was idle."""
        return not self.replies and self.kind == "store-closed"


class Spin:
    """Polls for a reply for a moment, instead of letting the thread sleep until the reply comes.

    A server on this machine answers in 15 us; putting a thread to sleep and waking it takes 30 us more, and as much
    of a core as polling. Where polling does not help (a server further away, a busy machine), it soon stops: after each
    failure, twice as many replies pass before the next attempt. One thread of a process polls at a time.
    """

    __slots__ = ("pause", "skipped")
    looking = False

    def __init__(self) -> None:
        self.pause = self.skipped = 0

    def read(self, sock: Any, buffer: bytearray) -> int | None:
        """What came, as from recv_into; None if nothing came in time, or if this is not the time to poll."""
        if self.skipped < self.pause or Spin.looking:
            self.skipped += 1
            return None
        Spin.looking = True
        try:
            until = time.perf_counter() + SPIN
            while True:
                try:  # not recv: a socket with a timeout is polled before each, though its descriptor never blocks
                    size = os.readv(sock.fileno(), (buffer,))
                except BlockingIOError:
                    if time.perf_counter() > until:
                        break
                else:
                    self.pause = 0
                    return size
        finally:
            Spin.looking = False
        self.pause, self.skipped = min(2 * self.pause + 1, RARELY), 0
        return None


class Connection:
    """A connected redis-py connection, used by one caller at a time.

    Not redis-py's send_packed_command and read_response: they add 3 us to each lookup, hide whether a reply has begun,
    and cut error replies to a text without the kind. `epoch`: the address's when it was made; `primary`: whether the
    server then said that it is one; `begun`, `used`: when connecting began, and when it was used last (monotonic s).
    """

    def __init__(
        self, connection: Any, timeout: float, epoch: int = 0, *, primary: bool = True, begun: float | None = None
    ) -> None:
        self.pid = os.getpid()
        self.timeout = timeout
        self.epoch = epoch
        self.primary = primary
        self.used = time.monotonic()
        self.begun = self.used if begun is None else begun
        self.closed = False
        self.sock = connection._sock  # noqa: SLF001 - redis-py has no public name for it before version 8
        self.pushes: list[list[Any]] = []  # messages without a request, for a subscriber on this connection
        self._connection = connection
        self._reader = hiredis.Reader(replyError=Refusal, notEnoughData=NOTHING)
        self._buffer = bytearray(BUFFER)
        self._spin = Spin() if type(self.sock) is socket.socket and hasattr(os, "readv") else None
        self._limited = False
        self.gets = self._reader.gets

    def _send(self, data: bytes) -> None:
        # Not sendall alone: a socket with a timeout is polled before it sends, and there is nearly always room.
        try:
            sent = os.write(self.sock.fileno(), data) if self._spin else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def exchange(self, data: bytes, count: int, began: float = 0.0) -> list[Any]:
        """Send, and read `count` replies. If that fails, close the connection and raise Cut.

        `began` (monotonic s): when its time started, if that is not now.
        """
        replies: list[Any] = []
        got = 0
        self.used = began = began or time.monotonic()
        try:
            if len(data) > BUFFER:
                self.end_by(began + patience(self.timeout, len(data)))
            self._send(data)
            while True:
                while (reply := self.gets()) is not NOTHING:
                    if type(reply) is PUSH:
                        self.pushes.append(reply)
                    else:
                        replies.append(reply)
                if len(replies) >= count:
                    if self._limited:
                        self._unlimit()
                    return replies
                if got:  # the first read needs only the socket's own timeout
                    self.end_by(began + patience(self.timeout, len(data)) + got / SLOWEST, stood=True)
                got += self.receive(self._spin)
        except BaseException as error:  # noqa: BLE001 - a Ctrl-C too leaves replies behind
            raise self._cut(error, replies) from None

    def end_by(self, until: float, *, stood: bool = False) -> None:
        """Make the next read or write end by `until` (monotonic s); TimeoutError if that is past.

        `stood`: not if there is something to read, which came while this thread or its process stood still.
        """
        left = until - time.monotonic()
        if left <= 0:
            if not (stood and is_readable(self.sock.fileno())):
                raise TimeoutError
            left = LEAST
        self._limited = True
        self.sock.settimeout(left)

    def _unlimit(self) -> None:
        self._limited = False
        self.sock.settimeout(self.timeout)

    def listen(self, until: float) -> None:
        """Read once, for `gets` to parse; Cut if nothing came until then (monotonic s)."""
        try:
            self.end_by(until)
            self.receive()
            self._unlimit()
        except BaseException as error:  # noqa: BLE001
            raise self._cut(error, []) from None

    def receive(self, spin: Spin | None = None) -> int:
        """Read once from the socket; return how many bytes. ConnectionResetError at its end."""
        size = spin.read(self.sock, self._buffer) if spin else None
        if size is None:
            size = int(self.sock.recv_into(self._buffer))
        if not size:
            raise ConnectionResetError
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]
        return size

    def _cut(self, error: BaseException, replies: list[Any]) -> BaseException:
        self.close()
        if isinstance(error, TimeoutError):
            return Cut(silent(self.timeout), replies)
        return Cut(closed(error), replies) if isinstance(error, OSError | hiredis.ProtocolError) else error

    def close(self) -> None:
        """Close it; in a forked child only its copy of the socket, without sending anything to the server."""
        self.closed = True
        self._connection.disconnect()
