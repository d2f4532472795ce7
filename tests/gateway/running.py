"""A gateway that runs in a thread of the test, upstreams that note what reaches them, and raw callers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Self

import httpx2

from askonce.gateway.app import Gateway
from askonce.gateway.config import GatewayConfig, load
from askonce.gateway.server import GatewayServer
from askonce.gateway.sockets import listening
from tests.crowd import eventually

# One for all, a new connection for each request: each new client reads the system's certificates.
CLIENT = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=30)
JSON = b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"yes"}}]}'


def config_of(*upstreams: str, store: str = "memory://", **more: object) -> GatewayConfig:
    """A configuration as flags make it: ``server_drain=1`` is ``[server] drain = 1``."""
    flags = {name.replace("_", ".", 1): value for name, value in more.items()}
    return load(
        None, {}, {"upstream": list(upstreams), "store.url": store, "server.port": 0, "server.drain": 5, **flags}
    )


class Running:
    """A gateway behind `askonce serve`'s server, in a thread of its own."""

    def __init__(self, config: GatewayConfig, load_again: Callable[[], GatewayConfig] | None = None) -> None:
        self.gateway = Gateway(config)
        self.server = GatewayServer(self.gateway, load_again or (lambda: config))
        self._sockets = listening(config.server.host, config.server.port, 1)[0]
        self.port: int = self._sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, name="gateway")
        self.loop: asyncio.AbstractEventLoop | None = None
        self._began: Future[None] = Future()

    def _run(self) -> None:
        factory = self.server.config.get_loop_factory()
        assert factory is not None
        with asyncio.Runner(loop_factory=factory) as runner:
            self.loop = runner.get_loop()
            self._began.set_result(None)
            runner.run(self.server.serve(sockets=self._sockets))

    def __enter__(self) -> Self:
        self._thread.start()
        self._began.result(60)
        eventually(lambda: self.server.started or not self._thread.is_alive(), "the gateway serves", 30)
        assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self.tell(self.server.end)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def tell(self, act: Callable[[], object]) -> None:
        """Call something in the gateway's loop, without waiting for it."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(act)

    def do(self, work: Any) -> Any:
        """Run a coroutine in the gateway's loop; return its result."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def reload(self, config: GatewayConfig) -> None:
        """Use another configuration from now on."""

        async def reload() -> None:
            self.gateway.reload(config)

        self.do(reload())


@contextlib.contextmanager
def serving(*upstreams: str, file: Path | None = None, **more: Any) -> Iterator[Running]:
    with Running(config_of(*upstreams, **more) if file is None else load(file)) as running:
        yield running


@dataclass
class Heard:
    """A request as it came over the wire."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    raw_body: bytes = field(default=b"", repr=False)  # with its chunks


Answer = Callable[[Heard], bytes]


def answer(
    body: bytes = JSON,
    status: str = "200 OK",
    headers: Mapping[str, str] | None = None,
    *,
    kind: str = "application/json",
) -> bytes:
    lines = {"content-type": kind, "content-length": str(len(body)), **(headers or {})}
    return (
        b"HTTP/1.1 %s\r\n%s\r\n" % (status.encode(), b"".join(f"{n}: {v}\r\n".encode() for n, v in lines.items()))
        + body
    )


KEPT = 32 * 2**20  # bytes of a body that an upstream keeps


class Tap:
    """An upstream that keeps every byte of each request, and answers as told. An answer of b"" is a cut connection.

    `hangs_up`: each connection is cut after an answer, wherever that ends.
    """

    def __init__(
        self,
        says: Answer = lambda _: answer(),
        context: ssl.SSLContext | None = None,
        *,
        hangs_up: bool = False,
    ) -> None:
        self._context = context
        self._hangs_up = hangs_up
        self.heard: list[Heard] = []
        self.says = says
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tap")

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20, ssl=self._context), self._loop
        ).result(60)
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def say(self, data: bytes) -> None:
        """Write this on every connection, asked or not; b"" is the end of what is said there."""

        async def say() -> None:
            for writer in self._writers:
                if data:
                    writer.write(data)
                    await writer.drain()
                else:
                    writer.write_eof()

        asyncio.run_coroutine_threadsafe(say(), self._loop).result(60)

    async def _close(self) -> None:
        # A task that is cancelled before it begins, or a connection that begins after the server was closed, would leave
        # a socket to the garbage collector: so all connections are cut, and the server is closed when their tasks are over.
        while len(asyncio.all_tasks()) > 1:
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0.001)
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._answered(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection lives on after the answer to its next request."""
        heard = await self._heard(reader)
        self.heard.append(heard)
        said = self.says(heard)
        writer.write(said)
        await writer.drain()
        return bool(said) and not self._hangs_up

    async def _heard(self, reader: asyncio.StreamReader) -> Heard:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *rest = head[:-4].split(b"\r\n")
        headers = [(name, value.strip()) for name, _, value in (one.partition(b":") for one in rest)]
        known = {name.lower(): value for name, value in headers}
        if known.get(b"transfer-encoding", b"").lower() == b"chunked":
            return Heard(line, headers, *(await _chunks(reader)))
        size = int(known.get(b"content-length", b"0"))
        if size > KEPT:
            await _skip(reader, size)
            return Heard(line, headers, b"", b"")
        body = await reader.readexactly(size)
        return Heard(line, headers, body, body)


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    """Read a body without keeping it: its test measures the memory of this process."""
    while size:
        piece = await reader.read(min(size, 2**16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)


async def _chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    body, raw = b"", b""
    while True:
        size = await reader.readuntil(b"\r\n")
        data = await reader.readexactly(int(size, 16) + 2)
        body, raw = body + data[:-2], raw + size + data
        if int(size, 16) == 0:
            return body, raw


def raw_call(port: int, data: bytes, *, timeout: float = 20, over: bool = False) -> bytes:
    """What comes back for these bytes until the connection is closed. `over`: say that no more comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as caller:
        with contextlib.suppress(ConnectionError):
            caller.sendall(data)
            if over:
                caller.shutdown(socket.SHUT_WR)
        return received(caller)


def received(caller: socket.socket) -> bytes:
    """All that comes until the end."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := caller.recv(65536):
            found += part
    return found


def read_until(caller: socket.socket, mark: bytes, times: int = 1) -> bytes:
    """What comes until a mark has come so often; more may have come with it."""
    found = b""
    while found.count(mark) < times:
        found += caller.recv(4096)
    return found


def next_status(caller: socket.socket) -> int:
    """The status of the next answer on a connection that stays open, all of which is read: it may come in pieces."""
    with HTTPResponse(caller) as found:
        found.begin()
        found.read()
        return found.status


def request(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: tuple[str, ...] = (),
    last: bool = True,
) -> bytes:
    """The bytes of a request; `last`: the connection is closed after its answer."""
    lines = [
        "Host: gateway",
        *headers,
        *([f"Content-Length: {len(body)}"] if body else []),
        *(["Connection: close"] if last else []),
    ]
    return f"{method} {path} HTTP/1.1\r\n{''.join(one + chr(13) + chr(10) for one in lines)}\r\n".encode() + body
