"""Streams without an HTTP SDK: an iterator in, an iterator out, shared and stored like any other answer.

Each item is a JSON value of its own, or an event of a type that pydantic knows (cache.items). Every reader gets its own
copy of it, with the items' original boundaries. Any other item is passed to the readers of this process, and the stream
is not stored.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Generic, Self, cast

from askonce.cache.answer import Answered, AnsweredLater, Explaining
from askonce.cache.items import PLAIN, PlainItems
from askonce.cache.typing import I
from askonce.core.wording import Entered, is_list, one_of, shown
from askonce.engine.question import Question
from askonce.engine.reader import Unreadable
from askonce.errors import ConfigError, UsageError
from askonce.events import Events, Status
from askonce.runtime.drive import drive
from askonce.stream.tape import Playback, Raw, Source

SLOWEST, FASTEST = 0.001, 1_000_000  # how many times as fast as recorded a replay may be


class Streamed(Entered, Generic[I]):
    """A stream of items, for any of its callers. Leave it by `close`, by its end, or by the end of a ``with`` block."""

    def __init__(
        self,
        playback: Playback | StoredItems | Uncached,
        status: Status,
        cache: Explaining,
        question: Question,
        kind: PlainItems = PLAIN,
    ) -> None:
        self.status = status
        self.key = status.key
        self._playback = playback
        self._cache = cache
        self._question: Question | None = question
        self._kind = kind

    async def _item(self) -> tuple[I] | None:
        part = await self._playback.next()
        if part is None:
            await self._playback.close()
            return None
        data = part[1]
        if isinstance(data, Raw):
            return (cast("I", data.value),)
        try:
            return (self._kind.loaded(data),)
        except ValueError as wrong:
            raise UsageError(
                f"an item of this stream is {wrong}; all who ask for one stream say the same item="
            ) from wrong

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class Uncached:
    """A stream that passes by the cache: only the caller that asked for it reads it, as it comes."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def next(self) -> tuple[int, bytes] | None:
        """The next part; its time is 0."""
        data = await self._source.next()
        return None if data is None else (0, data)

    async def close(self) -> None:
        """Close it upstream."""
        await self._source.close()


class StoredItems:
    """The items of a stored stream, all of them decoded before the first is returned.

    So an unreadable item makes the whole lookup a miss, instead of an error in the middle.
    """

    def __init__(self, playback: Playback, kind: PlainItems, *, empty: bool) -> None:
        parts = playback.tape.said()
        if playback.meta or not (parts or empty):
            raise Unreadable  # a stream of HTTP, or no stored stream
        try:
            self._items = iter([kind.loaded(part) for part in parts])
        except ValueError as wrong:
            raise Unreadable from wrong
        self._playback = playback

    async def next(self) -> tuple[int, bytes] | None:
        """The next item, a copy of its own, and its time, for a replay that keeps the pace."""
        if self._playback.pace:
            return await self._playback.next()
        for item in self._items:
            return 0, Raw.of(item)
        return None

    async def close(self) -> None:
        """Leave."""
        await self._playback.close()


class Stream(Answered, Streamed[I], Iterator[I]):
    """A Cache's stream: an iterator of items."""

    def __next__(self) -> I:
        item = drive(self._item())
        if item is None:
            raise StopIteration
        return item[0]

    def close(self) -> None:
        """Leave the stream. When the last reader leaves, Policy.on_abandon decides what becomes of the call."""
        drive(self._playback.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncStream(AnsweredLater, Streamed[I], AsyncIterator[I]):
    """An AsyncCache's stream: an async iterator of items."""

    async def __anext__(self) -> I:
        item = await self._item()
        if item is None:
            raise StopAsyncIteration
        return item[0]

    async def aclose(self) -> None:
        """Leave the stream. When the last reader leaves, Policy.on_abandon decides what becomes of the call."""
        await self._playback.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class Items:
    """The upstream's iterator as a Source: each item is one part."""

    pieces: Iterator[bytes] | None = None

    def __init__(self, stream: Any, events: Events, kind: PlainItems, *, asynchronous: bool) -> None:
        self._iterator = _iterator_of(stream, asynchronous=asynchronous)
        self._asynchronous = asynchronous  # some are iterators of both kinds
        self._stream = stream
        self._events = events
        self._kind = kind

    async def next(self) -> bytes | None:
        """The next item as JSON; a Raw if it has no JSON form."""
        try:
            item = await self._iterator.__anext__() if self._asynchronous else next(self._iterator)
        except (StopIteration, StopAsyncIteration):
            return None
        body = self._kind.dumped(item)
        return self._inexact(item) if body is None else body

    def _inexact(self, item: object) -> Raw:
        told = "items-not-json" if self._kind is PLAIN else "items-not-equal"
        self._events.warn_once(told, "an item of a stream, of type %s, %s", type(item).__name__, self._kind.remedy)
        return Raw.of(item)

    async def close(self) -> None:
        """Close the iterator, and the stream of an SDK that it was made of, if they can be closed."""
        await _closed(self._iterator, asynchronous=self._asynchronous)
        if self._stream is not self._iterator:  # an SDK's stream has the connection; its iterator may be a generator
            await _closed(self._stream, asynchronous=self._asynchronous)


async def _closed(one: Any, *, asynchronous: bool) -> None:
    close = (asynchronous and getattr(one, "aclose", None)) or getattr(one, "close", None)
    # A running generator cannot be closed: it runs in another thread, or in a task that was interrupted at this moment.
    with contextlib.suppress(RuntimeError, ValueError):
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


def _iterator_of(stream: Any, *, asynchronous: bool) -> Any:
    """The iterator of what `open_stream` returned; a UsageError names what this mode can iterate over."""
    if asynchronous and hasattr(stream, "__aiter__"):
        return stream.__aiter__()
    if not asynchronous and is_list(stream) and not _is_answer(stream):
        return iter(stream)
    if _is_answer(stream):
        raise UsageError(
            f"open_stream returned a {type(stream).__name__}, which is a whole answer: return an iterator of"
            " its items, as create(..., stream=True) does, or use fetch"
        )
    wanted = "an async iterator (async def ... yield)" if asynchronous else "an iterator"
    raise UsageError(f"open_stream returned a {type(stream).__name__}: return {wanted} of items")


def _is_answer(value: object) -> bool:
    """Whether this is an answer in one piece, such as a pydantic model, which can be iterated over: by its fields."""
    return hasattr(value, "model_dump") or isinstance(value, Mapping)


def pace_of(replay: object, speed: object) -> float:
    """How fast stored streams are replayed: 0 is at once, 1.0 as recorded."""
    if not one_of(replay, ("at-once", "paced")):
        raise ConfigError(f"replay={shown(replay)}: write replay='at-once', or replay='paced'")
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not SLOWEST <= speed <= FASTEST:
        raise ConfigError(
            f"replay_speed={shown(speed)}: write a number from {SLOWEST} to {FASTEST}, such as replay_speed=1.0"
        )
    return 0.0 if replay == "at-once" else speed
