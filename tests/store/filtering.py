"""A service that forbids commands: a proxy before a real server, which rewrites what clients send.

A forbidden word is refused (by the server, which is given a name that it does not know), swallowed (the command is not
passed on, and never answered), or makes the service hang up. A word inside a script's text counts too.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import Literal, Self

import hiredis

from askonce.store.redis.scripts import pack
from askonce.testing.servers import Server

Manner = Literal["refuse", "swallow", "hang up"]


class Service:
    """Listens while it is entered; `url` leads to `server` through it."""

    def __init__(self, server: Server, forbidden: Collection[str], manner: Manner = "refuse") -> None:
        self._server = server
        self._forbidden = [word.encode() for word in forbidden]
        self._manner = manner
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._sockets:
            one = self._sockets.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server.port))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                for work in (self._ask, self._answer):
                    self._threads.append(threading.Thread(target=work, args=(client, server), daemon=True))
                    self._threads[-1].start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        reader = hiredis.Reader()
        with suppress(OSError):
            while data := client.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    if not self._passed(command, server):
                        client.shutdown(socket.SHUT_RDWR)

    def _passed(self, command: list[bytes], server: socket.socket) -> bool:
        """Pass a command on, as far as it is allowed; False to hang up."""
        kept = [self._rewritten(at, word) for at, word in enumerate(command)]
        if kept == command or self._manner == "refuse":
            server.sendall(pack(*kept))
        return kept == command or self._manner != "hang up"

    def _rewritten(self, at: int, word: bytes) -> bytes:
        for forbidden in self._forbidden:
            first, _, second = forbidden.partition(b" ")
            if at == bool(second) and word.upper() == (second or first):
                return b"NO-" + word
            if at == 1 and b"'" + forbidden + b"'" in word:  # in the text of a script
                return word.replace(b"'" + forbidden + b"'", b"'NO-" + forbidden + b"'")
        return word

    @staticmethod
    def _answer(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
