"""The transports that http_client() puts into clients of httpx2 and httpx: one body for sync and async.

The body is `async def`; sync mode finishes it with one ``send(None)``, as everywhere in askonce. The module is a value:
both modules have requests, responses and errors with the same names.

A request that passes is handed on untouched, with its stream. A question goes to the engine. The leader gets the inner
transport's own response (http.received) and its errors. For every other caller, an answer is rebuilt from what is
stored or shared, and a failure is the error of that name of its own module, with its own request. A caller with a
longer timeout than the leader's asks again instead of getting the leader's timeout.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from askonce.core.keys import Key
from askonce.core.upstream import everybodys
from askonce.engine.batch import BatchEngine
from askonce.engine.leader import Call
from askonce.engine.question import Question
from askonce.engine.reader import UNREADABLE, Found, Unreadable
from askonce.errors import NotCached, StoreUnavailable, not_cached
from askonce.events import Status, log
from askonce.flight.flight import Unshared, WaitTimedOut
from askonce.http.batch_status import joint
from askonce.http.buffered import buffered
from askonce.http.call import BatchCall, PartialCall, UpstreamCall, patience_for
from askonce.http.closing import ClientEnd
from askonce.http.connection import DIRECTIONS, connection_of, directed
from askonce.http.embeddings import Vector, put_together, whole
from askonce.http.inner import INHERITED, Inner
from askonce.http.received import Received
from askonce.http.request import Connection, SentRequest, without_ours
from askonce.http.response import Failure, Response
from askonce.http.rules import Asked, ClientRules, our_error
from askonce.http.stored import Stored
from askonce.http.streaming import StreamCall
from askonce.stream.tape import Playback


class Transport:
    """The common part of both transports."""

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
        self.end = ClientEnd()
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
        """The inner transport's response, unchanged."""
        raise NotImplementedError

    def inherited(self, response: Any) -> bool:
        """Whether the answer came over a parent process's connection, and may belong to another process."""
        if self._inner.inherited(response):
            self.rules.events.warn_once(
                INHERITED,
                "an answer over a connection opened before a fork may belong to another process: it is returned and not"
                " stored; make a client with inner= or another transport of yours after the fork",
            )
            return True
        return False

    async def dispose(self, response: Any) -> None:
        """Close a response that nobody will read."""
        raise NotImplementedError

    async def read(self, received: Received) -> None:
        """Read a response to its end, unless its client reads it, and close it upstream."""
        if received.readable(asynchronous=self.asynchronous):
            try:
                await self._drain(received.response.stream, received.parts)
            except Exception as error:  # noqa: BLE001 - the body's end, whatever it is: its reader gets it
                received.error = error
            received.keep()

    async def _drain(self, stream: Any, parts: list[bytes]) -> None:
        """All that a stream yields; it is closed even after an error."""
        raise NotImplementedError

    async def handle(self, request: Any) -> Any:
        """The response to a request."""
        asked = self._read(request)
        if asked.ours:
            request = self._without_ours(request)
        if asked.question is None:
            if asked.reply is not None:
                return self._known_reply(asked, asked.reply)
            return self._withheld(asked) if asked.stays else await self._passed(request, asked.reason, asked)
        began = time.monotonic()
        call = self._call(asked, request)
        call.wait_until(began + patience_for(request, "ReadTimeout"))
        asked.stays = asked.question.control.only_if_cached
        if self._inner.suspect and not asked.stays:
            self._only_stored(asked)
        try:
            return await self._found(call)
        except NotCached as missing:
            if not asked.stays:
                return await self._suspected(request)
            return self._not_cached(asked, Status(missing.key, fwd="miss", detail=missing.detail))
        except StoreUnavailable as trouble:  # only a strict cache raises it: its calls must not go upstream uncounted
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
        finally:
            call.answered()

    def _found(self, call: UpstreamCall) -> Awaitable[Any]:
        """The response to a question."""
        if isinstance(call, BatchCall):
            return self._asked_batch(call)
        if isinstance(call, StreamCall):
            return self._asked(call, call.opened, partial(self._opened, call))
        return self._asked(call, call.paid, partial(self._answered, call))

    async def _missed(self, call: UpstreamCall, request: Any, error: Exception) -> Any:
        """What a caller gets when no answer may be shared with it; raises what its module would raise."""
        paid = call.whose(error)
        if isinstance(error, Unshared) and (paid is None or not paid.entire):
            return await self._passed(request, error.detail)
        if paid is not None:
            assert call.asked.question is not None
            detail = error.detail if isinstance(error, Unshared) else "failed"
            return self._own(paid, Status(call.asked.question.key.text, fwd="miss", detail=detail))
        if isinstance(error, self.module.RequestError):
            raise error
        if (refused := call.refused(error)) is not None:
            raise refused
        return await self._failed_safe(call, request, error)

    @staticmethod
    def _only_stored(asked: Asked) -> None:
        """Answer a request from the store, or by a call that nobody else waits for."""
        assert asked.question is not None
        plan = asked.question.plan
        plan = replace(plan, control=plan.control._replace(only_if_cached=True))
        questions = asked.batch.questions.values() if asked.batch is not None else ()
        for question in (asked.question, *questions):
            question.plan, question.detail = plan, INHERITED

    async def _suspected(self, request: Any) -> Any:
        """A call over a connection that may be a parent's: only for its caller; the next may be for others too."""
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
        """What a request asks; a request that cannot be read passes, without askonce's headers."""
        try:
            return self.rules.read(self._sent(request))
        except Exception as error:  # noqa: BLE001 - as in _failed_safe
            return Asked(self._warned(error), ours=True, stays=self.rules.only_stored({}))

    def _warned(self, error: Exception) -> str:
        """Warn of an internal failure, once for each kind; returns its word."""
        kind = type(error).__name__
        self.rules.events.warn_once(kind, "a call went upstream without the cache: %r", error)
        log.debug("askonce failed", exc_info=error)
        return kind

    def _sent(self, request: Any) -> SentRequest:
        scheme = request.url.scheme
        connection = self._connections.get(scheme)
        if connection is None:  # at first use, because a certificate may be loaded after the client is made
            connection = self._connections[scheme] = connection_of(self.inner, self._given, secure=scheme == "https")
        if not DIRECTIONS.isdisjoint(request.extensions):
            connection = directed(connection, request.extensions)
        return SentRequest(request.method, str(request.url), request.headers.raw, self._body(request), connection)

    def _body(self, request: Any) -> bytes | None:
        """The body, if it is in memory; a stream belongs to its sender and is read only by upstream."""
        # Not request.read(): that is what the request was made with, and a hook may have put another body in its place.
        return b"".join(request.stream) if isinstance(request.stream, self.module.ByteStream) else None

    async def _passed(self, request: Any, reason: str, asked: Asked | None = None) -> Any:
        self._engine().bypassed(reason)
        self.rules.events.lookup(Status("", fwd="bypass", detail=reason), asked)
        response: Any = None
        try:
            response = await self.send(request)
            self.rules.met(request.headers.raw)
        except BaseException:
            if response is not None:
                await self.dispose(response)
            raise
        return response

    def _known_reply(self, asked: Asked, reply: Response) -> Any:
        """An answer that is known without a lookup."""
        status = Status("", fwd="bypass", detail=asked.reason)
        self.rules.events.lookup(status, asked)
        return self._response(reply, status)

    def _withheld(self, asked: Asked) -> Any:
        """A request that is not looked up, and whose sender takes only what is stored."""
        status = Status("", fwd="miss", detail=asked.reason)
        self.rules.events.lookup(status, asked)
        return self._not_cached(asked, status)

    def _not_cached(self, asked: Asked, status: Status) -> Any:
        return self._response(our_error(asked.operation, 504, "not_cached", not_cached(status.detail)), status)

    async def _failed_safe(self, call: UpstreamCall, request: Any, error: Exception) -> Any:
        """After an internal failure: the answer if it is paid, else the call without askonce; always with a warning."""
        kind = self._warned(error)
        if call.received is not None or call.error is not None:
            return self._own(call, Status("", fwd="miss", detail=kind))
        if call.asked.stays:
            call.asked.reason = kind
            return self._withheld(call.asked)
        return await self._passed(request, kind)

    async def _asked(self, call: UpstreamCall, pay: Call, answered: Callable[[Found], Any]) -> Any:
        """Ask until there is an answer for this caller. `answered`: what was found as a response, None if it is not."""
        question = call.asked.question
        assert question is not None
        while True:
            engine = self.end.engine = self._engine()
            found = await engine.ask(question, pay)
            try:
                response = answered(found)
            except Unreadable:
                self.rules.describe(call.asked)
                response = await self._engine().reread(question, pay, answered)
            if response is not None:
                return response
            question = call.asked.question = self._again(question)

    def _again(self, question: Question) -> Question:
        """The same question, as if nothing of it was seen yet: what another caller's call brought was not for it."""
        self._engine().accounting.unjoined(question)
        return question.again()

    def _answered(self, call: UpstreamCall, found: Found) -> Any:
        """What was found, as a response; None if it is not for this caller."""
        if found.value is call:
            return self._own(call, found.status)
        if isinstance(found.value, Response):  # converted from the other form
            return self._response(found.value, found.status)
        made = self._for_me(self._stored.answer(found), call)
        return None if made is None else self._response(made, found.status)

    def _opened(self, call: StreamCall, found: Found) -> Any:
        """Like _answered, for a stream, which belongs to this caller once its headers arrive."""
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
        if call.received is not None:
            return call.received.handed_on(status)
        assert call.error is not None
        raise call.error

    def _for_me(self, made: Response | Failure, call: UpstreamCall) -> Response | None:
        """What another caller's call brought, if it suits this one too; raises the reason of a refusal."""
        if isinstance(made, Response):
            return made if not made.who or made.who == call.asked.who else None
        if made.patience is not None and patience_for(call.request, made.error) > made.patience:
            return None
        raise self._error_like(made, call.request)

    async def _asked_batch(self, call: BatchCall) -> Any:
        """Ask for all inputs until each has a vector for this caller."""
        got: dict[Key, tuple[Vector, Status]] = {}
        paid: PartialCall | None = None
        missing = list(call.batch.questions.values())
        while missing:
            unread: dict[Key, Question] = {}
            engine = self.end.engine = self._engine()
            for question, found in zip(missing, await engine.ask_many(missing, call.paid_for), strict=True):
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
                    if len(call.batch.places) > 1 and not everybodys(made.status):  # it answers one input alone
                        return await self._passed(call.request, "unsplit")
                    return self._response(made, found.status)
                if made is not None and made.frame is not None:
                    got[question.key] = Vector(made.body, made.frame, made.headers), found.status
            if any(question.unreadable and question.key in unread for question in missing):
                return await self._passed(call.request, UNREADABLE)  # another process keeps writing it
            missing = [unread.get(one.key) or self._again(one) for one in missing if one.key not in got]
        return self._joined(call, got, paid)

    async def _unsplit(self, part: PartialCall, status: Status) -> Any:
        """After a call for some inputs failed, perhaps because of the split: the whole request as it came, uncached."""
        if part.whole or part.reply is None or everybodys(part.reply.status):
            return self._own(part, status)
        return await self._passed(part.request, "unsplit")

    def _joined(self, call: BatchCall, got: dict[Key, tuple[Vector, Status]], paid: PartialCall | None) -> Any:
        """One answer of many vectors: upstream's own bytes if it was one answer."""
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

    def _error_like(self, failure: Failure, request: Any) -> Exception:
        """The module's own error of this name, for this request."""
        kind = getattr(self.module, failure.error, self.module.TransportError)
        made: Exception = kind(failure.message, request=request)
        return made

    def _response(
        self, reply: Response, status: Status, stream: Any = None, extensions: dict[str, Any] | None = None
    ) -> Any:
        """A response with the reply's body, or with `stream` instead."""
        headers = [*reply.headers]
        if stream is None:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        headers.append((b"cache-status", str(status).encode()))
        if status.age is not None or reply.age:
            # The age of a hit continues upstream's Age; a follower of a flight has only upstream's.
            headers.append((b"age", b"%d" % max(status.age or 0, reply.age)))
        if stream is None:
            return buffered(self.module, reply.status, headers, reply.body, extensions)
        return self.module.Response(reply.status, headers=headers, stream=stream, extensions=extensions)

    def _without_ours(self, request: Any) -> Any:
        """The same request without askonce's headers, and with its body in memory if it was for askonce."""
        made = self.module.Request(
            request.method,
            request.url,
            headers=without_ours(request.headers.raw),
            stream=request.stream,
            extensions=request.extensions,
        )
        if isinstance(request.stream, self.module.ByteStream):
            made.read()
        return made
