"""Shared by the tests of the wires; above all a puppet server, for what no real one does on demand.

It speaks enough RESP to accept a connection, then does to each command what a test wants: answer late, too much, or
half.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import hiredis

from askonce.core.keys import Key
from askonce.store.redis.address import RedisAddress, from_url
from askonce.store.redis.scripts import pack
from askonce.testing.servers import Server
from tests.took import Took

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
Act = Callable[[socket.socket, list[bytes]], None]


class Puppet:
    """Listens on a free port; `act` is called with the connection and each command that is not HELLO."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(self._listener)
        self._threads[0].join(60)  # first, so that it accepts no more
        for connection in self.connections:
            self._end(connection)
        for thread in self._threads:
            thread.join(60)

    def greet(self, command: list[bytes]) -> bytes:
        """The reply to a HELLO."""
        del command
        return HELLO

    @staticmethod
    def _end(one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        with suppress(OSError):
            while data := connection.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    if command[0] == b"HELLO":
                        connection.sendall(self.greet(command))
                    else:
                        self.act(connection, command)


AT_MOST = 0.25  # s that trouble may cost; the timeout is 0.2


def key(number: int) -> Key:
    """A key of the first partition; unlike the other stores', its name is made of the first half of its digest."""
    return Key(number.to_bytes(4, "big") + b"k" * 28, "v")


def get(name: str) -> bytes:
    return pack(b"GET", name)


def reply(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def address(server: Server | Puppet, timeout: float = 0.2) -> RedisAddress:
    return from_url(server.url, {"socket_timeout": timeout})


def filled(server: Server, names: int = 100) -> None:
    words = [word for number in range(names) for word in (f"n{number}", f"value of n{number}")]
    server.command("MSET", *words)


def clients(server: Server) -> int:
    """Connections to a server, but for the one that asks."""
    return len(server.command("CLIENT", "LIST").splitlines()) - 1


def until(condition: Any, seconds: float = 20.0) -> None:
    took = Took()
    while not condition():
        assert took.seconds < seconds, "it did not come to pass"
        time.sleep(0.005)
