"""Streamed answers over HTTP: an incoming response is a Source, an outgoing response is a place on a tape.

A streamed question always brings a tape: META is the reply's head (http.response), DATA its decoded body, in the pieces
in which it came. An upstream answer is opened when its headers arrive, and judged by its bytes. An error status or a
failure is no answer: it becomes a tape of one piece, shared with followers and never stored.

The caller that pays gets upstream's own response (http.received), reads its raw pieces, and decodes them in its own
client. All others read the tape. A body that cannot be decoded is only for that caller, whose client reports the error;
the others get the same error.

A reader's stream ends as its own module would end it. It ends where upstream ends. The caller that pays gets upstream's
error as it is; every other reader gets the error of that name of its own module. A stream followed from a process that
died is cut with RemoteProtocolError, so that no SDK takes it for whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from askonce.core.judge import Verdicts
from askonce.core.tape import META, data_frame, frame
from askonce.engine.answer import Answer
from askonce.http.body import Body, Encoded
from askonce.http.call import Sender, UpstreamCall, patience_for
from askonce.http.closing import ClientCaller
from askonce.http.received import Received, subclass
from askonce.http.response import LENGTH, Response, pack
from askonce.http.rules import Asked
from askonce.runtime.drive import drive
from askonce.stream.tape import Cut, Opened, Playback, Raw, Scan


class StreamSender(Sender, Protocol):
    """What a call for a stream needs of its transport."""

    asynchronous: bool


class StreamCall(UpstreamCall):
    """A request for a stream; its caller gets the response when its headers arrive."""

    def __init__(self, sender: StreamSender, asked: Asked, request: Any) -> None:
        super().__init__(sender, asked, request)
        self.opening: Received | None = None  # of an opened stream
        self._by = sender
        self._body: Body | None = None
        self._meta: bytes | None = None
        self._reads = False

    async def opened(self) -> Answer | Opened:
        """Make the call; a reply that is no answer is read to its end first."""
        try:
            return await self._opened()
        except BaseException:
            if self._body is not None:
                await self._body.close()
            raise

    async def _opened(self) -> Answer | Opened:
        failed = await self._sent(self.request)
        if failed is not None:
            return taped(failed)
        head = self._response
        if self._body is None:
            return taped(self._by.rules.answer(self.asked, head, self, self._verdict(head)))
        # From here on the answer cannot be given a second time.
        self.opening, self.received, self.reply = self.received, None, None
        self._meta = pack(head, stored=True)[LENGTH:]
        return Opened(self._meta, self._body, self._scan(head))

    async def _decoded_body(self, received: Received) -> bytes:
        self._body = None
        if received.response.status_code != 200 or not received.readable(asynchronous=self._by.asynchronous):
            return await super()._decoded_body(received)
        kind = Encoded if received.encodings else Body
        self._body = kind(received, self._by.module, asynchronous=self._by.asynchronous)
        return b""

    def _verdict(self, reply: Response) -> Verdicts | None:
        """The verdict on a stream that is complete, and its bills; None for what is no stream."""
        if reply.status != 200:
            return None
        scan = self._scan(reply)
        scan.feed(reply.body)
        return scan.verdict(time.time()), tuple(scan.bills())

    def _scan(self, head: Response) -> Scan:
        content_type = next((text.decode("latin-1") for name, text in head.headers if name.lower() == _TYPE), "")
        return self._by.rules.judge(self.asked, head.headers).stream(content_type)

    def own(self, playback: Playback) -> Received | None:
        """The response whose stream this request opened, read from this place on its tape."""
        if self._meta is None or playback.meta is not self._meta or self.opening is None:
            return None
        self.opening.replaced = self.out(playback, mine=True)
        self._reads = True
        return self.opening

    def answered(self) -> None:
        """Unless its caller reads the stream that it opened: then it has not left before it closes that."""
        if not self._reads:
            super().answered()

    def out(self, playback: Playback, *, mine: bool = False) -> Any:
        """What the caller's response reads: upstream's timeouts apply to its own call, the caller's to any other."""
        module = self._by.module
        patience = math.inf if mine else patience_for(self.request, "ReadTimeout")
        body = self._body if mine else None
        if self._by.asynchronous:
            kind = subclass("AskonceStream", OutSuspending, module.AsyncByteStream)
        else:
            kind = subclass("AskonceStream", OutBlocking, module.SyncByteStream)
        return kind(playback, module, self.request, patience, body, self.caller if mine else None)


_TYPE = b"content-type"


def taped(answer: Answer) -> Answer:
    """A reply that is no stream, as a tape: its packed bytes, taken apart."""
    packed = answer.body or b""
    start = LENGTH + int.from_bytes(packed[:LENGTH], "big")
    log = frame(META, packed[LENGTH:start]) + (data_frame(0, packed[start:]) if packed[start:] else b"")
    return answer._replace(body=log)


class Out:
    """A place on a tape, from which a response reads its body.

    `caller`: of the request that pays for it, if that reads here; then `body` brings the tape's parts.
    """

    def __init__(
        self,
        playback: Playback,
        module: Any,
        request: Any,
        patience: float,
        body: Body | None,
        caller: ClientCaller | None,
    ) -> None:
        self.playback = playback
        self.patience = patience
        self._module = module
        self._request = request
        self._body = body
        self._raw = body.raw if body is not None else None
        self._caller = caller

    def left(self) -> Iterator[bytes]:
        """The raw pieces that came since, if these are read."""
        while self._raw:
            yield self._raw.popleft()

    def leave(self) -> None:
        """Its reader leaves: stop the raw pieces, which nobody reads any more."""
        if self._body is not None:
            self._body.raw = None
        if self._caller is not None:
            self._caller.awaits = False

    def told(self, error: Exception) -> Exception:
        """An error as this reader's own module would raise it."""
        module = self._module
        if isinstance(error, TimeoutError) and error is not self.playback.tape.error:
            kind = module.ReadTimeout
        elif isinstance(error, Cut):
            kind = module.RemoteProtocolError
        else:
            kind = error if self._caller is not None else getattr(module, type(error).__name__, error)
        if not (isinstance(kind, type) and issubclass(kind, module.RequestError)):
            return error
        made: Exception = kind(str(error), request=self._request)
        return made


class OutBlocking(Out):
    """For a sync client."""

    def __iter__(self) -> Iterator[bytes]:
        playback, patience, raw = self.playback, self.patience, self._raw is not None
        try:
            while (part := playback.ready() or drive(playback.next(patience))) is not None:
                if raw:
                    yield from self.left()
                elif type(data := part[1]) is Raw:
                    raise wrong(data)
                else:
                    yield data
            yield from self.left()
        except Exception as error:
            yield from self.left()
            if (made := self.told(error)) is error:
                raise
            raise made from error

    def close(self) -> None:
        """Leave the tape."""
        self.leave()
        drive(self.playback.close())


class OutSuspending(Out):
    """For an async client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        playback, patience, raw = self.playback, self.patience, self._raw is not None
        try:
            while (part := await playback.next(patience)) is not None:
                if raw:
                    for piece in self.left():
                        yield piece
                elif type(data := part[1]) is Raw:
                    raise wrong(data)
                else:
                    yield data
            for piece in self.left():
                yield piece
        except Exception as error:
            for piece in self.left():
                yield piece
            if (made := self.told(error)) is error:
                raise
            raise made from error

    async def aclose(self) -> None:
        """Leave the tape."""
        self.leave()
        await self.playback.close()


def wrong(part: Raw) -> Exception:
    """The error for a part that has no decoded bytes."""
    assert isinstance(part.value, Exception)
    return part.value
