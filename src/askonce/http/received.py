"""What an inner transport answered to a caller's own call: that caller gets it as it is, never rebuilt.

Its client sees upstream's headers in their order and case, its extensions and raw bytes, and meets upstream's errors
where it would meet them without askonce. One header is added. Because askonce read the body, the response's stream is
replaced by one that yields the same bytes in the same pieces and ends in the same way. What is stored and shared is
decoded; the client decodes what it gets.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import lru_cache
from typing import Any

from askonce.events import Status
from askonce.http.credentials import Header
from askonce.http.header_names import Places

CODINGS = Places(lambda name: name.lower() == b"content-encoding")


class Received:
    """An inner response and its body: the `parts` as they came, and the `error` that ended it, if any."""

    def __init__(self, module: Any, response: Any) -> None:
        self.response = response
        self.headers: Sequence[Header] = response.headers.raw
        self.encodings = [self.headers[at] for at in CODINGS.of(self.headers)]  # of the body
        self.parts: list[bytes] = []
        self.error: Exception | None = None
        self.replaced: Any = None  # replaces the response's stream
        self._module = module

    def readable(self, *, asynchronous: bool) -> bool:
        """Whether its client would read the body from the stream: it is unread and of the right kind."""
        kind = self._module.AsyncByteStream if asynchronous else self._module.SyncByteStream
        response = self.response
        return isinstance(response.stream, kind) and not (response.is_stream_consumed or response.is_closed)

    def read(self) -> bytes:
        """The body as its client would decode it; raises what its client would raise."""
        if self.error is not None:
            raise self.error
        if self.replaced is None:  # read already, or not to be read here
            content: bytes = self.response.content
            return content
        if not self.encodings:
            return b"".join(self.parts)
        stream = self._module.ByteStream(b"".join(self.parts))
        twin = self._module.Response(200, headers=self.encodings, stream=stream)
        decoded: bytes = twin.read()
        return decoded

    def keep(self) -> None:
        """Give its client what was read."""
        kind = subclass("AskonceBody", Again, self._module.SyncByteStream, self._module.AsyncByteStream)
        self.replaced = kind(self.parts, self.error)

    def handed_on(self, status: Status) -> Any:
        """The response, for the caller whose call it answers."""
        response = self.response
        if self.replaced is not None:
            response.stream = self.replaced
        note(self._module, response, status)
        return response


def note(module: Any, response: Any, status: Status) -> None:
    """Add askonce's Cache-Status after those of upstream's caches."""
    if "cache-status" in response.headers:
        response.headers = module.Headers([*response.headers.raw, (b"cache-status", str(status).encode())])
    else:
        response.headers["cache-status"] = str(status)


class Again:
    """A body that was read: the same pieces and the same end. A second iteration continues where the first stopped."""

    def __init__(self, parts: list[bytes], error: Exception | None = None) -> None:
        self._parts = iter(parts)
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._error is not None:
            raise self._error

    def rest(self) -> bytes | None:
        """All that is left of it, as if it were read; None if it ends in an error."""
        return b"".join(self._parts) if self._error is None else None

    def close(self) -> None:
        """Do nothing: upstream was closed after reading."""

    async def aclose(self) -> None:
        """Do nothing: upstream was closed after reading."""


async def read_out(stream: Any, parts: list[bytes]) -> None:
    """Read an async stream to its end, and close it; what came before an error is in `parts`."""
    pieces = aiter(stream)
    try:
        async for part in pieces:
            parts.append(part)  # noqa: PERF401 - what came before an error is handed on
    finally:
        await leave(pieces, stream)


async def leave(pieces: Any, stream: Any) -> None:
    """Close an async stream after its iterator, which may have stopped in the middle."""
    try:
        if hasattr(pieces, "aclose"):
            with contextlib.suppress(RuntimeError):  # a cancelled task may still be reading it
                await pieces.aclose()
    finally:
        await stream.aclose()


@lru_cache(maxsize=32)
def subclass(name: str, ours: type, *theirs: type) -> Any:
    """A class of ours as a subclass of an HTTP module's own, because the module checks with isinstance."""
    return type(name, (ours, *theirs), {})
