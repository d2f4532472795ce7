"""Connecting to a Redis, bounded: a name to be looked up, TLS, HELLO, a password, each step by redis-py.

A caller waits for a connection at most as long as for a reply. Connecting goes on behind it for up to CONNECT_TIMEOUT,
and the next one finds it done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.line import Line
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_trouble import closed, connecting


class _Timed:
    """A socket whose reads all end by one deadline: redis-py gives each step of a handshake a timeout of its own."""

    def __init__(self, sock: Any, until: float) -> None:
        self.sock = sock
        self._until = until

    def recv_into(self, *arguments: Any) -> int:
        """As the socket's."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        return int(self.sock.recv_into(*arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def open_line(address: RedisAddress) -> Line:
    """Connect, with all that redis-py does for it; StoreTrouble when that failed."""
    until = time.monotonic() + CONNECT_TIMEOUT
    connection = address.connection(CONNECT_TIMEOUT)
    epoch = address.epoch.number
    connect = connection._connect  # noqa: SLF001 - the one place where redis-py makes a socket
    connection._connect = lambda: _Timed(connect(), until)  # noqa: SLF001
    try:
        connection.connect()
    except Exception as error:
        connection.disconnect()
        raise connecting(error) from error
    finally:
        del connection._connect  # noqa: SLF001 - a circle, which would leave it to the garbage collector
    connection._sock = connection._sock.sock  # noqa: SLF001
    connection._sock.settimeout(address.timeout)  # noqa: SLF001
    return Line(connection, address.timeout, epoch, primary=is_primary(getattr(connection, "handshake_metadata", None)))


def is_primary(said: Any) -> bool:
    """Whether the reply to a HELLO is a primary's; who does not say is believed to be one."""
    role = said.get(b"role", said.get("role")) if isinstance(said, dict) else None
    return role not in {b"replica", b"slave", "replica", "slave"}


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
