"""What an inner transport answered to a caller's own call: it is handed on to that caller, and never rebuilt.

A client that gets the inner transport's own response sees upstream's headers in their order and case, its extensions
and its raw bytes, and meets upstream's errors where it would have met them without us. What we add is one header. The
body was read by us, so the response's stream is replaced by one that yields the same bytes in the same pieces, and then
ends as upstream's ended. What is stored and shared is decoded; what is handed on is for the client to decode.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import lru_cache
from typing import Any

from askonce.events import Status
from askonce.http.credentials import Header

_ENCODING = b"content-encoding"


class Received:
    """An inner response, and what was read of its body: `parts` as they came, `error` where it ended in one."""

    def __init__(self, module: Any, response: Any) -> None:
        self.response = response
        self.headers: Sequence[Header] = response.headers.raw
        self.encodings = [pair for pair in self.headers if pair[0].lower() == _ENCODING]  # of the body
        self.parts: list[bytes] = []
        self.error: Exception | None = None
        self.replaced: Any = None  # in place of the response's stream
        self._module = module

    def readable(self, *, asynchronous: bool) -> bool:
        """Whether its client would read the body from the stream: it was not read before, and is of the right kind."""
        kind = self._module.AsyncByteStream if asynchronous else self._module.SyncByteStream
        response = self.response
        return isinstance(response.stream, kind) and not (response.is_stream_consumed or response.is_closed)

    def read(self) -> bytes:
        """The body, decoded as its client would decode it; raises what its client would raise."""
        if self.error is not None:
            raise self.error
        if self.replaced is None:  # read by the inner transport, or not for us to read
            content: bytes = self.response.content
            return content
        if not self.encodings:
            return b"".join(self.parts)
        twin = self._module.Response(200, headers=self.encodings, stream=_again(self._module)(self.parts))
        decoded: bytes = twin.read()
        return decoded

    def keep(self) -> None:
        """Let its client read what was read."""
        self.replaced = _again(self._module)(self.parts, self.error)

    def handed_on(self, status: Status) -> Any:
        """The response, for the caller whose call it answers."""
        response = self.response
        if self.replaced is not None:
            response.stream = self.replaced
        note(self._module, response, status)
        return response


def note(module: Any, response: Any, status: Status) -> None:
    """Add our Cache-Status behind what upstream's caches said of themselves, if they did."""
    if "cache-status" in response.headers:
        response.headers = module.Headers([*response.headers.raw, (b"cache-status", str(status).encode())])
    else:
        response.headers["cache-status"] = str(status)


class Again:
    """A body that was read: the same pieces, and the same end. A second iteration goes on where the first stopped."""

    def __init__(self, parts: list[bytes], error: Exception | None = None) -> None:
        self._parts = iter(parts)
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        """The pieces."""
        yield from self._parts
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""
        for part in self._parts:
            yield part
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Upstream was closed when it was read."""

    async def aclose(self) -> None:
        """Upstream was closed when it was read."""


async def leave(pieces: Any, stream: Any) -> None:
    """Close an async stream, and the iterator of it first: it may have stopped in the middle."""
    try:
        if hasattr(pieces, "aclose"):
            with contextlib.suppress(RuntimeError):  # it is being read by a task that was told to stop
                await pieces.aclose()
    finally:
        await stream.aclose()


@lru_cache(maxsize=8)
def _again(module: Any) -> Any:
    """Our stream as one of this module, which asks by isinstance."""
    return type("AskonceBody", (Again, module.SyncByteStream, module.AsyncByteStream), {})
