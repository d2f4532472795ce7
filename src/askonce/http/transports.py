"""The sync and the async transport: the same body, with the I/O of each kind of client."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from askonce.errors import UsageError
from askonce.http.received import read_out
from askonce.http.transport import Transport
from askonce.runtime.drive import drive

MODULES = ("httpx2", "httpx")


def whose(made: object, kind: str) -> str:
    """The module to whose class of this name something belongs; "" for none. Not __module__: SDKs write into that."""
    loaded = ((name, getattr(sys.modules.get(name), kind, None)) for name in MODULES)
    return next((name for name, one in loaded if one is not None and isinstance(made, one)), "")


def _check(module: Any, request: Any) -> None:
    """UsageError for a request of another module: its client asks for responses of its own."""
    if not isinstance(request, module.Request) and (theirs := whose(request, "Request")):
        raise UsageError(
            f"this transport is one of {module.__name__}, and its client one of {theirs}: write"
            f" cache.transport(module={theirs})"
        )


class Blocking(Transport):
    """The sync transport."""

    def handle_request(self, request: Any) -> Any:
        """Called by the client."""
        _check(self.module, request)
        return drive(self.handle(request))

    async def send(self, request: Any) -> Any:
        """Blocks."""
        return self.inner.handle_request(request)

    async def dispose(self, response: Any) -> None:
        """Blocks."""
        response.close()

    async def _drain(self, stream: Any, parts: list[bytes]) -> None:
        try:
            parts.extend(stream)
        finally:
            stream.close()

    def close(self) -> None:
        """Close the inner transport, if it is this process's, after the calls that go on; the cache stays open."""
        self._end(lambda mine: mine.close())

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end(lambda mine: mine.__exit__(*raised))

    def _end(self, close: Callable[[Any], object]) -> None:
        if (mine := self._inner.mine()) is not None:

            async def closed() -> None:
                close(mine)

            drive(self.end.close(closed))


class Suspending(Transport):
    """The async transport."""

    asynchronous = True

    async def handle_async_request(self, request: Any) -> Any:
        """Called by the client."""
        _check(self.module, request)
        return await self.handle(request)

    async def send(self, request: Any) -> Any:
        """Suspends."""
        return await self.inner.handle_async_request(request)

    async def dispose(self, response: Any) -> None:
        """Suspends."""
        await response.aclose()

    async def _drain(self, stream: Any, parts: list[bytes]) -> None:
        await read_out(stream, parts)

    async def aclose(self) -> None:
        """Close the inner transport, if it is this process's, after the calls that go on; the cache stays open."""
        if (mine := self._inner.mine()) is not None:
            await self.end.close(mine.aclose)

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        if (mine := self._inner.mine()) is not None:
            await self.end.close(partial(mine.__aexit__, *raised))
