"""One connection to a Redis, used by one thread at a time, read with a parser of its own.

Whatever happens in an exchange, be it a timeout, a signal or a bug, closes the connection: no late reply can then be
taken for another's. One deadline holds for all of an exchange. A server that sends a byte now and then would otherwise
begin the wait anew with each.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import hiredis

from askonce.store import StoreTrouble
from askonce.store.redis.trouble import Refusal, closed, silent

PUSH = hiredis.PushNotification
NOTHING = object()  # hiredis says False for "no whole reply yet" unless told, and False is a reply in RESP3
BUFFER = 65536
SPIN = 60e-6  # s
RARELY = 1000  # replies
SLOWEST = 4 * 2**20  # bytes/s: what is sent or comes may take this long more before it counts as silence
TRUSTED = 30.0  # s: what was idle for longer may have been dropped on the way without a word, and is made anew
LEAST = 0.05  # s that the first exchange on a new connection has, however long connecting took


def patience(timeout: float, size: int) -> float:
    """How long an exchange of `size` bytes may take, s. A large answer takes a while."""
    return timeout if size <= BUFFER else timeout + size / SLOWEST


class Cut(StoreTrouble):
    """A connection ended, or was given up, with replies outstanding; `replies` came before."""

    def __init__(self, trouble: StoreTrouble, replies: list[Any]) -> None:
        super().__init__(trouble.kind, str(trouble), trouble.at)
        self.replies = replies

    @property
    def at_once(self) -> bool:
        """Whether it was found closed before it said anything: it had been closed while it was idle."""
        return not self.replies and self.kind == "store-closed"


class Spin:
    """A look for a reply, again and again for a moment, by a thread that would otherwise sleep until it comes.

    A server on this machine answers in 15 us; to be put to sleep and woken takes 30 us more, and as much of a core as
    looking. Where that does not help (a server further away, a machine with too much to do), it is soon left: each look
    in vain lets twice as many replies go by before the next one. One thread of a process looks at a time.
    """

    __slots__ = ("pause", "skipped")
    looking = False

    def __init__(self) -> None:
        self.pause = self.skipped = 0

    def read(self, sock: Any, buffer: bytearray) -> int | None:
        """What came, as from recv_into; None where nothing did in time, or this was no time to look."""
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
    """One connected redis-py connection, the kind that belongs to one user at a time.

    Not redis-py's send_packed_command and read_response: they take 3 us more of each lookup, hide whether a reply had
    begun, and cut error replies to text from which the kind is gone. `epoch` is the address's when it was made,
    `primary` whether the server said then that it is one; `made`, `used`: when it was, last (monotonic s).
    """

    def __init__(self, connection: Any, timeout: float, epoch: int = 0, *, primary: bool = True) -> None:
        self.pid = os.getpid()
        self.timeout = timeout
        self.epoch = epoch
        self.primary = primary
        self.made = self.used = time.monotonic()
        self.closed = False
        self.sock = connection._sock  # noqa: SLF001 - redis-py has no public name for it before version 8
        self.pushes: list[list[Any]] = []  # what came unasked, for whoever subscribed on this connection
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
        """Send, and read so many replies; Cut when that failed, and then the connection is closed.

        `began` (monotonic s): from when its time counts, where that is not now.
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
                if got:  # the first read needs no more than the socket's own timeout
                    self.end_by(began + patience(self.timeout, len(data)) + got / SLOWEST)
                got += self.hear(self._spin)
        except BaseException as error:  # noqa: BLE001 - a Ctrl-C too leaves replies behind
            raise self._cut(error, replies) from None

    def end_by(self, until: float) -> None:
        """Let the next read or write end by `until` (monotonic s); TimeoutError when that is past."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._limited = True
        self.sock.settimeout(left)

    def _unlimit(self) -> None:
        self._limited = False
        self.sock.settimeout(self.timeout)

    def listen(self, until: float) -> None:
        """Read once, to be taken by `gets`; Cut when nothing came until then (monotonic s)."""
        try:
            self.end_by(until)
            self.hear()
            self._unlimit()
        except BaseException as error:  # noqa: BLE001
            raise self._cut(error, []) from None

    def hear(self, spin: Spin | None = None) -> int:
        """Read once from the socket: how many bytes; ConnectionResetError at its end."""
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
        """Close it; in a forked child only its copy of the socket, without a word to the server."""
        self.closed = True
        self._connection.disconnect()
