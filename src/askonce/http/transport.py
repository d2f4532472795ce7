"""The transports that http_client() puts into clients of httpx2 and httpx: one body for sync and async.

The body is `async def` and is finished by one ``send(None)`` in sync mode, as everywhere in askonce. It takes the
module as a value: both have the same requests, responses and errors by the same names.

What passes is handed on untouched, stream and all. What is a question goes to the engine. The leader is handed on the
inner transport's own response (http.received), and its errors are the leader's own to meet. For everybody else an
answer is rebuilt from what is stored or shared, and a failure is an error of the same name, of their own module, with
their own request. A caller with more patience than the leader does not get the leader's timeout, but asks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from askonce.core.keys import Key
from askonce.core.upstream import everybodys
from askonce.engine.batch import BatchEngine
from askonce.engine.question import Question
from askonce.engine.reader import UNREADABLE, Found, Unreadable
from askonce.errors import NotCached, StoreUnavailable
from askonce.events import Status, log
from askonce.flight.flight import Unshared, WaitTimedOut
from askonce.http.call import BatchCall, PartialCall, UpstreamCall, patience_for
from askonce.http.connection import DIRECTIONS, connection_of, directed
from askonce.http.embeddings import Vector, put_together, whole
from askonce.http.inner import INHERITED, Inner
from askonce.http.received import Received
from askonce.http.request import Connection, SentRequest, less_ours
from askonce.http.response import Failure, Response
from askonce.http.rules import Asked, ClientRules, our_error
from askonce.http.stored import Stored
from askonce.http.streaming import StreamCall
from askonce.stream.tape import Playback


class Transport:
    """What both transports are made of."""

    asynchronous = False

    def __init__(
        self,
        rules: ClientRules,
        engine: Callable[[], BatchEngine],
        module: Any,
        inner: Inner,
        given: Sequence[Any] = (),
    ) -> None:
        self.rules = rules
        self.module = module
        self.closed = False
        self._inner = inner
        self._engine = engine
        self._stored = Stored(rules.judges)
        self._given = given  # beside the inner transport: contexts, certificates
        self._connections: dict[str, Connection] = {}

    @property
    def inner(self) -> Any:
        """The inner transport of this process."""
        return self._inner.here()

    @inner.setter
    def inner(self, brought: Any) -> None:
        self._inner = Inner(brought)

    async def send(self, request: Any) -> Any:
        """The inner transport's response, untouched."""
        raise NotImplementedError

    def inherited(self, response: Any) -> bool:
        """Whether an answer came over a connection of a parent process, and so may be another process's."""
        if self._inner.inherited(response):
            self.rules.events.warn_once(
                INHERITED,
                "answers that come over connections of a parent process may be another process's: they are returned,"
                " and not stored; make a client that is given inner=, or another transport of yours, after the fork",
            )
            return True
        return False

    async def dispose(self, response: Any) -> None:
        """Close a response that nobody will read."""
        raise NotImplementedError

    async def read(self, received: Received) -> None:
        """Read a response to its end, if it is to be read by us, and close it upstream."""
        if received.readable(asynchronous=self.asynchronous):
            try:
                await self._drain(received.response.stream, received.parts)
            except Exception as error:  # noqa: BLE001 - the body's end, whatever it is: its reader gets it
                received.error = error
            received.keep()

    async def _drain(self, stream: Any, parts: list[bytes]) -> None:
        """All that a stream yields; closed in the end, whatever that is."""
        raise NotImplementedError

    async def handle(self, request: Any) -> Any:
        """The response to a request."""
        asked = self._read(request)
        if asked.ours:
            request = self._less_ours(request)
        if asked.question is None:
            return await self._passed(request, asked.reason)
        began = time.monotonic()
        asked.question.until = began + patience_for(request, "ReadTimeout")
        call = self._call(asked, request)
        if self._inner.suspect:
            self._only_stored(asked)
        try:
            if isinstance(call, BatchCall):
                return await self._asked_batch(call, asked.question.until)
            if isinstance(call, StreamCall):
                return await self._asked_stream(call)
            return await self._asked(call)
        except NotCached as missing:
            if asked.question.detail == INHERITED:
                return await self._suspected(request)
            reply = our_error(asked.operation, 504, "not_cached", str(missing))
        except StoreUnavailable as trouble:  # only of a strict cache: its calls must not go upstream uncounted
            return self._response(
                our_error(asked.operation, 503, "store_unavailable", str(trouble)),
                Status(asked.question.key.text, fwd="miss", detail=trouble.kind),
            )
        except WaitTimedOut:
            waited = time.monotonic() - began
            raise self.module.ReadTimeout(
                f"waited {waited:.1f} s for the same call of another caller", request=request
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered
            return await self._missed(call, request, error)
        return self._response(reply, Status(asked.question.key.text, fwd="miss", detail="only-if-cached"))

    async def _missed(self, call: UpstreamCall, request: Any, error: Exception) -> Any:
        """What a caller has instead of an answer that others may have too; raises what its module would raise."""
        paid = call.whose(error)
        if isinstance(error, Unshared) and (paid is None or not paid.entire):
            return await self._passed(request, error.detail)
        if paid is not None:
            assert call.asked.question is not None
            detail = error.detail if isinstance(error, Unshared) else "failed"
            return self._own(paid, Status(call.asked.question.key.text, fwd="miss", detail=detail))
        if isinstance(error, self.module.RequestError):
            raise error
        return await self._failed_safe(call, request, error)

    @staticmethod
    def _only_stored(asked: Asked) -> None:
        """Have a request answered from the store, or by a call that nobody else waits for."""
        assert asked.question is not None
        plan = asked.question.plan
        plan = replace(plan, control=replace(plan.control, only_if_cached=True))
        questions = asked.batch.questions.values() if asked.batch is not None else ()
        for question in (asked.question, *questions):
            question.plan, question.detail = plan, INHERITED

    async def _suspected(self, request: Any) -> Any:
        """A call over a connection that may be a parent's: for its caller alone; the next may be for others too."""
        response = await self.send(request)
        self.rules.met(request.headers.raw)
        self.inherited(response)
        return response

    def _call(self, asked: Asked, request: Any) -> UpstreamCall:
        assert asked.question is not None
        if asked.question.key.form == "s":
            return StreamCall(self, asked, request)
        return UpstreamCall(self, asked, request) if asked.batch is None else BatchCall(self, asked, request)

    def _read(self, request: Any) -> Asked:
        """What a request asks; one that we fail to read passes, less our headers if it has some."""
        try:
            return self.rules.read(self._sent(request))
        except Exception as error:  # noqa: BLE001 - as in _failed_safe
            return Asked(self._warned(error), ours=True)

    def _warned(self, error: Exception) -> str:
        """A failure of ours is told once; the word for it."""
        kind = type(error).__name__
        self.rules.events.warn_once(kind, "a call went upstream without the cache: %r", error)
        log.debug("askonce failed", exc_info=error)
        return kind

    def _sent(self, request: Any) -> SentRequest:
        scheme = request.url.scheme
        connection = self._connections.get(scheme)
        if connection is None:  # looked at when it is first used: a certificate may be loaded after a client is made
            connection = self._connections[scheme] = connection_of(self.inner, self._given, secure=scheme == "https")
        if not DIRECTIONS.isdisjoint(request.extensions):
            connection = directed(connection, request.extensions)
        return SentRequest(request.method, str(request.url), request.headers.raw, self._body(request), connection)

    def _body(self, request: Any) -> bytes | None:
        """The body, where it is at hand: a stream is its sender's, and is not read before upstream reads it."""
        found: bytes | None = request.read() if isinstance(request.stream, self.module.ByteStream) else None
        return found

    async def _passed(self, request: Any, reason: str) -> Any:
        self.rules.events.lookup(Status("", fwd="bypass", detail=reason))
        response: Any = None
        try:
            response = await self.send(request)
            self.rules.met(request.headers.raw)
        except BaseException:
            if response is not None:
                await self.dispose(response)
            raise
        return response

    async def _failed_safe(self, call: UpstreamCall, request: Any, error: Exception) -> Any:
        """Our own failure: the answer if it was paid for already, else the call without us. Never silent."""
        kind = self._warned(error)
        if call.received is not None or call.error is not None:
            return self._own(call, Status("", fwd="miss", detail=kind))
        return await self._passed(request, kind)

    async def _asked(self, call: UpstreamCall) -> Any:
        """Ask until the answer is one for this caller."""
        question = call.asked.question
        assert question is not None
        answered = partial(self._answered, call)
        while True:
            found = await self._engine().ask(question, call.paid)
            try:
                response = answered(found)
            except Unreadable:
                response = await self._engine().reread(question, call.paid, answered)
            if response is not None:
                return response
            question = again(question)

    def _answered(self, call: UpstreamCall, found: Found) -> Any:
        """What was found as a response; None if it is not for this caller."""
        if found.value is call:
            return self._own(call, found.status)
        if isinstance(found.value, Response):  # made of one in the other form
            return self._response(found.value, found.status)
        made = self._for_me(self._stored.answer(found), call)
        return None if made is None else self._response(made, found.status)

    async def _asked_stream(self, call: StreamCall) -> Any:
        """The same for a stream, which is this caller's from its headers on."""
        question = call.asked.question
        assert question is not None
        opened = partial(self._opened, call)
        while True:
            found = await self._engine().ask(question, call.opened)
            try:
                response = opened(found)
            except Unreadable:
                response = await self._engine().reread(question, call.opened, opened)
            if response is not None:
                return response
            question = again(question)

    def _opened(self, call: StreamCall, found: Found) -> Any:
        """`_answered` of a stream."""
        if found.value is call or found.status.stored:
            return self._own(call, found.status)
        if isinstance(found.value, Response):
            return self._response(found.value, found.status)
        assert isinstance(found.value, Playback)
        if (opening := call.own(found.value)) is not None:
            return opening.handed_on(found.status)
        assert call.asked.operation is not None
        made = self._for_me(self._stored.opening(found, call.asked.operation.api), call)
        return None if made is None else self._response(made, found.status, stream=call.out(found.value))

    def _own(self, call: UpstreamCall, status: Status) -> Any:
        """What this caller's own call brought."""
        if call.received is not None:
            return call.received.handed_on(status)
        assert call.error is not None
        raise call.error

    def _for_me(self, made: Response | Failure, call: UpstreamCall) -> Response | None:
        """What another's call brought, if it is for this caller too; raises what it was refused with."""
        if isinstance(made, Response):
            return made if not made.who or made.who == call.asked.who else None
        if made.patience is not None and patience_for(call.request, made.error) > made.patience:
            return None
        raise self._like(made, call.request)

    async def _asked_batch(self, call: BatchCall, until: float) -> Any:
        """Ask for all inputs until each has a vector for this caller."""
        got: dict[Key, tuple[Vector, Status]] = {}
        paid: PartialCall | None = None
        missing = list(call.batch.questions.values())
        for question in missing:
            question.until = until
        while missing:
            unread: dict[Key, Question] = {}
            for question, found in zip(missing, await self._engine().ask_many(missing, call.paid_for), strict=True):
                if isinstance(found.value, PartialCall) and found.value.of is call:
                    paid = found.value
                    if question.key not in paid.vectors:
                        return await self._unsplit(paid, found.status)
                    got[question.key] = paid.vectors[question.key], found.status
                    continue
                try:
                    made = self._for_me(self._stored.answer(found), call)
                except Unreadable:
                    unread[question.key] = self._engine().unread(question)
                    continue
                if made is not None and made.frame is None:
                    return self._response(made, found.status)
                if made is not None and made.frame is not None:
                    got[question.key] = Vector(made.body, made.frame, made.headers), found.status
            if any(question.unreadable and question.key in unread for question in missing):
                return await self._passed(call.request, UNREADABLE)  # somebody writes it again and again
            missing = [unread.get(one.key) or again(one) for one in missing if one.key not in got]
        return self._joined(call, got, paid)

    async def _unsplit(self, part: PartialCall, status: Status) -> Any:
        """The call for some inputs failed, perhaps for being some: the whole is asked as it came, and not cached."""
        if part.whole or part.reply is None or everybodys(part.reply.status):
            return self._own(part, status)
        return await self._passed(part.request, "unsplit")

    def _joined(self, call: BatchCall, got: dict[Key, tuple[Vector, Status]], paid: PartialCall | None) -> Any:
        """One answer of many vectors: upstream's own bytes where it was one answer, or once was."""
        vectors = [got[key][0] for key in call.batch.places]
        status = joint([status for _, status in got.values()])
        if paid is None or paid.reply is None:
            reply = Response(200, vectors[0].headers, whole(vectors) or put_together(vectors, None))
            return self._response(reply, status)
        if paid.whole and len(paid.vectors) == len(vectors):
            return self._own(paid, status)
        frame = next(iter(paid.vectors.values())).frame
        assert paid.received is not None
        reply = paid.reply._replace(body=put_together(vectors, frame))
        return self._response(reply, status, extensions=paid.received.response.extensions)

    def _like(self, failure: Failure, request: Any) -> Exception:
        """The module's own error of this name, for this request."""
        kind = getattr(self.module, failure.error, self.module.TransportError)
        made: Exception = kind(failure.message, request=request)
        return made

    def _response(
        self, reply: Response, status: Status, stream: Any = None, extensions: dict[str, Any] | None = None
    ) -> Any:
        """A response with the reply's body, or with `stream` in its place."""
        headers = [*reply.headers]
        if stream is None:
            # A stream, and not content=: so the client notes the time it took, and no header is added to ours.
            stream = self.module.ByteStream(reply.body)
            headers.append((b"content-length", b"%d" % len(reply.body)))
        headers.append((b"cache-status", str(status).encode()))
        if status.age is not None or reply.age:
            # A hit's own age counts from where upstream's did; who waited for a flight knows no other than upstream's.
            headers.append((b"age", b"%d" % max(status.age or 0, reply.age)))
        return self.module.Response(reply.status, headers=headers, stream=stream, extensions=extensions)

    def _less_ours(self, request: Any) -> Any:
        """The same request without our headers; its body is at hand for transports behind ours if it was for us."""
        made = self.module.Request(
            request.method,
            request.url,
            headers=less_ours(request.headers.raw),
            stream=request.stream,
            extensions=request.extensions,
        )
        if isinstance(request.stream, self.module.ByteStream):
            made.read()
        return made


def again(question: Question) -> Question:
    """The same question, as if nothing had been seen of it."""
    return replace(question, detail="", data=b"", held=None)


def joint(parts: list[Status]) -> Status:
    """How the lookups of a batch ended, in one line; the status of each is in the events."""
    hits = sum(part.hit for part in parts)
    if len(parts) == 1:
        return parts[0]
    ages = [part.age for part in parts if part.age is not None]
    left = [part.ttl for part in parts if part.ttl is not None]
    return Status(
        "",
        hit=hits == len(parts),
        fwd="" if hits == len(parts) else "miss",
        stored=any(part.stored for part in parts),
        collapsed=any(part.collapsed for part in parts),
        ttl=min(left, default=None),
        detail=f"hits-{hits}-of-{len(parts)}",
        age=max(ages, default=None),
    )
