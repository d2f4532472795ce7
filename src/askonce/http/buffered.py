"""A response whose body is in memory: reading it at once does not pass through the module's machinery for streams.

That machinery (a decoder, two chunkers, three contexts) takes a tenth of a hit. Such a response becomes the module's
own as soon as it is read, pickled or streamed in any other way, so no program meets another type for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from askonce.http.credentials import Header

_ENCODING = b"content-encoding"


def buffered(
    module: Any, status: int, headers: Sequence[Header], body: bytes, extensions: dict[str, Any] | None = None
) -> Any:
    """A response with this body."""
    encoded = any(name.lower() == _ENCODING for name, _ in headers)  # by something that this module may know
    # A stream and not content=, so that the client measures its time and no header is added.
    kind, stream = module.Response if encoded else _kind(module), module.ByteStream(body)
    made = kind(status, headers=headers, stream=stream, extensions=extensions)
    if not encoded:
        made.body_at_hand = stream, body
    return made


class _Buffered:
    """Its `stream` is what its client made of the body's, and is closed as if it had been read."""

    bound: tuple[type, type]  # what the module's clients put around a stream, sync and async

    def read(self: Any) -> bytes:
        """The body."""
        if (body := _taken(self, self.bound[0])) is not None:
            self.close()
            self._content = body
        found: bytes = self.read()
        return found

    async def aread(self: Any) -> bytes:
        """The body."""
        if (body := _taken(self, self.bound[1])) is not None:
            await self.aclose()
            self._content = body
        found: bytes = await self.aread()
        return found

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        _own(self)
        return self.__reduce_ex__(protocol)


def _own(response: Any) -> tuple[Any, bytes] | None:
    """Make it the module's own response; return its stream and its body."""
    found: tuple[Any, bytes] | None = response.__dict__.pop("body_at_hand", None)
    response.__class__ = type(response).__mro__[2]
    return found


def _taken(response: Any, bound: Any) -> bytes | None:
    """The same; return its body if it may be read so, nothing was, and nobody put another one in its place."""
    stream = response.stream
    if (found := _own(response)) is None:  # an exception came behind that line
        return None
    if found[0] is not (stream._stream if type(stream) is bound else stream):  # noqa: SLF001 - it has no other name
        return None
    if response.is_stream_consumed or response.is_closed or hasattr(response, "_content"):
        return None
    response.is_stream_consumed = True
    response._num_bytes_downloaded = len(found[1])  # noqa: SLF001 - nothing else says how much was read
    return found[1]


@lru_cache(maxsize=8)
def _kind(module: Any) -> Any:
    client = getattr(module, "_client", None)
    bound = tuple(getattr(client, name, None) for name in ("BoundSyncStream", "BoundAsyncStream"))
    own = {"__module__": module.Response.__module__, "bound": bound}
    return type("Response", (_Buffered, module.Response), own)
