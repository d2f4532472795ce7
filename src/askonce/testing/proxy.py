"""A TCP proxy before a server that imitates bad networks, proxies and servers on demand.

It delays, silently drops, trickles, sends garbage, hangs up, and leads new connections to another server, as a name or
a virtual address does after a failover. A change takes effect at once, from any thread, for present and future
connections.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

from askonce.testing.servers import Server


class _End(asyncio.Protocol):
    """One end of a connection through the proxy; what it receives goes to the other end."""

    def __init__(self, pipe: _Pipe, *, client: bool) -> None:
        self.pipe = pipe
        self.client = client
        self.transport: Any = None
        self.early = b""  # received before the other end existed
        self.ready = 0.0  # when the last forwarded byte is due (loop's s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.pipe.over:
            self.transport.abort()
        elif self.client:
            self.pipe.begin()

    def data_received(self, data: bytes) -> None:
        self.pipe.carry(self, data)

    def connection_lost(self, _: Exception | None) -> None:
        self.pipe.lost(self)


class _Pipe:
    """A client's connection and the matching one to the server."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = _End(self, client=True)
        self.server = _End(self, client=False)
        self.dead = proxy.hole
        self.opening: asyncio.Task[None] | None = None
        self.over = proxy.over  # one end hung up, and the other was not left open to hide that
        proxy.pipes.add(self)

    def begin(self) -> None:
        self.opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self.proxy.target)
        except OSError:
            self.client.transport.abort()
            return
        early, self.client.early = self.client.early, b""
        if early:
            self.carry(self.client, early)

    def carry(self, end: _End, data: bytes) -> None:
        """Forward what one end sent."""
        other = self.server if end.client else self.client
        if self.dead:
            return
        if other.transport is None:
            end.early += data
        elif self.proxy.trickle and not end.client:
            for at in range(len(data)):
                self._later(end, other, data[at : at + 1], self.proxy.trickle)
        else:
            self._later(end, other, data, 0.0)

    def _later(self, end: _End, other: _End, data: bytes, gap: float) -> None:
        loop = asyncio.get_running_loop()
        end.ready = max(loop.time() + self.proxy.delay, end.ready + gap)
        loop.call_at(end.ready, self._give, other, data)

    def _give(self, other: _End, data: bytes) -> None:
        if not self.dead and not other.transport.is_closing():
            other.transport.write(data)

    def lost(self, end: _End) -> None:
        """One end hung up: hang up the other, unless that is to be hidden."""
        other = self.server if end.client else self.client
        if self.dead and other is self.client:
            return  # it stays in the proxy's care
        self.over = True  # the other end may be on its way
        if other.transport is not None:
            other.transport.close()
        self.proxy.pipes.discard(self)

    def cut(self) -> None:
        self.over = True
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.abort()


class Proxy:
    """Listens on a port of its own (`url`) while it is entered, and leads to `server`."""

    def __init__(self, server: Server) -> None:
        self.target = ("127.0.0.1", server.port)
        self.delay = 0.0  # s, each way
        self.trickle = 0.0  # s between two bytes from the server; 0: all at once
        self.hole = False
        self.over = False
        self.pipes: set[_Pipe] = set()
        self._parts = urlsplit(server.url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        listener = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = listener.sockets[0].getsockname()[1]
        self._listener = listener
        return self

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(lambda: _Pipe(self).client, "127.0.0.1", 0)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """Close every connection, also those that are accepted or opened in this moment."""
        self.over = True
        for listening in self._listener.sockets:
            self._loop.remove_reader(listening.fileno())  # its end would lose what it has accepted in this turn
        for pipe in list(self.pipes):
            pipe.cut()
            if pipe.opening is not None:
                pipe.opening.cancel()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)
        self._listener.close()
        await asyncio.sleep(0)  # what is aborted is closed in the loop's next turn

    @property
    def url(self) -> str:
        """The server's URL through this proxy."""
        user = f"{self._parts.netloc.rpartition('@')[0]}@".removeprefix("@")
        return f"redis://{user}127.0.0.1:{self.port}{self._parts.path}"

    def _do(self, act: Callable[[], object]) -> None:
        async def done() -> None:
            act()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def lead_to(self, server: Server) -> None:
        """Lead new connections to another server; present ones stay."""
        self.target = ("127.0.0.1", server.port)

    def drop(self) -> None:
        """Pass nothing from now on, in either direction, without a word; open connections never pass anything again."""

        def act() -> None:
            self.hole = True
            for pipe in self.pipes:
                pipe.dead = True

        self._do(act)

    def drop_idle(self) -> None:
        """Pass nothing on the present connections only."""
        self.drop()
        self.hole = False

    def mend(self) -> None:
        """Let new connections work normally."""
        self.delay = self.trickle = 0.0
        self.hole = False

    def say(self, data: bytes) -> int:
        """Send bytes to every client as if from the server; return how many clients there were."""
        reached: list[_Pipe] = []

        def act() -> None:
            reached.extend(pipe for pipe in self.pipes if pipe.client.transport is not None and not pipe.dead)
            for pipe in reached:
                pipe.client.transport.write(data)

        self._do(act)
        return len(reached)

    def cut(self) -> None:
        """Hang up all connections."""

        def act() -> None:
            for pipe in list(self.pipes):
                pipe.cut()

        self._do(act)
