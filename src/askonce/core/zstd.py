"""Compression by zstd, with a dictionary for short answers.

An answer of 500 bytes has little in itself that repeats. What repeats in all answers are the names of an API's fields.
A dictionary holds them. Each has a number, which the frame names. Every version that was ever shipped stays in the
folder, so that what was compressed with an older one can be read. `tools.dictionary` makes them.

The library is `zstandard`. Python 3.14's own module makes a new context for each message, which takes four times as
long at 2 KB as to decompress it.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Any

from askonce.core import libraries
from askonce.core.model import Corrupt

LEVEL = 3
LEAST = 128  # bytes: below that, an envelope is no smaller than what is in it
WORTH = 8  # an answer that does not lose an eighth is stored as it is
DICTIONARY = 32769  # what new answers are compressed with; numbers below 32768 belong to zstd's registry
ZSTD = 1  # in the extension CODEC, before the number of the dictionary

_NO_CODEC, _OVERSIZED, _CORRUPT = "store-no-codec", "store-oversized", "store-corrupt"
_compressors: deque[Any] = deque(maxlen=64)
_decompressors: dict[int, deque[Any]] = {}


class Zstd:
    """Compresses with the newest dictionary, and decompresses with each. Safe in any thread."""

    __slots__ = ()

    written = bytes([ZSTD]) + DICTIONARY.to_bytes(4, "big")

    @staticmethod
    def named(codec: bytes) -> str:
        """An extension CODEC in words."""
        if codec[:1] != bytes([ZSTD]):
            return f"unknown ({codec.hex()})"
        return f"zstd, dictionary {int.from_bytes(codec[1:5], 'big')}"

    @staticmethod
    def compress(data: bytes) -> bytes | None:
        """A zstd frame; None if it would not be worth its reader's time."""
        if len(data) < LEAST:
            return None
        # A context belongs to one call at a time: it is not safe in two threads, and takes 10 us to make.
        try:
            context = _compressors.pop()
        except IndexError:
            context = libraries.zstandard().ZstdCompressor(level=LEVEL, dict_data=_dictionary(DICTIONARY))
        packed: bytes = context.compress(data)
        _compressors.append(context)
        return packed if len(packed) + len(data) // WORTH <= len(data) else None

    @staticmethod
    def decompress(packed: bytes, most: int) -> bytes:
        """The content of a frame, which is at most so many bytes: Corrupt before more than that is made."""
        try:
            library = libraries.zstandard()
        except libraries.Missing:
            raise Corrupt(_NO_CODEC) from None
        try:
            frame = library.get_frame_parameters(packed)
        except library.ZstdError:
            raise Corrupt(_CORRUPT) from None
        # A frame without a size has the largest number there is.
        if frame.content_size > most:
            raise Corrupt(_OVERSIZED)
        idle = _decompressors.get(frame.dict_id)
        if idle is None:
            idle = _known(library, frame.dict_id)
        try:
            context = idle.pop()
        except IndexError:
            context = library.ZstdDecompressor(dict_data=_dictionary(frame.dict_id))
        try:
            content: bytes = context.decompress(packed, allow_extra_data=False)
        except library.ZstdError:
            raise Corrupt(_CORRUPT) from None
        idle.append(context)
        return content


def _known(library: Any, number: int) -> deque[Any]:
    """The idle contexts of a dictionary, Corrupt if it is not here."""
    if number and _dictionary_bytes(number) is None:
        raise Corrupt(_NO_CODEC)
    del library
    return _decompressors.setdefault(number, deque(maxlen=64))


@lru_cache
def _dictionary(number: int) -> Any:
    if not number:
        return None
    library = libraries.zstandard()
    return library.ZstdCompressionDict(_dictionary_bytes(number) or b"")


@lru_cache
def _dictionary_bytes(number: int) -> bytes | None:
    from importlib.resources import files  # most processes never need it

    found = files("askonce.core") / "dictionaries" / f"{number}.zdict"
    return found.read_bytes() if found.is_file() else None
