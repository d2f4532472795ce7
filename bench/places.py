"""A Place: where a row keeps its cache, a file or server of its own, which exists for one case."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from askonce.testing import RedisServer, ServerMissing, ValkeyServer
from askonce.testing.servers import Server, Startable


class Skipped(Exception):
    """What the row needs is not on this machine; the message says what."""


class Place(NamedTuple):
    """A store's name and URL, a folder for the row's own files, and the server if there is one."""

    name: str
    url: str
    folder: Path
    server: Startable | None = None

    @property
    def receipts(self) -> str:
        """The file in which paid calls are counted."""
        return str(self.folder / "receipts")

    @property
    def running(self) -> Server:
        """The server, which must be one."""
        assert isinstance(self.server, Server)
        return self.server

    @property
    def bare(self) -> Place:
        """The place for another process, which cannot have the server."""
        return self._replace(server=None)


@contextmanager
def nowhere() -> Iterator[Place]:
    """A folder that is removed afterwards, and no store."""
    with tempfile.TemporaryDirectory(prefix="askonce-bench-") as name:
        yield Place("", "", Path(name))


@contextmanager
def sqlite() -> Iterator[Place]:
    """A new SQLite file."""
    with nowhere() as place:
        yield Place("SQLite", f"sqlite:///{place.folder / 'cache.db'}", place.folder)


@contextmanager
def valkey() -> Iterator[Place]:
    with served(ValkeyServer(), "Valkey") as place:
        yield place


@contextmanager
def redis() -> Iterator[Place]:
    with served(RedisServer(), "Redis") as place:
        yield place


@contextmanager
def served(server: Startable, name: str) -> Iterator[Place]:
    """A server, or several that work together, and a folder."""
    with ExitStack() as stack:
        try:
            stack.enter_context(server)
        except ServerMissing as missing:
            raise Skipped(str(missing)) from missing
        place = stack.enter_context(nowhere())
        yield Place(name, server.url, place.folder, server)


Opener = Callable[[], AbstractContextManager[Place]]
BOTH: tuple[Opener, ...] = (sqlite, valkey)
MODES = ("threads", "tasks")
