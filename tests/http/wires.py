"""Connections that answer with scripted bytes under a real transport, and all that a client's caller can see of it."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple, Self

from askonce import AsyncCache, Cache, Policy

OURS = b"cache-status"
WAYS = ["whole", "iter_bytes", "iter_raw", "left"]  # to read an answer; the last one stops after its first piece
READ = {"iter_bytes": "iter_bytes", "iter_raw": "iter_raw", "left": "iter_raw"}


class Script(NamedTuple):
    """What a server sends to each request, as it is read piece by piece; then `error` is raised, or it hangs up."""

    pieces: tuple[bytes, ...]
    error: str = ""


def core_of(module: Any) -> Any:
    """The httpcore under an httpx."""
    return importlib.import_module({"httpx": "httpcore", "httpx2": "httpcore2"}[module.__name__])


def transport(module: Any, script: Script, *, asynchronous: bool) -> Any:
    """The module's own transport, whose connections play the script."""
    core = core_of(module)
    pool = core.AsyncConnectionPool if asynchronous else core.ConnectionPool
    kind = module.AsyncHTTPTransport if asynchronous else module.HTTPTransport
    made = kind.__new__(kind)  # loading certificates takes longer than everything else
    made._pool = pool(network_backend=backend(core, script, asynchronous=asynchronous))
    return made


def backend(core: Any, script: Script, *, asynchronous: bool) -> Any:
    left: list[bytes] = []

    def begin() -> None:
        left[:] = script.pieces

    def read() -> bytes:
        if left:
            return left.pop(0)
        if script.error:
            raise getattr(core, script.error)("as scripted")
        return b""

    class Blocking(core.NetworkBackend, core.NetworkStream):  # type: ignore[misc]
        def connect_tcp(self, *_: Any, **__: Any) -> Self:
            return self

        def read(self, *_: Any, **__: Any) -> bytes:
            return read()

        def write(self, *_: Any, **__: Any) -> None:
            begin()

        def close(self) -> None:
            pass

        def get_extra_info(self, info: str) -> Any:
            return ("192.0.2.1", 80) if info == "server_addr" else None

    class Suspending(core.AsyncNetworkBackend, core.AsyncNetworkStream):  # type: ignore[misc]
        async def connect_tcp(self, *_: Any, **__: Any) -> Self:
            return self

        async def read(self, *_: Any, **__: Any) -> bytes:
            return read()

        async def write(self, *_: Any, **__: Any) -> None:
            begin()

        async def aclose(self) -> None:
            pass

        def get_extra_info(self, info: str) -> Any:
            return ("192.0.2.1", 80) if info == "server_addr" else None

    return Suspending() if asynchronous else Blocking()


class Seen(NamedTuple):
    """What a caller sees of an answer: all but the time it took and our own header."""

    head: tuple[Any, ...] = ()
    parts: tuple[bytes, ...] = ()
    body: bytes = b""
    ended: tuple[Any, ...] = ()
    pool: tuple[str, ...] = ()
    jar: tuple[Any, ...] = ()


def head_of(response: Any) -> tuple[Any, ...]:
    headers = [pair for pair in response.headers.raw if pair[0].lower() != OURS]
    stream = response.extensions.get("network_stream")
    return (
        response.status_code,
        headers,
        response.http_version,
        response.reason_phrase,
        sorted(response.extensions),
        stream and stream.get_extra_info("server_addr"),
        response.charset_encoding,
        response.has_redirect_location,
    )


def ended(response: Any, error: Exception | None) -> tuple[Any, ...]:
    """How it ended: the error as the caller meets it, with what caused it; and the state it left the response in."""
    causes: list[tuple[str, str]] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append((type(cause).__qualname__, str(cause)))
        cause = cause.__cause__
    asked = getattr(error, "_request", None) is not None
    state = response and (response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded)
    return causes, asked, state, response is not None and hasattr(response, "_elapsed")


def look(module: Any, inner: Any, wrapped: Any, request: dict[str, Any], way: str) -> Seen:
    """One request in a sync client, its answer read in one of the ways."""
    response, error, parts, body = None, None, [], b""
    with module.Client(transport=wrapped) as client:
        try:
            if way == "whole":
                response = client.post(**request)
                body = response.content
            else:
                with client.stream("POST", **request) as response:
                    for part in getattr(response, READ[way])():
                        parts.append(part)
                        if way == "left":
                            break
        except Exception as wrong:
            error = wrong
        return _seen(client, inner, response, error, parts, body)


async def alook(module: Any, inner: Any, wrapped: Any, request: dict[str, Any], way: str) -> Seen:
    """The same in an async client."""
    response, error, parts, body = None, None, [], b""
    async with module.AsyncClient(transport=wrapped) as client:
        try:
            if way == "whole":
                response = await client.post(**request)
                body = response.content
            else:
                async with client.stream("POST", **request) as response:
                    pieces = getattr(response, f"a{READ[way]}")()
                    async for part in pieces:
                        parts.append(part)
                        if way == "left":
                            break
                    await pieces.aclose()
        except Exception as wrong:
            error = wrong
        return _seen(client, inner, response, error, parts, body)


def _seen(client: Any, inner: Any, response: Any, error: Any, parts: list[bytes], body: bytes) -> Seen:
    assert not isinstance(error, TypeError | AttributeError | NotImplementedError), "of this script's, not of HTTP's"
    head = head_of(response) if response is not None else ()
    pool = tuple(one.info() for one in inner._pool.connections)
    jar = tuple(sorted(client.cookies.items()))
    return Seen(head, tuple(parts), body, ended(response, error), pool, jar)


def both(module: Any, script: Script, request: dict[str, Any], way: str) -> tuple[Seen, Seen]:
    """What is seen without us, and with us on a miss; in sync clients."""
    bare = transport(module, script, asynchronous=False)
    without = look(module, bare, bare, request, way)
    with Cache("memory://", policy=Policy(on_abandon="close")) as cache, cache.watch() as seen:
        inner = transport(module, script, asynchronous=False)
        ours = look(module, inner, cache.transport(module=module, inner=inner), request, way)
    assert [status.fwd for status in seen] == ["miss"]
    return without, ours


async def aboth(module: Any, script: Script, request: dict[str, Any], way: str) -> tuple[Seen, Seen]:
    """The same in async clients."""
    bare = transport(module, script, asynchronous=True)
    without = await alook(module, bare, bare, request, way)
    async with AsyncCache("memory://", policy=Policy(on_abandon="close")) as cache:
        inner = transport(module, script, asynchronous=True)
        with cache.watch() as seen:
            ours = await alook(module, inner, cache.transport(module=module, inner=inner), request, way)
    assert [status.fwd for status in seen] == ["miss"]
    return without, ours
