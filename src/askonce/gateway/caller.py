"""A caller of the gateway: its body as it arrives, and the moment at which it disconnects.

A request that is answered without waiting is never watched: most hits are. The first time that its task waits for
something, a second task begins to wait for the caller's leaving, and cancels the first. To the engine that is a caller
that was cancelled: the call goes on for those who are left, or is finished and stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from functools import partial
from typing import Any, TypeVar

from askonce.gateway import wire

T = TypeVar("T")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Leaves = Callable[[Callable[[], None] | None], None]
LEAVES = "askonce.leaves"  # in a scope: a Leaves, which calls a function when the caller leaves; no task is needed


class Disconnected(Exception):
    """The caller has gone."""


class Caller:
    """One caller of one request."""

    def __init__(self, receive: Receive, leaves: Leaves | None = None) -> None:
        self.left = False
        self.answered = False  # its answer is being written
        self._leaves = leaves
        self.sent_all = False  # its body has arrived
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._waits: asyncio.Task[Any] | None = None  # its task, once that waits

    async def part(self) -> bytes:
        """The next part of its body; Disconnected if it has gone."""
        message = await self._receive()
        if message["type"] != "http.request":
            self.left = True
            raise Disconnected
        self.sent_all = not message.get("more_body", False)
        if self.sent_all and self._waits is not None:  # a body that goes upstream as it arrives
            self._watch_for(self._waits)
        body: bytes = message.get("body", b"")
        return body

    @types.coroutine
    def watched(self, work: Awaitable[T]) -> Generator[Any, Any, T]:
        """Do the work in this task; once it waits, watch the caller, and cancel this task when it leaves."""
        steps = work.__await__()
        try:
            waits = next(steps)
            self._begin()
            while True:
                try:
                    got = yield waits
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - a cancellation, too, is the work's to handle
                    waits = steps.throw(error)
                else:
                    waits = steps.send(got)
        except StopIteration as done:
            found: T = done.value
            return found

    def _begin(self) -> None:
        self._waits = task = asyncio.current_task()
        assert task is not None
        if self.sent_all:
            self._watch_for(task)

    def _watch_for(self, task: asyncio.Task[Any]) -> None:
        if self._leaves is not None:
            self._leaves(partial(self._gone, task))
        elif self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._until_it_leaves(task), name="askonce-caller")

    async def _until_it_leaves(self, task: asyncio.Task[Any]) -> None:
        for _ in range(2):  # the first may be the body of a request that has none
            if (await self._receive())["type"] != "http.request":
                self._gone(task)
                return

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self.left = True
        task.cancel()

    async def end(self) -> None:
        """Stop watching."""
        self._waits = None
        if self._leaves is not None:
            self._leaves(None)
        if (watch := self._watch) is not None and not watch.done():
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


async def while_there(scope: Mapping[str, Any], receive: Receive, work: Awaitable[T]) -> T:
    """Do the work for a caller whose body has arrived; stop and raise Disconnected when it leaves."""
    caller = Caller(receive, scope.get(LEAVES))
    caller.sent_all = True
    try:
        return await caller.watched(work)
    except asyncio.CancelledError:
        if not caller.left:
            raise
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        raise Disconnected from None
    finally:
        await caller.end()


class TooLarge(Exception):
    """A body over the limit."""


class Misframed(Exception):
    """A body that is longer or shorter than its head says: under some servers, or behind what changes bodies."""


class Upload(wire.AsyncByteStream):
    """A body that is not held here: what has arrived of it, and then the rest as it arrives.

    `limit`, `length`: the bytes that it may have, and those that its head announces, if it does. `ended`: why it broke
    off, which whoever sends it reports as a failed call.
    """

    __slots__ = ("_caller", "_length", "_limit", "_parts", "_size", "ended")

    def __init__(self, caller: Caller, parts: list[bytes], limit: int, length: int | None) -> None:
        self.ended: Disconnected | TooLarge | Misframed | None = None
        self._caller = caller
        self._parts = parts
        self._size = sum(map(len, parts))
        self._limit = limit
        self._length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._check()
        while self._parts:
            yield self._parts.pop(0)
        while not self._caller.sent_all:
            if part := await self._next():
                yield part

    async def _next(self) -> bytes:
        try:
            part = await self._caller.part()
        except Disconnected as why:
            self.ended = why
            raise
        self._size += len(part)
        self._check()
        return part

    def _check(self) -> None:
        if self._size > self._limit:
            self.ended = TooLarge()
        elif self._length is not None and self._is_other_than(self._length):
            self.ended = Misframed()
        if self.ended is not None:
            raise self.ended

    def _is_other_than(self, length: int) -> bool:
        return self._size > length or (self._caller.sent_all and self._size < length)
