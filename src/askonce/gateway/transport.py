"""The gateway's transport: the third one beside those of httpx2 and httpx, with all their rules, streams and forms.

What http.transport decides is decided there. This class brings the gateway's own requests, its calls upstream, and
answers that are written to a caller without another reading.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from askonce.core.model import entry_body
from askonce.engine.batch import BatchEngine
from askonce.engine.reader import AtHand, Found, Unreadable
from askonce.events import Status
from askonce.gateway import wire
from askonce.gateway.answers import packed
from askonce.gateway.gateway_rules import GatewayRules, HeadPlan
from askonce.gateway.heads import without_ours
from askonce.gateway.hit_usage import WithoutUsage, without_usage
from askonce.gateway.operator_rules import Ruling
from askonce.gateway.upstream_client import Incoming, UpstreamClient
from askonce.http.call import BatchCall, UpstreamCall
from askonce.http.credentials import Header
from askonce.http.inner import Inner
from askonce.http.received import read_out
from askonce.http.request import Connection, SentRequest
from askonce.http.response import Response
from askonce.http.rules import Asked
from askonce.http.streaming import StreamCall
from askonce.http.transport import Transport
from askonce.stream.tape import Playback

Answer: TypeAlias = wire.Response | wire.Whole
Told = Callable[[Found], Sequence[Header]]  # more headers of an answer that the store had


Tls = tuple[ssl.SSLContext | None, Connection]  # to one upstream, and what its connections tell beyond requests


def ruling_of(asked: Asked) -> Ruling:
    """What the operator says of a request."""
    return NO_RULING if asked.ruling is None else asked.ruling.ruling


NO_RULING = Ruling()


class GatewayTransport(Transport):
    """Answers the requests of one gateway under one set of rules."""

    asynchronous = True
    rules: GatewayRules

    def __init__(
        self,
        rules: GatewayRules,
        engine: Callable[[], BatchEngine],
        client: UpstreamClient,
        told: Told,
        tls: Tls,
    ) -> None:
        super().__init__(rules, engine, wire, Inner(client, lambda: client))
        self._client = client
        self._told = told
        self._context, self._connection = tls

    async def send(self, request: wire.Request) -> wire.Response:
        """Make a call upstream."""
        return await self._client.send(request, self._context)

    def inherited(self, response: Any) -> bool:
        """False: a worker opens its connections after the fork."""
        del response
        return False

    async def dispose(self, response: wire.Response) -> None:
        """Leave an answer that nobody will read."""
        await response.aclose()

    async def _drain(self, stream: Any, parts: list[bytes]) -> None:
        if not isinstance(stream, Incoming):
            await read_out(stream, parts)
            return
        try:
            await stream.read_into(parts)
        finally:
            await stream.aclose()

    def reads(self, request: wire.Request) -> Asked:
        """What a request asks, with what its key is made of; nothing is asked."""
        asked = self._read(request)
        self.rules.describe(asked)
        return asked

    def head_plan(self, request: wire.Request) -> HeadPlan | None:
        """What is known of every request with the head of this one."""
        return self.rules.head_plan(self._sent(request))

    def at_hand(self, asked: Asked) -> bytes | None:
        """All of the stored answer to a question, if it is at hand; None, and nothing was done: see `handle`."""
        question = asked.question
        if question is None or question.key.form != "j" or self._inner.suspect:
            return None
        hit = self._engine().at_hand(question, partial(self._at_hand, asked))
        if hit is None:
            return None
        found, reply = hit
        answer = self._of_store(self._response(reply, found.status), asked, found)
        return packed(answer) if isinstance(answer, wire.Whole) else None

    def _at_hand(self, asked: Asked, kept: AtHand) -> Response | None:
        try:
            made = self._stored.read(entry_body(kept.entry, kept.head), kept.head)
        except Unreadable:
            return None
        return made if isinstance(made, Response) and made.who in {"", asked.who} else None

    def _sent(self, request: wire.Request) -> SentRequest:
        return SentRequest(request.method, request.url, request.headers.raw, request.body, self._connection)

    def _without_ours(self, request: wire.Request) -> wire.Request:
        return wire.Request(
            request.method,
            request.url,
            headers=without_ours(request.headers.raw),
            stream=request.stream,
            extensions=request.extensions,
        )

    async def _passed(self, request: wire.Request, reason: str, asked: Asked | None = None) -> wire.Response:
        response: wire.Response = await super()._passed(request, reason, asked)
        response.headers["cache-status"] = str(Status("", fwd="bypass", detail=reason))
        return response

    def _answered(self, call: UpstreamCall, found: Found) -> Any:
        return self._of_store(super()._answered(call, found), call.asked, found)

    def _opened(self, call: StreamCall, found: Found) -> Any:
        if found.entry is not None and isinstance(found.value, Playback):
            found.value.pace = ruling_of(call.asked).pace
        return self._of_store(super()._opened(call, found), call.asked, found)

    async def _asked_batch(self, call: BatchCall) -> Any:
        answer = await super()._asked_batch(call)
        # A batch is free if every input of it was stored; what a part of one costs, its own call says.
        if isinstance(answer, wire.Whole) and is_hit(answer) and ruling_of(call.asked).zero_usage:
            answer.body = without_usage(answer.body)
        return answer

    def _of_store(self, answer: Answer | None, asked: Asked, found: Found) -> Answer | None:
        """An answer, with what is said of one that was stored."""
        if answer is None or found.entry is None:
            return answer
        if more := self._told(found):
            (answer.more if isinstance(answer, wire.Whole) else answer.headers.raw).extend(more)
        if ruling_of(asked).zero_usage and not found.status.collapsed:
            _unused(answer)
        return answer

    def _response(
        self, reply: Response, status: Status, stream: Any = None, extensions: dict[str, Any] | None = None
    ) -> Answer:
        more: list[Header] = [(b"cache-status", str(status).encode())]
        if status.age is not None or reply.age:
            more.append((b"age", b"%d" % max(status.age or 0, reply.age)))
        if stream is None:
            return wire.Whole(reply.status, reply.headers, more, reply.body)
        return wire.Response(reply.status, headers=[*reply.headers, *more], stream=stream, extensions=extensions)


def is_hit(answer: wire.Whole) -> bool:
    """Whether an answer came from the store."""
    return any(name == b"cache-status" and value.startswith(b"askonce; hit") for name, value in answer.more)


def _unused(answer: Answer) -> None:
    """Set the usage in an answer to zero."""
    if isinstance(answer, wire.Whole):
        answer.body = without_usage(answer.body)
        return
    kind = next((value for name, value in answer.headers.raw if name.lower() == b"content-type"), b"")
    answer.stream = WithoutUsage(answer.stream, kind)
