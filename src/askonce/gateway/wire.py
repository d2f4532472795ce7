"""Requests and responses of the gateway: as light as a proxy needs them, with the faces that http.transport asks for.

To http.transport this file is a module like httpx: it has a Request, a Response, streams and errors of the same names.
Headers are pairs of bytes in their order and case. A response holds its body, or a stream of its raw pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from askonce.gateway.codings import Decoding
from askonce.gateway.wire_errors import (
    CloseError,
    ConnectError,
    ConnectTimeout,
    DecodingError,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    TimeoutException,
    TooManyRedirects,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from askonce.http.credentials import Header
from askonce.http.header_names import Shapes

__all__ = [
    "NOTHING",
    "AsyncByteStream",
    "ByteStream",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "DecodingError",
    "Headers",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "Response",
    "SyncByteStream",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "Whole",
    "WriteError",
    "WriteTimeout",
]

_ENCODING = b"content-encoding"
NOTHING: Mapping[str, Any] = {}


class SyncByteStream:
    """A stream for sync readers, of which the gateway has none."""


class AsyncByteStream:
    """A stream of bytes."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Its pieces."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Leave it."""


class ByteStream(AsyncByteStream, SyncByteStream):
    """A body in memory."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


class Headers:
    """Pairs of bytes."""

    __slots__ = ("raw",)

    def __init__(self, raw: Sequence[Header]) -> None:
        self.raw = list(raw)

    def __contains__(self, name: str) -> bool:
        return name.encode() in _LOWER.of(self.raw)

    def __setitem__(self, name: str, value: str) -> None:
        self.raw.append((name.encode(), value.encode("latin-1")))


_LOWER = Shapes(lambda names: frozenset(map(bytes.lower, names)))


class Request:
    """A request for upstream. Its `body` is in memory, or None: then `stream` yields it."""

    __slots__ = ("extensions", "headers", "method", "stream", "url")

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[Header] = (),
        content: bytes | None = None,
        stream: AsyncByteStream | None = None,
        extensions: Mapping[str, Any] = NOTHING,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = Headers(headers)
        self.stream = ByteStream(content or b"") if stream is None else stream
        self.extensions = extensions

    @property
    def body(self) -> bytes | None:
        """The body, if it is in memory."""
        return self.stream.body if isinstance(self.stream, ByteStream) else None

    def read(self) -> bytes:
        """The same, for http.transport."""
        return self.body or b""


class Whole:
    """An answer whose body is in memory: its `stored` headers, which hits of one entry share, and those of its own."""

    __slots__ = ("body", "more", "status_code", "stored")

    def __init__(self, status_code: int, stored: Sequence[Header], more: list[Header], body: bytes) -> None:
        self.status_code = status_code
        self.stored = stored
        self.more = more
        self.body = body


class Response:
    """An answer of upstream, or one that comes in parts: a `stream` of raw pieces."""

    __slots__ = ("_content", "extensions", "headers", "is_closed", "is_stream_consumed", "status_code", "stream")

    def __init__(
        self,
        status_code: int,
        *,
        headers: Sequence[Header] = (),
        content: bytes | None = None,
        stream: Any = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        self.status_code = status_code
        self.headers = Headers(headers)
        self.stream = stream
        self.extensions = extensions or NOTHING
        self.is_stream_consumed = self.is_closed = False
        self._content = None if content is None else self._decoding().whole(content)

    def _decoding(self) -> Decoding:
        return Decoding(value for name, value in self.headers.raw if name.lower() == _ENCODING)

    @property
    def content(self) -> bytes:
        """The decoded body, after it was read."""
        if self._content is None:
            raise RuntimeError("the body was not read")
        return self._content

    def read(self) -> bytes:
        """Read and decode a body whose pieces are in memory."""
        if self._content is None:
            self._content = self._decoding().whole(b"".join(self.stream))
        return self._content

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The decoded pieces as they come."""
        decoding = self._decoding()
        async for part in self.stream:
            if found := decoding.decode(part):
                yield found
        if found := decoding.flush():
            yield found

    async def aclose(self) -> None:
        """Leave the stream."""
        self.is_closed = True
        if self.stream is not None:
            await self.stream.aclose()
