"""Streamed answers over HTTP: a response on its way in is a Source, a place on a tape is a response on its way out.

Whatever a streamed question brings is a tape: META is the reply's head (http.reply), DATA its body, decoded, in the
pieces in which it came. An answer of upstream's is opened as soon as its headers are here, and is judged by its bytes;
what is no answer (an error status, a failure) is a tape of one piece, shared with those who waited and never stored.

How a reader's stream ends is what his own module would have said. Its end is upstream's end. An error of upstream's is
raised as it is to who paid for the call, and to everybody else as the error of that name of his own module. A stream
that was followed from a process that died is cut, RemoteProtocolError: no SDK may take it for a whole one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from askonce.core.scan import Judge, read, scan_for
from askonce.core.tape import META, data_frame, frame
from askonce.drive import drive
from askonce.http.errand import Carrier, Errand, patience_for
from askonce.http.exchange import Asked
from askonce.http.reply import LENGTH, Reply, pack
from askonce.pilot import Answer
from askonce.tape import Cut, Opened, Playback, Scan


class StreamCarrier(Carrier, Protocol):
    """What an errand for a stream needs of its transport."""

    asynchronous: bool

    async def send(self, request: Any) -> Any:
        """The inner transport's response, untouched."""
        ...

    async def read(self, response: Any) -> None:
        """Read an inner response to its end, and close it."""
        ...


class StreamErrand(Errand):
    """A request for a stream: what its call brings is handed on from its headers on."""

    def __init__(self, carrier: StreamCarrier, asked: Asked, request: Any) -> None:
        super().__init__(carrier, asked, request)
        self.head: Reply | None = None  # of a stream that was opened
        self._by = carrier
        self._body: Body | None = None
        self._meta: bytes | None = None

    async def opened(self) -> Answer | Opened:
        """Make the call; what is no answer is read first."""
        failed = await self._sent(self.request)
        if failed is not None or self._body is None:
            return taped(failed or self._by.exchange.answer(self.asked, self._got, self))
        self.head, self.reply = self._got, None  # from here on the answer is not ours to give a second time
        self._meta = pack(self.head, stored=True)[LENGTH:]
        return Opened(self._meta, self._body, self._scan(self.head))

    async def _bring(self, request: Any) -> tuple[Any, bytes]:
        response = await self._by.send(request)
        if response.status_code == 200:
            self._body = Body(response, asynchronous=self._by.asynchronous)
            return response, b""
        await self._by.read(response)
        return response, response.content

    def _scan(self, head: Reply) -> Scan:
        """Judges the answer by its bytes; and by `store_if`, if there is one."""
        question, operation, events = self.asked.question, self.asked.operation, self._by.exchange.events
        assert question is not None
        assert operation is not None
        plan = question.plan
        content_type = next((value.decode("latin-1") for name, value in head.headers if name.lower() == _TYPE), "")
        judge = scan_for(operation.protocol, plan.terms.tool_calls, content_type)
        if plan.store_if is None:
            return judge
        return Wanted(judge, content_type, lambda value: plan.unwanted(value, events))

    def out(self, playback: Playback) -> Any:
        """What the caller's response reads: his own call is under upstream's timeouts, any other under his."""
        module = self._by.module
        mine = self.pays(playback)
        patience = math.inf if mine else patience_for(self.request, "ReadTimeout")
        return _out(module, asynchronous=self._by.asynchronous)(playback, module, self.request, patience, mine=mine)

    def pays(self, playback: Playback) -> bool:
        """Whether it is the stream that this very request opened."""
        return self._meta is not None and playback.meta is self._meta


_TYPE = b"content-type"


def taped(answer: Answer) -> Answer:
    """An answer that is no stream, as a tape: its packed reply taken apart."""
    packed = answer.body or b""
    start = LENGTH + int.from_bytes(packed[:LENGTH], "big")
    log = frame(META, packed[LENGTH:start]) + (data_frame(0, packed[start:]) if packed[start:] else b"")
    return answer._replace(body=log)


class Body:
    """The body of an inner response as a Source, its content-encoding undone."""

    def __init__(self, response: Any, *, asynchronous: bool) -> None:
        self._response = response
        self._asynchronous = asynchronous
        encoded = "content-encoding" in response.headers
        if asynchronous:
            self._parts: Any = response.aiter_bytes() if encoded else aiter(response.stream)
        else:
            self._parts = response.iter_bytes() if encoded else iter(response.stream)

    async def next(self) -> bytes | None:
        """The next bytes as they arrive; raises what the inner transport raises."""
        try:
            found: bytes = await self._parts.__anext__() if self._asynchronous else next(self._parts)
        except (StopIteration, StopAsyncIteration):
            return None
        return found

    async def close(self) -> None:
        """Give its connection back if it was read to its end, else close it."""
        if not self._asynchronous:
            self._response.close()
            return
        with contextlib.suppress(RuntimeError):  # it is being read by a task that was told to stop
            await self._parts.aclose()
        await self._response.aclose()


class Wanted:
    """A judge and `store_if` after it, which is given the JSON of the events: what a streamed answer consists of."""

    def __init__(self, judge: Judge, content_type: str, unwanted: Callable[[object], str]) -> None:
        self.whole = judge.whole
        self.usage = judge.usage
        self._judge = judge
        self._content_type = content_type
        self._unwanted = unwanted
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """More bytes."""
        self._judge.feed(data)
        self._parts.append(data)

    def verdict(self) -> str:
        """The judge's word, and then the user's."""
        return self._judge.verdict() or self._unwanted(read(b"".join(self._parts), self._content_type).values)


class Out:
    """What a response reads its body from: a place on a tape. `mine`: this very request pays for it."""

    def __init__(self, playback: Playback, module: Any, request: Any, patience: float, *, mine: bool) -> None:
        self.playback = playback
        self._module = module
        self._request = request
        self.patience = patience
        self._mine = mine

    def told(self, error: Exception) -> Exception:
        """An error as this reader's own module would have raised it."""
        module = self._module
        if isinstance(error, TimeoutError) and error is not self.playback.tape.error:
            kind = module.ReadTimeout
        elif isinstance(error, Cut):
            kind = module.RemoteProtocolError
        else:
            kind = error if self._mine else getattr(module, type(error).__name__, error)
        if not (isinstance(kind, type) and issubclass(kind, module.RequestError)):
            return error
        made: Exception = kind(str(error), request=self._request)
        return made


class OutBlocking(Out):
    """For a sync client."""

    def __iter__(self) -> Iterator[bytes]:
        """The parts, as they come."""
        playback, patience = self.playback, self.patience
        try:
            while (part := drive(playback.next(patience))) is not None:
                yield part[1]
        except Exception as error:
            if (made := self.told(error)) is error:
                raise
            raise made from error

    def close(self) -> None:
        """Leave."""
        drive(self.playback.close())


class OutSuspending(Out):
    """For an async client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The parts, as they come."""
        playback, patience = self.playback, self.patience
        try:
            while (part := await playback.next(patience)) is not None:
                yield part[1]
        except Exception as error:
            if (made := self.told(error)) is error:
                raise
            raise made from error

    async def aclose(self) -> None:
        """Leave."""
        await self.playback.close()


@lru_cache(maxsize=8)
def _out(module: Any, *, asynchronous: bool) -> Any:
    """Our stream as one of this module, which asks by isinstance."""
    ours, theirs = (OutSuspending, module.AsyncByteStream) if asynchronous else (OutBlocking, module.SyncByteStream)
    return type("AskonceStream", (ours, theirs), {})
