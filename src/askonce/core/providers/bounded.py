"""JSON of others, read within bounds: what is made of it takes at most a few times the bytes that it is.

Three bytes, ``[],``, become an empty list of 56 bytes and a place for it: what a provider, or whoever pretends to be
one, sends as 8 MB would fill 190 MB here. So what is large is counted first, which costs a thousandth of reading it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import orjson

P = ParamSpec("P")
T = TypeVar("T")

SHORT = 2048  # characters, or bytes, of a text that is kept to find by it what was worked out of it
LARGE = 256 * 1024  # bytes; less is not worth the question
TIMES = 6  # what reading JSON may take, in times of its own size; of real answers the densest takes 4
EVENTS = 100_000  # of a stream; the longest of 3,393 recorded ones has 2,633
_GAPS = (b"\n\n", b"\n\r", b"\r\r")  # between two events
# Bytes of the smallest dict and list, and of what orjson notes of a value; of an event's line, of a name with a value.
_WEIGHTS = {"{": 240, "[": 64, ",": 14}
_WEIGHTS_OF_BYTES = {sign.encode(): size for sign, size in _WEIGHTS.items()}
_LINE, _PAIR = 48, 72

_OUTSIDE = re.compile(rb'["\[\]{}]')


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """orjson.loads; ValueError also for JSON that would take too much memory."""
    if len(data) > LARGE and dense(data):
        raise ValueError("JSON of more brackets than words")
    return orjson.loads(data)


def dense(data: bytes | bytearray | memoryview | str) -> bool:
    """Whether reading these bytes would take more than TIMES their size."""
    plain: Any = bytes(data) if isinstance(data, memoryview) else data
    weights = _WEIGHTS if isinstance(plain, str) else _WEIGHTS_OF_BYTES
    weight: int = sum(plain.count(sign) * size for sign, size in weights.items())
    return weight > TIMES * len(plain)


def lru_cache_of_short(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """functools.lru_cache, but for calls with long texts: a thousand names of 64 KB would be 64 MB."""

    def made(work: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize)(work)

        @wraps(work)
        def found(*args: P.args, **named: P.kwargs) -> T:
            for one in args:
                if isinstance(one, str | bytes) and len(one) > SHORT:
                    return work(*args, **named)
            return kept(*args, **named)  # type: ignore[arg-type]  # a call that cannot be hashed is a bug of ours

        return found

    return made


def crowded(data: bytes) -> bool:
    """Whether to keep each name and value of JSON apart, which Python's own reader can, would take too much memory."""
    return len(data) > LARGE and data.count(b":") * _PAIR > TIMES * len(data)


def flooded(body: bytes) -> bool:
    """Whether a stream is of more events than answers have, or of more brackets or line ends than words."""
    if len(body) <= LARGE:
        return False
    lines = body.count(b"\n") + body.count(b"\r")
    return dense(body) or lines * _LINE > TIMES * len(body) or sum(map(body.count, _GAPS)) > EVENTS


def signs(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The brackets and strings of JSON, as (sign, start, end); it ends early where a string does not.

    Not one expression for all of it: whatever repeats a group keeps a place for each turn, 130 bytes for each of a
    string's, and where nothing follows it begins anew at every byte.
    """
    at = 0
    while found := _OUTSIDE.search(data, at):
        start = found.start()
        at = found.end() if data[start] != _QUOTE else _string_end(data, start + 1)
        if at < 0:
            return
        yield data[start], start, at


_QUOTE, _ESCAPE = b'"\\'


def _string_end(data: bytes, at: int) -> int:
    """The place behind the quote that ends a string begun before `at`; -1 if none does."""
    while (end := data.find(b'"', at)) >= 0:
        back = end
        while back > at and data[back - 1] == _ESCAPE:
            back -= 1
        if not (end - back) % 2:
            return end + 1
        at = end + 1
    return -1
