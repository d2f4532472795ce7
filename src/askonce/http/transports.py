"""The sync and the async transport: the same body, with the I/O of each kind of client."""

from __future__ import annotations

from typing import Any

from askonce.http.received import read_out
from askonce.http.transport import Transport
from askonce.runtime.drive import drive


class Blocking(Transport):
    """The sync transport."""

    def handle_request(self, request: Any) -> Any:
        """Called by the client."""
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
        """Close the inner transport, if it is this process's; the cache stays open."""
        self.closed = True
        if (mine := self._inner.mine()) is not None:
            mine.close()

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.closed = True
        if (mine := self._inner.mine()) is not None:
            mine.__exit__(*raised)


class Suspending(Transport):
    """The async transport."""

    asynchronous = True

    async def handle_async_request(self, request: Any) -> Any:
        """Called by the client."""
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
        """Close the inner transport, if it is this process's; the cache stays open."""
        self.closed = True
        if (mine := self._inner.mine()) is not None:
            await mine.aclose()

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.closed = True
        if (mine := self._inner.mine()) is not None:
            await mine.__aexit__(*raised)
