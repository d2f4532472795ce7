"""An UpstreamCall is one request, and what its own call upstream brought, if it was made.

Everything that comes is an answer: a reply of any status, and an error of the module, which becomes a Failure for the
followers. The caller itself gets what was received (http.received): the response as it is, even if its body ends in an
error or cannot be decoded, or the exception if there was no response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, Protocol

import orjson

from askonce.core import upstream
from askonce.core.keys import Key
from askonce.core.providers.bounded import lru_cache_of_short
from askonce.engine.accounting import UNSENT
from askonce.engine.answer import Answer
from askonce.engine.question import Question
from askonce.flight.flight import Unshared
from askonce.http.closing import ClientCaller, ClientEnd
from askonce.http.credentials import Header, challenges
from askonce.http.embeddings import Vector, weight_of
from askonce.http.header_names import Names, Shapes
from askonce.http.inner import INHERITED
from askonce.http.received import CODINGS, Received
from askonce.http.response import Failure, Response, named_by_connection, of_connection, personal
from askonce.http.rules import Asked, ClientRules

CHALLENGE = "challenge"  # a status detail
_CHALLENGING = frozenset({401, 407})
_WAITS = {"ConnectTimeout": "connect", "PoolTimeout": "pool"}  # the timeout that an error exceeded; else "read"


class Sender(Protocol):
    """What a call needs of its transport."""

    rules: ClientRules
    module: Any
    end: ClientEnd

    async def send(self, request: Any) -> Any:
        """The inner transport's response, unchanged."""
        ...

    def inherited(self, response: Any) -> bool:
        """Whether the answer came over a parent process's connection, and may belong to another process."""
        ...

    async def read(self, received: Received) -> None:
        """Read a response to its end, unless its client reads it, and close it upstream."""
        ...

    async def dispose(self, response: Any) -> None:
        """Close a response that nobody will read."""
        ...


class UpstreamCall:
    """A request and what its call brought: a response or an error."""

    def __init__(self, sender: Sender, asked: Asked, request: Any) -> None:
        self.asked = asked
        self.request = request
        self.received: Received | None = None  # for this caller
        self.reply: Response | None = None  # for the store and the followers
        self.error: Exception | None = None
        self._sender = sender
        self.caller = ClientCaller(sender.end)

    def wait_until(self, until: float) -> None:
        """Before it is asked: how long its caller waits for another caller's request, until s of time.monotonic()."""
        question = self.asked.question
        assert question is not None
        question.until, question.operation, question.asker = until, self.asked.operation, self.caller

    def answered(self) -> None:
        """Its caller has an answer, or left."""
        self.caller.awaits = False

    async def paid(self) -> Answer:
        """Make the call."""
        return await self._sent(self.request) or self._sender.rules.answer(self.asked, self._response, self)

    def whose(self, error: Exception) -> UpstreamCall | None:
        """The call that raised an exception, if it was this one or a part of it."""
        return self if error is self.error else None

    def refused(self, error: Exception) -> Exception | None:
        """What the inner transport of another caller made of a refusal (HTTPStatusError), as it would make it of this
        request; None for any other error, and if the refusal may be for that caller alone.
        """
        module = self._sender.module
        answered: Any = getattr(error, "response", None)
        if type(error) is not getattr(module, "HTTPStatusError", None) or type(answered) is not module.Response:
            return None
        assert self.asked.question is not None
        if (self.asked.question.plan.tenant and answered.status_code < 500) or challenges(answered.headers.raw):
            return None
        response = copy(answered)
        response.headers = module.Headers([one for one in answered.headers.raw if not personal(one[0], rates=False)])
        response.request = self.request
        made: Exception = module.HTTPStatusError(str(error), request=self.request, response=response)
        return made

    @property
    def entire(self) -> bool:
        """Whether what was received answers the whole request."""
        return True

    @property
    def _response(self) -> Response:
        assert self.reply is not None
        return self.reply

    async def _sent(self, request: Any) -> Answer | None:
        """Send the request and keep what comes; return the Failure for the followers if it failed."""
        module = self._sender.module
        self.received = self.reply = self.error = None
        self._sender.rules.going(self.asked)
        response: Any = None
        try:
            response = await self._sender.send(request)
            received = Received(module, response)
            body = await self._read_body(received)
        except module.RequestError as error:
            self.error = error
            return self._failed(error)
        except BaseException as error:
            if isinstance(error, Exception):
                self.error = error
            if response is not None and not (isinstance(error, Exception) and self._handed_on()):
                await self._sender.dispose(response)
            raise
        status, headers = received.response.status_code, received.headers
        self._sender.rules.met(request.headers.raw)
        self.reply = Response(status, decoded(module, headers), body)
        self._sender.rules.replied(self.asked, self.reply)
        if status in _CHALLENGING and challenges(headers):
            self.error = Unshared(CHALLENGE)
            raise self.error
        return None

    def _handed_on(self) -> bool:
        """Whether the caller gets the response, even if its body failed."""
        return self.received is not None

    async def _read_body(self, received: Received) -> bytes:
        try:
            if self._sender.inherited(received.response):
                raise Unshared(INHERITED)
            return await self._decoded_body(received)
        finally:
            self.received = received  # not earlier: two must not read it at once

    async def _decoded_body(self, received: Received) -> bytes:
        await self._sender.read(received)
        return received.read()

    def _failed(self, error: Exception) -> Answer:
        name, trouble = type(error).__name__, upstream.trouble(error)
        patience = patience_for(self.request, name) if "Timeout" in name else math.inf
        if self._sender.end.closed or name == "PoolTimeout":  # concerns only this client
            patience, trouble = 0.0, ""
        failure = Failure(name, str(error), None if patience == math.inf else patience)
        return self._sender.rules.failed(failure, self, trouble)._replace(calls=int(name not in UNSENT))


class PartialCall(UpstreamCall):
    """A call for some or all inputs of a batch, separate from other calls that run for the same batch."""

    def __init__(self, sender: Sender, call: BatchCall, questions: Sequence[Question]) -> None:
        super().__init__(sender, call.asked, call.request)
        self.of = call
        call.parts.append(self)
        self.vectors: dict[Key, Vector] = {}
        self.whole = len(questions) == len(call.batch.places)
        self._questions = questions

    @property
    def entire(self) -> bool:
        """Whether all inputs were requested."""
        return self.whole

    async def paid_for(self) -> list[Answer]:
        """Make the call."""
        failed = await self._sent(self.request if self.whole else self._partial())
        if failed is not None:
            return [failed] * len(self._questions)
        answers, vectors = self._sender.rules.answers(self.asked, self._response, self, len(self._questions))
        self.vectors = {question.key: vector for question, vector in zip(self._questions, vectors, strict=False)}
        inputs = self.of.batch.inputs
        return [
            answer._replace(weight=weight_of(inputs[question.key]))
            for answer, question in zip(answers, self._questions, strict=True)
        ]

    def _partial(self) -> Any:
        batch = self.of.batch
        body = {**batch.body, "input": [batch.inputs[question.key] for question in self._questions]}
        headers = [pair for pair in self.request.headers.raw if pair[0].lower() != b"content-length"]
        return self._sender.module.Request(
            self.request.method,
            self.request.url,
            headers=headers,
            content=orjson.dumps(body),
            extensions=self.request.extensions,
        )


class BatchCall(UpstreamCall):
    """A batch of inputs: one PartialCall requests all inputs that nobody has."""

    def __init__(self, sender: Sender, asked: Asked, request: Any) -> None:
        super().__init__(sender, asked, request)
        assert asked.batch is not None
        self.batch = asked.batch
        self.parts: list[PartialCall] = []

    def wait_until(self, until: float) -> None:
        """The same, for each input."""
        for question in self.batch.questions.values():
            question.until, question.operation, question.asker = until, self.asked.operation, self.caller

    def whose(self, error: Exception) -> UpstreamCall | None:
        """The part that raised an exception."""
        return next((part for part in self.parts if error is part.error), None)

    async def paid_for(self, questions: Sequence[Question]) -> list[Answer]:
        """Make one call for these inputs."""
        return await PartialCall(self._sender, self, questions).paid_for()


def patience_for(request: Any, error: str) -> float:
    """The seconds that this request waits before an error of this name; inf without a limit."""
    limits = request.extensions.get("timeout") or {}
    limit = limits.get(_WAITS.get(error, "read"))
    return math.inf if limit is None else float(limit)


def decoded(module: Any, headers: Sequence[Header]) -> list[Header]:
    """The headers of a decoded body, without those of its connection."""
    own, odd = _OWN.of(headers)
    if not odd:
        return [headers[at] for at in own]
    named = named_by_connection(headers)
    coded = {at for at in CODINGS.of(headers) if _decodes(module, headers[at][1])}
    return [headers[at] for at in own if at not in coded and headers[at][0].lower() not in named]


def _own(names: Names) -> tuple[tuple[int, ...], bool]:
    """Where the headers that are not the connection's stand, and whether values say that others go too."""
    own = tuple([at for at, name in enumerate(names) if not of_connection(name)])
    return own, any(name.lower() in (b"connection", b"content-encoding") for name in names)


_OWN = Shapes(_own)


@lru_cache_of_short(64)
def _decodes(module: Any, encodings: bytes) -> bool:
    """Whether the module decodes these encodings (brotli and zstd need packages of their own)."""
    probe = b"\xff\xfe not encoded"
    try:
        response = module.Response(200, headers=[(b"content-encoding", encodings)], content=probe)
    except module.DecodingError:
        return True
    return bool(response.content != probe)
