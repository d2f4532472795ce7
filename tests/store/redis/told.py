"""Sentinels that say what a test wants, and the stores that ask them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from askonce.cache.stores import open_store
from askonce.store.redis import address as addresses
from askonce.store.redis import link, targets
from askonce.store.redis.primaries import OnePrimary
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import Report, SentinelAddress, Service
from askonce.store.redis.store import RedisStore
from askonce.testing.servers import Server
from tests.store.puppet import Puppet

ANSWER = 5.0  # s
CONNECT = 10.0  # s


def patient(monkeypatch: pytest.MonkeyPatch, connect: float = CONNECT) -> None:
    """Give a store more time to answer and to be connected: on a busy machine 0.2 s and 1 s pass quickly."""
    for module in (addresses, targets):
        monkeypatch.setattr(module, "TIMEOUT", ANSWER)
    monkeypatch.setattr(addresses, "CONNECT_TIMEOUT", connect)
    monkeypatch.setattr(link, "CONFIRM", connect)


def opened(url: str, **options: Any) -> RedisStore:
    store = open_store(url, **options)
    assert isinstance(store, RedisStore)
    return store


def address_of(store: RedisStore) -> SentinelAddress:
    primary = store._primaries
    assert isinstance(primary, OnePrimary)
    assert isinstance(primary._address, SentinelAddress)
    return primary._address


def service_of(store: RedisStore) -> Service:
    return address_of(store).service


def at(server: Server, epoch: int = 1, **more: Any) -> Report:
    return Report("127.0.0.1", server.port, epoch, **more)


def bulk(*texts: object) -> bytes:
    return pack(*(str(text) for text in texts))  # a command is an array of strings, and so is a reply


class Told(Puppet):
    """A sentinel that says what a test wants: a Report, "unknown", "silent", "garbage", "denied" or "gone".

    `together`: it answers once so many replies are due. `password`: the one that it accepts (None: any). `asked`:
    commands, `listeners`: those who subscribed.
    """

    def __init__(self, says: Any) -> None:
        super().__init__(self._answer)
        self.says = says
        self.asked = 0
        self.together = 1
        self.password: str | None = None
        self.listeners: list[socket.socket] = []
        self._due: list[bytes] = []

    @property
    def place(self) -> str:
        return self.url.removeprefix("redis://").removesuffix("/0")

    def announce(self, channel: str, said: str) -> None:
        """Tell those who listen."""
        for listener in self.listeners:
            listener.sendall(b">" + bulk("message", channel, said)[1:])

    def greet(self, command: list[bytes]) -> bytes:
        known = self.password is None or self.password.encode() in command
        return super().greet(command) if known else b"-WRONGPASS invalid username-password pair\r\n"

    def _answer(self, connection: socket.socket, command: list[bytes]) -> None:
        self.asked += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        words = [word.upper() for word in command]
        if words[0] == b"SUBSCRIBE":
            self.listeners.append(connection)
        elif words[0] == b"SENTINEL" and self.says != "silent":
            self._due.append(self._said(words))
            if len(self._due) >= self.together:
                due, self._due = self._due, []
                connection.sendall(b"".join(due))

    def _said(self, words: list[bytes]) -> bytes:
        if words[1] == b"MASTERS":
            return b"*2\r\n" + bulk("name", "other") + bulk("name", "another")
        if isinstance(self.says, Report):
            return self._told(self.says, words[1] == b"MASTER")
        unknown = b"-ERR No such master with that name\r\n" if words[1] == b"MASTER" else b"_\r\n"
        denied = b"-NOPERM this user has no permissions\r\n"
        return {"unknown": unknown, "garbage": b"$3\r\nwho\r\n", "denied": denied}[self.says]

    @staticmethod
    def _told(report: Report, whole: bool) -> bytes:
        if not whole:
            return bulk(report.host, report.port)
        flags = ["master", *["s_down,o_down"] * report.down, *["failover_in_progress"] * report.moving]
        since = int(min(report.since, 1e6) * 1000)
        more = ("num-other-sentinels", report.others, "config-epoch", report.epoch, "role-reported-time", since)
        return bulk("name", "s", "ip", report.host, "port", report.port, "flags", ",".join(flags), *more)


@contextlib.contextmanager
def told(*says: Any, **options: Any) -> Iterator[tuple[str, list[Told]]]:
    """The URL of a service whose sentinels say this; None: one that is not there."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(Told(one)) for one in says if one != "gone"]
        rest = iter(made)
        places = ["127.0.0.1:1" if one == "gone" else next(rest).place for one in says]
        query = "&".join(f"{name}={value}" for name, value in options.items())
        yield f"redis+sentinel://{','.join(places)}/s?{query}", made
