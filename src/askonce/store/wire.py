"""How commands reach a Redis: packed bytes go out, as many replies come back, error replies among them as values.

Two wires with one method, `ask`. The sync one blocks, on a connection a thread. The async one has one connection an
event loop, on which all tasks' commands travel one after another (a trunk).

A connection is used by whoever took it out of its place, and goes back only when every reply to what was sent has been
read. So whatever happens in between, be it a timeout, a signal or a bug, no late reply can be taken for another's: the
connection is not there any more. On a trunk, the reply of a caller who gave up still has its place in the queue, and is
dropped when it comes.

A caller waits for a connection at most as long as for a reply. Connecting (a name to be looked up, TLS, HELLO) goes on
behind it for up to CONNECT_TIMEOUT, and the next one finds it done.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_trouble import Refusal, closed, connecting, silent

PUSH = hiredis.PushNotification
NOTHING = object()  # hiredis says False for "no whole reply yet" unless told, and False is a reply in RESP3
BUFFER = 65536
GLANCE = 60e-6  # s
RARELY = 1000  # replies
SLOWEST = 4 * 2**20  # bytes/s: what is sent may take this long more before it counts as silence


class Wire(Protocol):
    """What a store sends its commands through."""

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The `count` replies to the packed commands of `data`; a Refusal for one that the server refused."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


def patience(timeout: float, size: int) -> float:
    """How long to wait for the first reply to `size` bytes, s. A large answer that is stored may take a while."""
    return timeout if size <= BUFFER else timeout + size / SLOWEST


class Cut(StoreTrouble):
    """A connection ended, or was given up, with replies outstanding; `replies` came before."""

    def __init__(self, trouble: StoreTrouble, replies: list[Any]) -> None:
        super().__init__(trouble.kind, str(trouble))
        self.replies = replies

    @property
    def at_once(self) -> bool:
        """Whether it was found closed before it said anything: it had been closed while it was idle."""
        return not self.replies and self.kind == "store-closed"


class Glance:
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
        if self.skipped < self.pause or Glance.looking:
            self.skipped += 1
            return None
        Glance.looking = True
        try:
            until = time.perf_counter() + GLANCE
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
            Glance.looking = False
        self.pause, self.skipped = min(2 * self.pause + 1, RARELY), 0
        return None


class Line:
    """One connected redis-py connection, read with a parser of its own: the kind that belongs to one user at a time.

    Not redis-py's send_packed_command and read_response: they take 3 us more of each lookup, hide whether a reply had
    begun, and cut error replies to text from which the kind is gone.
    """

    def __init__(self, connection: Any, timeout: float) -> None:
        self.pid = os.getpid()
        self.timeout = timeout
        self.sock = connection._sock  # noqa: SLF001 - redis-py has no public name for it before version 8
        self._connection = connection
        self._reader = hiredis.Reader(replyError=Refusal, notEnoughData=NOTHING)
        self._buffer = bytearray(BUFFER)
        self._glance = Glance() if type(self.sock) is socket.socket and hasattr(os, "readv") else None
        self.gets = self._reader.gets
        self.pushes: list[list[Any]] = []  # what came unasked, for whoever subscribed on this line

    def _send(self, data: bytes) -> None:
        # Not sendall alone: a socket with a timeout is polled before it sends, and there is nearly always room.
        try:
            sent = os.write(self.sock.fileno(), data) if self._glance else 0
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def exchange(self, data: bytes, count: int) -> list[Any]:
        """Send, and read so many replies; Cut when that failed, and then the line is closed."""
        replies: list[Any] = []
        try:
            if len(data) > BUFFER:
                self._send_much(data)
            else:
                self._send(data)
            while True:
                while (reply := self.gets()) is not NOTHING:
                    if type(reply) is PUSH:
                        self.pushes.append(reply)
                    else:
                        replies.append(reply)
                if len(replies) >= count:
                    return replies
                self.hear(self._glance)
        except BaseException as error:  # noqa: BLE001 - a Ctrl-C too leaves replies behind
            raise self._cut(error, replies) from None

    def _send_much(self, data: bytes) -> None:
        # The timeout of sendall is for all of it, that of recv for each piece.
        self.sock.settimeout(patience(self.timeout, len(data)))
        try:
            self.sock.sendall(data)
            self.hear()
        finally:
            self.sock.settimeout(self.timeout)

    def listen(self) -> None:
        """Read once, to be taken by `gets`; Cut when that failed."""
        try:
            self.hear()
        except BaseException as error:  # noqa: BLE001
            raise self._cut(error, []) from None

    def hear(self, glance: Glance | None = None) -> None:
        """Read once from the socket; ConnectionResetError at its end."""
        size = glance.read(self.sock, self._buffer) if glance else None
        if size is None:
            size = self.sock.recv_into(self._buffer)
        if not size:
            raise ConnectionResetError
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]

    def _cut(self, error: BaseException, replies: list[Any]) -> BaseException:
        self.close()
        if isinstance(error, TimeoutError):
            return Cut(silent(self.timeout), replies)
        return Cut(closed(error), replies) if isinstance(error, OSError | hiredis.ProtocolError) else error

    def close(self) -> None:
        """Close it; in a forked child only its copy of the socket, without a word to the server."""
        self._connection.disconnect()


def open_line(address: RedisAddress) -> Line:
    """Connect, with all that redis-py does for it; StoreTrouble when that failed."""
    connection = address.connection(CONNECT_TIMEOUT)
    try:
        connection.connect()
    except Exception as error:
        connection.disconnect()
        raise connecting(error) from error
    connection._sock.settimeout(address.timeout)  # noqa: SLF001
    return Line(connection, address.timeout)


class Dial:
    """A connection being made, by a thread of its own.

    Not with short timeouts in the caller's thread: a name may take seconds to be looked up, which no socket timeout
    bounds, and a handshake of five steps may take five times each step's.
    """

    def __init__(self, dial: Callable[[], Line]) -> None:
        self.pid = os.getpid()
        self._dial = dial
        self._done = threading.Event()
        self._line: Line | None = None
        self._trouble: StoreTrouble | None = None
        try:
            threading.Thread(target=self._run, name="askonce-dial", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, or the system has no thread left
            self._run()

    def _run(self) -> None:
        try:
            self._line = self._dial()
        except StoreTrouble as trouble:
            self._trouble = trouble
        finally:
            self._done.set()

    def wait(self, timeout: float) -> Line | None:
        """The line, or None when it takes longer; StoreTrouble when it failed."""
        if not self._done.wait(timeout):
            return None
        if self._line is None:
            raise self._trouble or closed()
        return self._line


class _Desk(threading.local):
    """One thread's line, when it is not in use, and its dial, when that took too long."""

    line: Line | None = None
    dial: Dial | None = None


class SyncWire:
    """A line a thread. `ask` never suspends."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._desk = _Desk()
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """The replies; StoreTrouble, and a Cut where some may have come."""
        desk = self._desk
        line, desk.line = desk.line, None
        used = line is not None and line.pid == os.getpid()
        if line is None or not used:
            line = self._dialled(desk)
        try:
            replies = line.exchange(data, count)
        except Cut as cut:
            if not (used and cut.at_once):
                raise
            # Every script may be repeated, so nothing is lost by not knowing whether the server had heard.
            line = self._dialled(desk)
            replies = line.exchange(data, count)
        desk.line = self._kept(line, replies, count)
        return replies

    def _dialled(self, desk: _Desk) -> Line:
        if self._closed:
            raise StoreTrouble("store-closed", "the store was closed by its user")
        dial, desk.dial = desk.dial, None
        if dial is None or dial.pid != os.getpid():
            dial = Dial(lambda: open_line(self._address))
        line = dial.wait(self._address.timeout)
        if line is None:
            desk.dial = dial
            raise silent(self._address.timeout)
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

    async def close(self) -> None:
        """Close the lines of all threads."""
        self._closed = True
        with self._lock:
            lines, self._lines = list(self._lines), weakref.WeakSet()
        for line in lines:
            if line.pid == os.getpid():
                line.close()
