"""The transports that http_client() puts into clients of httpx2 and httpx: one body, and two shells for I/O.

The body is `async def` and is finished by one ``send(None)`` in sync mode, as everywhere in askonce. It takes the
module as a value: both have the same requests, responses and errors by the same names.

What passes is handed on untouched, stream and all. What is a question goes to the engine, and the answer is rebuilt
from the very bytes that are stored or shared, for the leader as for everybody else. An error of the inner transport is
the leader's own to raise; those who waited for him get one of the same name, of their own module, with their own
request. Who had more patience than the leader does not get his timeout, but asks again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from askonce.core import upstream
from askonce.drive import drive
from askonce.errors import NotCached, StoreUnavailable
from askonce.events import Status, log
from askonce.flight import Impatient
from askonce.http.exchange import Asked, Exchange, our_error
from askonce.http.reply import Failure, Reply, of_connection, unpack
from askonce.http.sent import Header, Sent, less_ours
from askonce.pilot import Answer
from askonce.protocol import Engine

_WAITS = {"ConnectTimeout": "connect", "PoolTimeout": "pool"}  # the patience that an error ended; else "read"


class Errand:
    """One request on its way: what its own call upstream brought, if it made one."""

    def __init__(self, transport: Transport, asked: Asked, request: Any) -> None:
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.extensions: dict[str, Any] = {}
        self._transport = transport
        self._asked = asked
        self._request = request

    async def paid(self) -> Answer:
        """Make the call. Whatever it brings is an answer, an error of the module's too."""
        exchange, module = self._transport.exchange, self._transport.module
        try:
            response = await self._transport.whole(self._request)
        except module.RequestError as error:
            self.error = error
            return exchange.failed(*self._failure(error))
        except Exception as error:
            self.error = error
            raise
        self.extensions = {name: response.extensions[name] for name in _TOLD & response.extensions.keys()}
        exchange.met(self._asked, self._request.headers.raw, response.headers.raw)
        self.reply = Reply(response.status_code, decoded(module, response.headers.raw), response.content)
        return exchange.answer(self._asked, self.reply, self)

    def _failure(self, error: Exception) -> tuple[Failure, object, str]:
        name = type(error).__name__
        if self._transport.closed or name == "PoolTimeout":  # the matter of this client alone
            return Failure(name, str(error), 0.0), self, ""
        patience = patience_for(self._request, name) if "Timeout" in name else None
        return Failure(name, str(error), None if patience == math.inf else patience), self, upstream.trouble(error)


_TOLD = {"http_version", "reason_phrase"}


class Transport:
    """What both transports are made of."""

    def __init__(self, exchange: Exchange, engine: Callable[[], Engine], module: Any, inner: Any) -> None:
        self.exchange = exchange
        self.module = module
        self.inner = inner
        self.closed = False
        self._engine = engine

    async def send(self, request: Any) -> Any:
        """The inner transport's response, untouched."""
        raise NotImplementedError

    async def whole(self, request: Any) -> Any:
        """The inner transport's response, read to its end."""
        raise NotImplementedError

    async def handle(self, request: Any) -> Any:
        """The response to a request."""
        asked = self.exchange.read(Sent(request.method, str(request.url), request.headers.raw, self._body(request)))
        if asked.ours:
            request = self._less_ours(request)
        if asked.question is None:
            return await self._passed(asked, request, asked.reason)
        began = time.monotonic()
        asked.question.until = began + patience_for(request, "ReadTimeout")
        errand = Errand(self, asked, request)
        try:
            return await self._asked(asked, errand, request)
        except NotCached as missing:
            reply = our_error(asked.operation, 504, "not_cached", str(missing))
        except StoreUnavailable as trouble:  # only of a strict cache: its calls must not go upstream uncounted
            return self._response(
                our_error(asked.operation, 503, "store_unavailable", str(trouble)),
                Status(asked.question.key.text, fwd="miss", detail=trouble.kind),
            )
        except Impatient:
            waited = time.monotonic() - began
            raise self.module.ReadTimeout(
                f"waited {waited:.1f} s for the same call of another caller", request=request
            ) from None
        except Exception as error:
            if error is errand.error or isinstance(error, self.module.RequestError):
                raise
            return await self._failed_safe(asked, errand, request, error)
        return self._response(reply, Status(asked.question.key.text, fwd="miss", detail="only-if-cached"))

    def _body(self, request: Any) -> bytes | None:
        """The body, where it is at hand: a stream is its sender's, and is not read before upstream reads it."""
        found: bytes | None = request.read() if isinstance(request.stream, self.module.ByteStream) else None
        return found

    async def _passed(self, asked: Asked, request: Any, reason: str) -> Any:
        self.exchange.events.lookup(Status("", fwd="bypass", detail=reason))
        response = await self.send(request)
        self.exchange.met(asked, request.headers.raw, response.headers.raw)
        return response

    async def _failed_safe(self, asked: Asked, errand: Errand, request: Any, error: Exception) -> Any:
        """Our own failure: the answer if it was paid for already, else the call without us. Never silent."""
        kind = type(error).__name__
        self.exchange.events.warn_once(kind, "a call went upstream without the cache: %r", error)
        log.debug("askonce failed", exc_info=error)
        if errand.error is not None:
            raise errand.error
        if errand.reply is not None:
            return self._response(errand.reply, Status("", fwd="miss", detail=kind), errand.extensions)
        return await self._passed(asked, request, kind)

    async def _asked(self, asked: Asked, errand: Errand, request: Any) -> Any:
        """Ask until the answer is one for this caller."""
        question = asked.question
        assert question is not None
        while True:
            found = await self._engine().ask(question, errand.paid)
            if found.value is errand:
                if errand.error is not None:
                    raise errand.error
                assert errand.reply is not None
                return self._response(errand.reply, found.status, errand.extensions)
            assert found.body is not None
            made = unpack(found.body)
            if isinstance(made, Reply):
                if not made.who or made.who == asked.who:
                    return self._response(made, found.status)
            elif made.patience is None or patience_for(request, made.error) <= made.patience:
                raise self._like(made, request)
            question = asked.again()

    def _like(self, failure: Failure, request: Any) -> Exception:
        """The module's own error of this name, for this request."""
        kind = getattr(self.module, failure.error, self.module.TransportError)
        made: Exception = kind(failure.message, request=request)
        return made

    def _response(self, reply: Reply, status: Status, extensions: dict[str, Any] | None = None) -> Any:
        headers = [
            *reply.headers,
            (b"content-length", b"%d" % len(reply.body)),
            (b"cache-status", str(status).encode()),
        ]
        if status.age is not None:
            headers.append((b"age", b"%d" % status.age))
        # A stream, and not content=: so the client notes the time it took, and no header is added to ours.
        stream = self.module.ByteStream(reply.body)
        return self.module.Response(reply.status, headers=headers, stream=stream, extensions=extensions)

    def _less_ours(self, request: Any) -> Any:
        return self.module.Request(
            request.method,
            request.url,
            headers=less_ours(request.headers.raw),
            stream=request.stream,
            extensions=request.extensions,
        )


class Blocking(Transport):
    """The sync transport."""

    def handle_request(self, request: Any) -> Any:
        """What a client calls."""
        return drive(self.handle(request))

    async def send(self, request: Any) -> Any:
        """Blocks."""
        return self.inner.handle_request(request)

    async def whole(self, request: Any) -> Any:
        """Blocks."""
        response = self.inner.handle_request(request)
        try:
            response.read()
        finally:
            response.close()
        return response

    def close(self) -> None:
        """The inner transport is closed; the cache is not."""
        self.closed = True
        self.inner.close()

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.closed = True
        self.inner.__exit__(*raised)


class Suspending(Transport):
    """The async transport."""

    async def handle_async_request(self, request: Any) -> Any:
        """What a client calls."""
        return await self.handle(request)

    async def send(self, request: Any) -> Any:
        """Suspends."""
        return await self.inner.handle_async_request(request)

    async def whole(self, request: Any) -> Any:
        """Suspends."""
        response = await self.inner.handle_async_request(request)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    async def aclose(self) -> None:
        """The inner transport is closed; the cache is not."""
        self.closed = True
        await self.inner.aclose()

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.closed = True
        await self.inner.__aexit__(*raised)


def patience_for(request: Any, error: str) -> float:
    """How many s this request would have waited before an error of this name; inf without a limit."""
    limits = request.extensions.get("timeout") or {}
    limit = limits.get(_WAITS.get(error, "read"))
    return math.inf if limit is None else float(limit)


def decoded(module: Any, headers: list[Header]) -> list[Header]:
    """The headers that go with a decoded body."""
    return [
        (name, value)
        for name, value in headers
        if not of_connection(name) and not (name.lower() == b"content-encoding" and _decodes(module, value))
    ]


@lru_cache(maxsize=64)
def _decodes(module: Any, encodings: bytes) -> bool:
    """Whether the module undoes these encodings (brotli and zstd need packages of their own)."""
    probe = b"\xff\xfe not encoded"
    try:
        response = module.Response(200, headers=[(b"content-encoding", encodings)], content=probe)
    except module.DecodingError:
        return True
    return bool(response.content != probe)
