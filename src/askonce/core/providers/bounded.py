"""Foreign JSON, read within bounds: reading takes at most a few times the memory of its bytes.

Three bytes, ``[],``, become an empty list of 56 bytes and a place for it. So 8 MB from a provider, or from an impostor,
could fill 190 MB. Large input is therefore counted first, at a thousandth of the cost of reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import orjson

from askonce.core.providers.patterns import pattern

P = ParamSpec("P")
T = TypeVar("T")

SHORT = 2048  # characters or bytes of a text that may be a key of a cache
LARGE = 256 * 1024  # bytes; smaller input is not counted
TIMES = 6  # the memory that reading JSON may take, as a multiple of its size; the densest real answers take 4
TIMES_OF_EVENT = 2.5  # the same for the values of one event: its bytes are also held in parts, joined, and alone
EVENTS = 100_000  # of a stream; the longest of 3,393 recorded ones has 2,633
_GAPS = (b"\n\n", b"\n\r", b"\r\r")  # between two events
# Bytes of the smallest dict and list; of orjson's note of a value; of an event's line; of a name with a value.
_WEIGHTS = {"{": 240, "[": 64, ",": 14}
_WEIGHTS_OF_BYTES = {sign.encode(): size for sign, size in _WEIGHTS.items()}
_LINE, _PAIR = 48, 92
_VALUE = 16  # of orjson's note of a value or a name
_NAME = 160  # of a name, its place in a dict, and its value
_NAMED = r'"([^"]{0,256})"\s{0,8}:'
_NAMES = pattern(_NAMED)
_NAMES_OF_BYTES = pattern(_NAMED.encode())

_OUTSIDE = pattern(rb'["\[\]{}]')


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
    return weight > TIMES * len(plain) or _crammed(plain, TIMES) or _named(plain, TIMES * len(plain) - weight)


def _named(data: Any, room: int) -> bool:
    """Whether the distinct names in it would take more than so many bytes. A name that repeats is kept once."""
    names, sign = (_NAMES, ":") if isinstance(data, str) else (_NAMES_OF_BYTES, b":")
    most = room // _NAME
    if data.count(sign) <= most:
        return False
    known: set[int] = set()
    for found in names.finditer(data):
        known.add(hash(found[1]))
        if len(known) > most:
            return True
    return False


def _crammed(data: Any, times: float) -> bool:
    """Whether the reader's notes of names and values would take more than `times` the size of the data."""
    notes: int = sum(map(data.count, ",:" if isinstance(data, str) else (b",", b":"))) * _VALUE
    return notes > times * len(data)


def event(data: bytes) -> Any:
    """orjson.loads of one event of a stream; ValueError if it is large and holds hardly more than names and numbers."""
    if len(data) > LARGE and _crammed(data, TIMES_OF_EVENT):
        raise ValueError("an event of more values than words")
    return orjson.loads(data)


def lru_cache_of_short(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """functools.lru_cache that passes over calls with long texts: a thousand names of 64 KB would take 64 MB."""

    def made(work: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize)(work)

        @wraps(work)
        def found(*args: P.args, **named: P.kwargs) -> T:
            for one in args:
                if isinstance(one, str | bytes) and len(one) > SHORT:
                    return work(*args, **named)
            return kept(*args, **named)  # type: ignore[arg-type]  # a call that cannot be hashed is a bug of askonce

        return found

    return made


class _ByText(dict[str, T]):
    """What a function said of short texts; emptied when it is full."""

    def __init__(self, work: Callable[[str], T], most: int) -> None:
        super().__init__()
        self._work = work
        self._most = most

    def __missing__(self, text: str) -> T:
        found = self._work(text)
        if len(text) <= SHORT:
            if len(self) >= self._most:
                self.clear()
            self[text] = found
        return found


def kept_by_text(most: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """The same for a function of one text, for what a call asks dozens of times: finding again calls no function."""
    return lambda work: _ByText(work, most).__getitem__


def crowded(data: bytes) -> bool:
    """Whether Python's own reader, which keeps each name and value apart, would take too much memory."""
    return len(data) > LARGE and data.count(b":") * _PAIR > TIMES * len(data)


def flooded(body: bytes) -> bool:
    """Whether a stream has more events than any answer, or more brackets or line ends than words."""
    if len(body) <= LARGE:
        return False
    lines = body.count(b"\n") + body.count(b"\r")
    return dense(body) or lines * _LINE > TIMES * len(body) or sum(map(body.count, _GAPS)) > EVENTS


def signs(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The brackets and strings of JSON, as (sign, start, end); it stops at a string that does not end.

    Not one regular expression: a repeated group keeps 130 bytes for each turn, and a failed match starts again at every
    byte.
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
    """The place behind the quote that ends a string begun before `at`; -1 if there is none."""
    while (end := data.find(b'"', at)) >= 0:
        back = end
        while back > at and data[back - 1] == _ESCAPE:
            back -= 1
        if not (end - back) % 2:
            return end + 1
        at = end + 1
    return -1
