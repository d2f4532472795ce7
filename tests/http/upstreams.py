"""Transports to stand behind askonce's: one records what passes through it, one answers without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Self


class Seen(NamedTuple):
    """A request as the inner transport got it."""

    method: str
    url: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


def seen(request: Any) -> Seen:
    return Seen(request.method, str(request.url), request.headers.raw, request.read())


class Closable:
    """A transport that is closed by `close`, in whichever way its client of either mode closes it."""

    def close(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.close()


class Noting(Closable):
    """Passes everything on to the network, and keeps what it saw."""

    def __init__(self, module: Any) -> None:
        self.inner = module.HTTPTransport()
        self.requests: list[Seen] = []

    def handle_request(self, request: Any) -> Any:
        self.requests.append(seen(request))
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


class Scripted(Closable):
    """Answers each request by a function, in either mode; counts the calls."""

    def __init__(self, module: Any, answer: Callable[[Any], Any]) -> None:
        self.module = module
        self.answer = answer
        self.requests: list[Seen] = []
        self.closed = False
        self._lock = threading.Lock()

    def handle_request(self, request: Any) -> Any:
        with self._lock:
            self.requests.append(seen(request))
        return self.answer(request)

    async def handle_async_request(self, request: Any) -> Any:
        self.requests.append(seen(request))
        answer = self.answer(request)
        return await answer if hasattr(answer, "__await__") else answer

    def close(self) -> None:
        self.closed = True
