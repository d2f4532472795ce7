"""The upstream leg: one pool of connections for a worker, and requests that arrive there as the caller sent them.

aiohttp adds nothing to a request here: no header of its own, no cookie, no redirect, no decoding, no second try. The
head keeps the caller's order. Errors get the names that http.transport shares them by (wire_errors).
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.payload import BytesPayload
from multidict import CIMultiDict
from yarl import URL

from askonce.gateway import wire
from askonce.gateway.collector import collector
from askonce.gateway.wire_errors import (
    ConnectError,
    ConnectTimeout,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    TransportError,
)
from askonce.http.credentials import Header
from askonce.runtime.boot_clock import boot_clock
from askonce.runtime.readable import is_readable

IDLE = 45.0  # s that an unused connection is kept: less than the 60 s after which common balancers close it
HEAD = 65_536  # bytes of one line of an answer's head
LINES = 1_000  # headers of an answer
PIECE = 65_536  # bytes of a body that are handed to aiohttp at once
_NOT_ADDED = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)
_SKIPPED: CIMultiDict[None] = CIMultiDict([(name, None) for name in _NOT_ADDED])


# The headers of the request that is being sent, and whether aiohttp can write them: it leaves out of a value what is no
# UTF-8, and then they are Latin-1 here. Not an argument of aiohttp's session: of two headers whose names differ
# only in case, it keeps one, and it moves Host to the front.
_headers: ContextVar[tuple[CIMultiDict[str], bool]] = ContextVar("askonce-headers")


class _Request(aiohttp.ClientRequest):
    """A request whose head is what was given, in its order."""

    def update_headers(self, _: Any) -> None:
        """Take the headers as they are; Host is among them."""
        self.headers: CIMultiDict[str]
        self.headers, self._written = _headers.get()

    def update_auto_headers(self, _: Any) -> None:
        """Add none."""
        self._skip_auto_headers = _SKIPPED

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Leave a request without a body alone: aiohttp would say how long nothing is."""
        if body is None:
            self._body = None if self._written else BytesPayload(b"")  # with none, write_bytes is not called
        elif type(body) is bytes and hdrs.CONTENT_LENGTH in self.headers:
            self._body = BytesPayload(body)  # what aiohttp finds out about it changes no header
        else:
            super().update_body_from_data(body, _stacklevel + 1)

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        """Write the body; before it the head, if aiohttp cannot write that."""
        if not self._written:
            line = writer._headers_buf.partition(b"\r\n")[0]  # noqa: SLF001 - there is no other way to write bytes
            lines = [f"{name}: {value}".encode("latin-1") for name, value in self.headers.items()]
            writer._headers_buf = b"\r\n".join([line, *lines, b"", b""])  # noqa: SLF001
        await super().write_bytes(writer, conn, content_length)


class Incoming(wire.AsyncByteStream):
    """The body of an answer, in the pieces in which it arrives. Leaving it early closes the connection."""

    __slots__ = ("_response", "_where")

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self._response = response
        self._where = where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with told(self._where):
            while piece := await self._response.content.readany():
                collector.came(len(piece))
                yield piece

    async def read_into(self, parts: list[bytes]) -> None:
        """Read it to its end, without a generator's price; what came before an error is in `parts`."""
        with told(self._where):
            while piece := await self._response.content.readany():
                collector.came(len(piece))
                parts.append(piece)

    async def aclose(self) -> None:
        """Return the connection to the pool if the body was read, else close it."""
        self._response.close()


class _Answers(ResponseHandler):
    """What reads a connection. aiohttp's does not tell a body's reader that its rest is wrong: it waits for ever.

    A process that stood still (suspended, frozen, busy) reads what came meanwhile before it calls an upstream silent.
    """

    slept = 0.0  # _slept() when it was last given back

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        super().data_received(data)
        if isinstance(self._exception, HttpProcessingError) and not (self._payload is None or self._payload.is_eof()):
            self._payload.set_exception(aiohttp.ClientPayloadError("no HTTP/1.1"), self._exception)

    def _on_read_timeout(self) -> None:
        if self.is_connected() and is_readable(self.transport.get_extra_info("socket").fileno()):  # type: ignore[union-attr]
            self._reschedule_timeout()
        else:
            super()._on_read_timeout()


class _Connector(aiohttp.TCPConnector):
    """A pool that drops a connection on which anything came while no request was sent on it.

    That is an answer to nobody, such as a balancer's 408, or a second answer to the call before. aiohttp would read it
    as the answer to the next request, which is another caller's. Nor does one outlive the machine's sleep: its other
    end is gone, nothing says so, and a request on it would wait for `silent` s.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Answers, loop=self._loop)  # type: ignore[assignment]

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if protocol.is_connected():
            # Without a parser, it keeps what comes, also half a line.
            protocol.read_by, protocol._parser = protocol._parser, None  # noqa: SLF001
            protocol.slept = _slept()

    async def _get(self, key: Any, traces: Any) -> Any:
        while (found := await super()._get(key, traces)) is not None:
            protocol: Any = found.protocol
            if _slept() < protocol.slept + 1 and not _is_spoken_on(protocol):
                break
            found.close()
        return found


def _slept() -> float:
    """For how many s the machine was suspended until now, since some moment."""
    return boot_clock() - time.monotonic()


def _is_spoken_on(protocol: Any) -> bool:
    """Whether something came over a connection since its last answer, its end too, though the loop may not know yet."""
    if protocol.should_close or is_readable(protocol.transport.get_extra_info("socket").fileno()):
        return True
    return protocol.read_by is not None and _has_begun(protocol.read_by)


_NEXT = b"HTTP/1.1 204 Between\r\n\r\n"


def _has_begun(parser: Any) -> bool:
    """Whether a parser has read a part of another answer with the end of its last one: nothing else tells."""
    try:
        messages, *_ = parser.feed_data(_NEXT)
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return True
    return [(one.code, one.reason, one.raw_headers) for one, _ in messages] != [(204, "Between", ())]


class UpstreamClient:
    """Sends requests."""

    def __init__(self, *, connect: float = 5.0, silent: float = 600.0, connections: int = 1000) -> None:
        """Must be made in the event loop."""
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0, limit_per_host=connections, keepalive_timeout=IDLE, ttl_dns_cache=60, ssl=True
            ),
            request_class=_Request,
            skip_auto_headers=_NOT_ADDED,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=silent),
            max_line_size=HEAD,
            max_field_size=HEAD,
            max_headers=LINES,
        )
        # Else a GET, PUT or DELETE whose connection breaks would be sent again: whether it was done is not known here.
        self._session._retry_connection = False  # noqa: SLF001 - there is no other way to say it
        self._proxies: dict[str, str | None] = {}

    async def send(self, request: wire.Request, context: ssl.SSLContext | None = None) -> wire.Response:
        """The answer as soon as its head is there; raises RequestError. `context`: None for the usual one."""
        url = URL(request.url, encoded=True)
        origin = f"{url.scheme}://{url.raw_authority}".lower()
        _headers.set(_texts(request.headers.raw))
        with told(origin):
            response = await self._session.request(
                request.method,
                url,
                data=_payload(request),
                chunked=True if request.extensions.get("chunked") else None,
                allow_redirects=False,
                proxy=self._proxy(origin),
                ssl=context or True,
            )
        if fault := _fault_of(response):
            response.close()
            raise RemoteProtocolError(f"{origin} does not speak HTTP/1.1: {fault}")
        return wire.Response(response.status, headers=response.raw_headers, stream=Incoming(response, origin))

    def _proxy(self, origin: str) -> str | None:
        if origin not in self._proxies:
            self._proxies[origin] = proxy_of(origin)
        return self._proxies[origin]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()
        for _ in range(3):  # a transport closes its socket in a later turn of its loop, which may end now
            await asyncio.sleep(0)


_bypassed: Callable[[str, dict[str, str]], bool] = getattr(urllib.request, "proxy_bypass_environment")  # noqa: B009 - in no stub


def proxy_of(origin: str) -> str | None:
    """The proxy that the environment names for an origin: $HTTPS_PROXY, $HTTP_PROXY, $ALL_PROXY, $NO_PROXY."""
    # aiohttp's trust_env is not used: it also takes credentials out of a .netrc, and sends them upstream.
    parts = urlsplit(origin)
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or _bypassed(parts.netloc, proxies):
        return None
    return found if "://" in found else f"http://{found}"


def _texts(headers: Sequence[Header]) -> tuple[CIMultiDict[str], bool]:
    try:
        return CIMultiDict([(name.decode("latin-1"), value.decode()) for name, value in headers]), True
    except UnicodeDecodeError:
        return CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]), False


def _payload(request: wire.Request) -> Any:
    body = request.body
    if body is None:
        return request.stream
    if len(body) > PIECE:
        return _pieces(body)
    return body or None


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """A large body in pieces, so that other requests are served between two of them."""
    view = memoryview(body)
    for at in range(0, len(body), PIECE):
        yield bytes(view[at : at + PIECE])


class told:  # noqa: N801 - it reads as a word; a generator would take three times as long
    """Raises aiohttp's errors as those of wire_errors."""

    __slots__ = ("_origin",)

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise it."""
        if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
            raise as_ours(error, self._origin) from error


_KINDS: Sequence[tuple[type[BaseException], type[RequestError], str]] = (
    (aiohttp.ClientConnectorCertificateError, ConnectError, "the certificate of {0} does not verify: {1}"),
    (aiohttp.ClientSSLError, ConnectError, "no TLS connection to {0}: {1}"),
    (aiohttp.ClientHttpProxyError, ProxyError, "the proxy on the way to {0} refused: {1}"),
    (aiohttp.ClientProxyConnectionError, ProxyError, "no connection to the proxy on the way to {0}: {1}"),
    (aiohttp.ClientConnectorDNSError, ConnectError, "the name of {0} cannot be resolved: {1}"),
    (aiohttp.ClientConnectorError, ConnectError, "no connection to {0}: {1}"),
    (aiohttp.ConnectionTimeoutError, ConnectTimeout, "no connection to {0} within the limit"),
    (TimeoutError, ReadTimeout, "{0} sent nothing within the limit"),
    (aiohttp.ServerDisconnectedError, RemoteProtocolError, "{0} closed the connection without an answer"),
    (aiohttp.ClientPayloadError, RemoteProtocolError, "{0} closed the connection before the end of its answer"),
    (aiohttp.ClientResponseError, RemoteProtocolError, "{0} does not speak HTTP/1.1: {1}"),
    (OSError, ReadError, "the connection to {0} broke: {1}"),
    (aiohttp.ClientConnectionError, ReadError, "the connection to {0} broke: {1}"),
)


def as_ours(error: BaseException, origin: str) -> RequestError:
    """An error of aiohttp, as one of wire_errors."""
    for kind, ours, says in _KINDS:
        if isinstance(error, kind):
            return ours(says.format(origin, _cause(error)))
    return TransportError(f"the call to {origin} failed: {_cause(error)}")


_VISIBLE = b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))


def _fault_of(response: aiohttp.ClientResponse) -> str:
    """What no caller can be sent of an answer that aiohttp takes, "" if nothing."""
    if not 200 <= response.status < 600:
        return f"its status is {response.status}"
    if b"".join([value for _, value in response.raw_headers]).translate(None, _VISIBLE):
        return "a header of its answer has control characters"
    coding = response.headers.get(hdrs.TRANSFER_ENCODING, "chunked").strip().lower()
    return "" if coding in {"chunked", "identity"} else "the transfer coding of its answer is another than chunked"


def _cause(error: BaseException) -> str:
    """What went wrong, in words; no URL, and nothing that was sent: they may hold a key or a part of an answer."""
    if isinstance(error, aiohttp.ClientResponseError):
        return _QUOTED.split(error.message, 1)[0].rstrip(" :") or type(error).__name__
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    said = getattr(inner, "verify_message", "") or getattr(inner, "strerror", "")
    return said or (type(error).__name__ if isinstance(inner, aiohttp.ClientError) else str(inner))


_QUOTED = re.compile(r"\n| b?['\"]")  # after these, aiohttp's messages repeat what came
