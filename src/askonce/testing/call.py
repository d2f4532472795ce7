"""A provider without a network: a callable with a script, for ``fetch(request, call)`` and ``get_or_set(call_fn=)``.

One object serves threads and tasks: a plain call blocks its thread, `aio` suspends its task. `on` and `aio_on` return
the closure without arguments that programs in the style of tutorials have. `stream` and `aio_stream` yield the events
of a streamed answer, for ``fetch_stream(request, call.stream)``.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from askonce.errors import Portable
from askonce.testing import checks
from askonce.testing.answers import Protocol, error, protocol_of, question_of
from askonce.testing.script import Delay, Receipts, Scripted, Turn


class UpstreamError(Portable):
    """Raised by a `ScriptedCall` for an HTTP status of 400 or more; `status` (a number) and `body` are its."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"the scripted provider answered {status}")
        self.status = status
        self.body = body


class ScriptedCall(Scripted):
    """A paid call in this process: ``call(request)`` or ``await call.aio(request)``.

    `delay`: seconds, or a function of the question and the number of its call (`Lognormal`). `pace`: seconds between
    two events of a stream. `protocol`: the shape of answers, guessed from the request if None. `receipts`: a file in
    which several processes count together (None: this process counts).
    """

    def __init__(
        self,
        *,
        delay: Delay = 0.0,
        pace: float = 0.0,
        receipts: Receipts | Path | str | None = None,
        protocol: Protocol | None = None,
    ) -> None:
        super().__init__(delay=delay, pace=pace, receipts=receipts)
        if protocol is not None:
            checks.word("protocol", protocol, checks.PROTOCOLS)
        self.protocol = protocol

    def __call__(self, request: Any) -> Any:
        """Pay for a request in this thread; raises `UpstreamError`, or what the script says."""
        turn = self._begin(question_of(request))
        try:
            if turn.gate is not None:
                turn.gate.result()
            time.sleep(turn.seconds)
            return self._play(request, turn)
        finally:
            self._end(turn)

    async def aio(self, request: Any) -> Any:
        """Pay for a request in this task; raises `UpstreamError`, or what the script says."""
        turn = self._begin(question_of(request))
        try:
            if turn.gate is not None:
                await asyncio.wrap_future(turn.gate)
            await asyncio.sleep(turn.seconds)
            return self._play(request, turn)
        finally:
            self._end(turn)

    def stream(self, request: Any) -> Iterator[Any]:
        """Pay for a request in this thread and yield the events of its stream; raises as a plain call does.

        The call begins with the first event that is asked for, as a generator does.
        """
        turn = self._begin(question_of(request))
        try:
            for sent, event in enumerate(self._events(request, turn)):
                if turn.gate is not None and sent == turn.step.after:
                    turn.gate.result()
                time.sleep(turn.pace if sent else turn.seconds)
                yield _raised(event)
        finally:
            self._end(turn)

    async def aio_stream(self, request: Any) -> AsyncIterator[Any]:
        """Pay for a request in this task and yield the events of its stream; raises as a plain call does."""
        turn = self._begin(question_of(request))
        try:
            for sent, event in enumerate(self._events(request, turn)):
                if turn.gate is not None and sent == turn.step.after:
                    await asyncio.wrap_future(turn.gate)
                await asyncio.sleep(turn.pace if sent else turn.seconds)
                yield _raised(event)
        finally:
            self._end(turn)

    def on(self, request: Any) -> Callable[[], Any]:
        """The call of one request, as a function without arguments."""
        return functools.partial(self, request)

    def aio_on(self, request: Any) -> Callable[[], Awaitable[Any]]:
        """The call of one request, as a coroutine function without arguments."""

        async def call() -> Any:
            return await self.aio(request)

        return call

    def _events(self, request: Any, turn: Turn) -> list[Any]:
        """What a stream yields, and at its end the exception that it raises, if any."""
        played, protocol = turn.step, self.protocol or protocol_of(request)
        sent = turn.events(request, protocol)
        if played.error is not None:
            return [*sent[: played.after], played.error]
        if played.status >= 400:
            return [*sent[: played.after], UpstreamError(played.status, error(played.status, protocol))]
        return sent

    def _play(self, request: Any, turn: Turn) -> Any:
        played, protocol = turn.step, self.protocol or protocol_of(request)
        if played.error is not None:
            raise played.error
        if played.status >= 400:
            raise UpstreamError(played.status, played.body or error(played.status, protocol))
        return turn.body(request, protocol)


def _raised(event: Any) -> Any:
    """An event, or the exception in its place, which is raised."""
    if isinstance(event, BaseException) or (isinstance(event, type) and issubclass(event, BaseException)):
        raise event
    return event
