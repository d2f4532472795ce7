"""Content codings of answers, undone for the store: gzip, deflate, br, zstd.

The caller that pays gets the bytes as they came. What is stored and shared is decoded, because another caller may not
accept the first one's coding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Protocol

from askonce.gateway.wire_errors import DecodingError


class Decoder(Protocol):
    """Undoes one coding, piece by piece."""

    def decode(self, data: bytes) -> bytes:
        """The decoded bytes of the next piece."""
        ...

    def flush(self) -> bytes:
        """The rest, at the end; raises if the end is missing."""
        ...


_MEMBER = b"\x1f\x8b"


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def decode(self, data: bytes) -> bytes:
        found = self._inner.decompress(data)
        while self._inner.eof and (rest := self._inner.unused_data).startswith(_MEMBER):  # others are padding
            self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
            found += self._inner.decompress(rest)
        return found

    def flush(self) -> bytes:
        return self._inner.flush()


class _Deflate:
    """Deflate in zlib's frame, as the standard says, or bare, as some servers send it."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj()
        self._first = True

    def decode(self, data: bytes) -> bytes:
        first, self._first = self._first, self._first and not data
        try:
            return self._inner.decompress(data)
        except zlib.error:
            if not first:
                raise
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inner.decompress(data)

    def flush(self) -> bytes:
        return self._inner.flush()


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._inner = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        found: bytes = self._inner.process(data)
        return found

    def flush(self) -> bytes:
        return b""


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._new = zstandard.ZstdDecompressor().decompressobj
        self._inner = self._new()

    def decode(self, data: bytes) -> bytes:
        found = b""
        while data:  # there may be several frames
            if self._inner.eof:
                self._inner = self._new()
            found += self._inner.decompress(data)
            data = self._inner.unused_data
        return found

    def flush(self) -> bytes:
        return b""


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


@cache
def _here(coding: str) -> bool:
    """Whether a coding is known, and its package is installed."""
    try:
        _DECODERS[coding]()
    except (KeyError, ImportError):
        return False
    return True


class Decoding:
    """Undoes the codings of a Content-Encoding, the last one first; unknown ones are left as they are."""

    def __init__(self, encodings: Iterable[bytes]) -> None:
        names = [name.strip().lower() for one in encodings for name in one.decode("latin-1").split(",")]
        self._steps = [_DECODERS[name]() for name in reversed(names) if _here(name)]

    def decode(self, data: bytes) -> bytes:
        """The decoded bytes of the next piece; DecodingError."""
        return self._guarded(data, last=False)

    def flush(self) -> bytes:
        """The rest, at the end."""
        return self._guarded(b"", last=True)

    def _guarded(self, data: bytes, *, last: bool) -> bytes:
        try:
            for step in self._steps:
                data = step.decode(data) + (step.flush() if last else b"")
        except Exception as error:  # each package raises its own kind
            raise DecodingError(f"the body of the answer cannot be decoded: {error}") from error
        return data

    def whole(self, data: bytes) -> bytes:
        """All of a body."""
        return self.decode(data) + self.flush()
