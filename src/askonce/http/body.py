"""The body of an incoming streamed response: a Source, whose parts every reader gets.

A tape holds decoded bytes, because its readers use other modules and read on other days. The caller that pays gets
upstream's own response, and its client decodes it. So an encoded body is read twice: as decoded parts for the tape, and
as raw pieces for that caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from askonce.http.received import Received, leave, subclass
from askonce.stream.tape import Raw


class Body:
    """The body of an inner response as a Source."""

    raw: deque[bytes] | None = None

    def __init__(self, received: Received, _: Any, *, asynchronous: bool) -> None:
        self._stream = received.response.stream
        self._asynchronous = asynchronous
        self._pieces: Any = aiter(self._stream) if asynchronous else iter(self._stream)
        self.pieces: Iterator[bytes] | None = None if asynchronous else self._pieces

    async def next(self) -> bytes | None:
        """The next bytes as they arrive; raises what the inner transport raises."""
        # _next() written out, because this runs for every part of every stream.
        try:
            found: bytes = await self._pieces.__anext__() if self._asynchronous else next(self._pieces)
        except (StopIteration, StopAsyncIteration):
            return None
        return found

    async def close(self) -> None:
        """Return the connection to its pool if the body was read to its end, else close it."""
        if self._asynchronous:
            await leave(self._pieces, self._stream)
        else:
            self._stream.close()

    async def _next(self, pieces: Any) -> bytes | None:
        try:
            found: bytes = await pieces.__anext__() if self._asynchronous else next(pieces)
        except (StopIteration, StopAsyncIteration):
            return None
        return found


class Encoded(Body):
    """A body whose content-encoding is undone, except for the caller that pays, which reads the `raw` pieces.

    After an error in decoding, that caller still gets the pieces; the others get the error instead of parts.
    """

    def __init__(self, received: Received, module: Any, *, asynchronous: bool) -> None:
        super().__init__(received, module, asynchronous=asynchronous)
        self.raw = deque()
        self.pieces = None
        self._wrong: Exception | None = None
        self._broken: Exception | None = None
        tee = subclass("AskonceTee", Tee, module.SyncByteStream, module.AsyncByteStream)
        twin = module.Response(200, headers=received.encodings, stream=tee(self._sync(), self._async()))
        self._decoded: Any = twin.aiter_bytes() if asynchronous else twin.iter_bytes()

    async def next(self) -> bytes | None:
        """The next decoded bytes."""
        if self._wrong is None:
            try:
                return await self._next(self._decoded)
            except Exception as error:
                if error is self._broken:
                    raise
                self._wrong = error
                return Raw.of(error, "undecodable")
        piece = await self._next(self._pieces)
        if piece is not None:
            self._received(piece)
        return piece and Raw.of(self._wrong, "undecodable")

    def _received(self, piece: bytes) -> None:
        if self.raw is not None:
            self.raw.append(piece)

    def _sync(self) -> Iterator[bytes]:
        try:
            for piece in self._pieces:
                self._received(piece)
                yield piece
        except Exception as error:
            self._broken = error
            raise

    async def _async(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces:
                self._received(piece)
                yield piece
        except Exception as error:
            self._broken = error
            raise


class Tee:
    """The stream of a response that exists only to be decoded."""

    def __init__(self, pieces: Iterator[bytes], coming: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._coming = coming

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._coming

    def close(self) -> None:
        """Do nothing: the source belongs to another object."""

    async def aclose(self) -> None:
        """Do nothing: the source belongs to another object."""
