"""Connecting to a Redis, within a time limit: name lookup, TLS, HELLO, a password, each step by redis-py.

A thread of the pool connects, not the caller: a name lookup may take seconds, which no socket timeout bounds. It goes
on for up to `connect_timeout` after its caller gave up, and the next caller finds the connection.
"""

from __future__ import annotations

import os
import time
from typing import Any

from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import find, is_primary, search
from askonce.store.redis.connection import Connection
from askonce.store.redis.sentinel import SentinelAddress
from askonce.store.redis.trouble import connecting
from askonce.store.redis.watch import watch

_first: dict[tuple[int, str], float] = {}


def first(address: RedisAddress) -> float | None:
    """When this process's first connection to an address was made, or failed (monotonic s); None before that.

    A lookup waits for the first connection as long as connecting may take. A process is busy at its start, and would
    otherwise pay for answers that the store has.
    """
    return _first.get((os.getpid(), address.text))


def was_first(address: RedisAddress) -> bool:
    """Note that a connection was made or failed; return whether it was the first."""
    mine = time.monotonic()
    return _first.setdefault((os.getpid(), address.text), mine) is mine


class _Timed:
    """A socket whose reads share one deadline: redis-py gives each step of a handshake its own timeout."""

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


def open_connection(address: RedisAddress) -> Connection:
    """Connect to a server, or to the primary that the sentinels name, with all of redis-py's steps; or StoreTrouble."""
    if not isinstance(address, SentinelAddress):
        return connect(address, address.connect_timeout, address.epoch.number)
    until = time.monotonic() + address.connect_timeout
    while True:
        connection, epoch = find(search(address, address.epoch.number, until), connect)
        connection.epoch = epoch
        if epoch == address.epoch.number:
            watch(address, connection, open_connection)
            return connection
        connection.close()  # another primary was announced while this one was sought


def connect(address: RedisAddress, limit: float, epoch: int = 0) -> Connection:
    """Connect to one server within so many seconds, or StoreTrouble."""
    began = time.monotonic()
    until = began + limit
    connection = address.connection(limit)
    connect = connection._connect  # noqa: SLF001 - the one place where redis-py makes a socket
    connection._connect = lambda: _Timed(connect(), until)  # noqa: SLF001
    try:
        connection.connect()
    except Exception as error:
        connection.disconnect()
        raise connecting(error) from error
    finally:
        del connection._connect  # noqa: SLF001 - a reference cycle, which would leave it to the garbage collector
    connection._sock = connection._sock.sock  # noqa: SLF001
    connection._sock.settimeout(address.timeout)  # noqa: SLF001
    primary = is_primary(getattr(connection, "handshake_metadata", None))
    return Connection(connection, address.timeout, epoch, primary=primary, begun=began)
