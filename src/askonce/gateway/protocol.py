"""The server's side of a connection: uvicorn's protocol with the limits that it lacks.

A head has a largest size and a deadline, a body has a deadline that grows with its size, a request has exactly one
Host, and the requests that run at one time are bounded. Deadlines are looked at by the server once a second: a timer
for each request costs more than the rest of this file.

Names of headers are also kept in the case in which they were sent: ``scope["askonce.headers"]``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from askonce.gateway import replies
from askonce.gateway.answers import WHOLE, packed, said
from askonce.gateway.caller import LEAVES
from askonce.gateway.collector import collector
from askonce.gateway.paths import target_problem
from askonce.gateway.repeated import HEAD
from askonce.runtime.readable import is_readable
from askonce.runtime.unread import unread

RATE = 65_536  # bytes of a body for which it gets another second
STALLED = 120.0  # s in which a caller reads nothing of its answer, before its connection is closed
LINES = 500  # headers of a request: each costs more than its bytes, and programs send some 20
HELD = 65_536  # bytes of a body for which a head is held that came before
OVERHEAD = 16  # bytes of chunks around a byte of a body: an honest sender has a few in a thousand


class Bounds(NamedTuple):
    """What one request and one worker may take: bytes, s, and a number of requests."""

    head: int = 65_536
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    concurrency: int = 10_000
    keep_alive: float = 75.0


class _Wrong(Exception):
    """A request that is refused before it is one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AtHand(Protocol):
    """What answers requests that came before. `peer`: the address from which they come."""

    def answer(self, head: bytes, body: bytes, peer: str | None) -> bytes | None:
        """All of the answer to a request, as HTTP/1.1 has it; None if the application has to be called."""
        ...

    def expected(self, head: bytes, peer: str | None) -> int:
        """The length of the body behind a head that came before; -1 for any other head."""
        ...


_IDLE, _HEAD, _BODY = range(3)


class GatewayProtocol(HttpToolsProtocol):
    """One connection. `bounds` is replaced when the configuration is read again."""

    bounds = Bounds()
    at_hand: AtHand | None = None
    # uvicorn sets whole seconds, once a connection.
    timeout_keep_alive = property(lambda self: self.bounds.keep_alive, lambda *_: None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._served = self.app
        self._reading = _HEAD  # what opened a connection must send a head in time
        self._since = time.monotonic()
        self._seen = 0  # bytes of this head, or of this body with its chunks
        self._body = 0  # bytes of this body alone
        self._hosts = 0
        self._stalled = 0.0  # since when its caller has read nothing, while it is waited for
        self._unread = 0  # bytes that it had not read then
        self._on_loss: Callable[[], None] | None = None  # of the request that is answered now
        self._wrong: _Wrong | None = None
        self._offers = False  # the head offers to change the protocol
        self._answered: Any = None  # the RequestResponseCycle that is answered now, or was last; None: none yet
        self._head = b""  # of a request that came in one piece, until it is parsed
        self._held = b""  # a head that came before, while its body comes
        self._answered_at_hand = 0.0  # when an answer at hand was given last
        if len(self.connections) > self.bounds.concurrency:
            self._refuse(_Wrong(503, "the gateway has as many connections as it may have (limits.concurrency)"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn knows the last request that was read, which may wait for this one
            self._answered.disconnected = True
            self._answered.message_event.set()
        if self._on_loss is not None:
            self._on_loss()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def when_lost(self, act: Callable[[], None] | None) -> None:
        """Call this when the connection is lost, which it may be already; None: nothing more."""
        self._on_loss = act
        lost: Any = self.parser
        if act is not None and lost is None:
            act()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        may_hold = not self._held
        if self._held:
            data = self._unheld() + data
        begins = self._reading == _IDLE or (self._reading == _HEAD and not self._seen)
        if not (begins and self.at_hand is not None and self._answer_at_hand(data, may_hold=may_hold)):
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._reading == _IDLE:
            self._reading, self._seen, self._since = _HEAD, 0, time.monotonic()
        self._seen += len(data)
        collector.came(len(data))
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing():
            data = self._fed(data)
        if self._seen > self.bounds.head and not self.transport.is_closing():
            self._check_size()

    def _answer_at_hand(self, data: bytes, *, may_hold: bool) -> bool:
        """Answer a request that begins here and came before, without parsing it again; whether nothing is left to do.

        Many clients send a head and then its body. A head that came before waits for it.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        self._head = head = data[:end]
        busy: Any = self.cycle  # None before the first request
        if (busy is not None and not busy.response_complete) or self.flow.write_paused or self.transport.is_closing():
            return False
        if len(self.tasks) >= self.bounds.concurrency or end > self.bounds.head or self.at_hand is None:
            return False
        peer = self.client[0] if self.client else None
        answer = self.at_hand.answer(head, data[end:], peer)
        if answer is not None:
            self._write_at_hand(answer)
        elif may_hold and len(data) - end < self.at_hand.expected(head, peer) <= HELD:
            self._hold(data, len(data) - end)
        else:
            return False
        return True

    def _write_at_hand(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._reading, self._head, self._answered_at_hand = _IDLE, b"", time.monotonic()
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

    def _hold(self, data: bytes, body: int) -> None:
        """Wait for the rest of a body, under its deadline."""
        self._unset_keepalive_if_required()
        self._held, self._reading, self._seen, self._body, self._since = data, _BODY, body, body, time.monotonic()

    def _unheld(self) -> bytes:
        """What was held, as if it came only now."""
        held, self._held, self._reading, self._seen = self._held, b"", _HEAD, 0
        return held

    def shutdown(self) -> None:
        """Called when the server ends: a request that has begun is answered."""
        if self._held:
            self._feed(self._unheld())
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """The time of an idle connection is over, unless it was answered meanwhile: that moves no timer.

        Nor is it over if a request has come that was not read yet: it would be lost.
        """
        left = self._answered_at_hand + self.timeout_keep_alive - time.monotonic()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        elif not is_readable(self.transport.get_extra_info("socket").fileno()):
            super().timeout_keep_alive_handler()

    def _check_size(self) -> None:
        if self._reading == _HEAD:
            self._refuse(self._too_large())
        elif self._reading == _BODY and self._seen - self._body > self.bounds.head + OVERHEAD * self._body:
            self._refuse(_Wrong(400, "the body of the request is hardly more than chunks and trailers"))

    def _too_large(self) -> _Wrong:
        return _Wrong(431, f"the head of the request is larger than {self.bounds.head} bytes")

    def _fed(self, data: bytes) -> bytes:
        """Feed the parser; return what it has left."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._not_upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._wrong or _Wrong(400, "this is no valid request of HTTP/1.1"))
        return b""

    def _not_upgraded(self, rest: bytes) -> bytes:
        """Read a head again without its offer to change the protocol, which a server may ignore; then what follows it.

        After such an offer the parser takes a body for something else than HTTP, and its bytes would be read as the
        next request. Java's own client makes one on every new connection.
        """
        self._offers = False
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [name + b": " + _less_upgrade(name, value) + b"\r\n" for name, value in self._raw]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: for the answer before it
        return line + b"".join(lines) + b"\r\n" + rest

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._reading == _IDLE:  # it came with the end of another
            self._reading, self._seen, self._since = _HEAD, 0, time.monotonic()
        self._hosts = 0
        self._raw: list[tuple[bytes, bytes]] = []
        self.scope["askonce.headers"] = self._raw  # type: ignore[typeddict-unknown-key]

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived, or a trailer, which is left out: the request was read without it."""
        if self._reading == _BODY:
            return
        self._raw.append((name, value))
        if len(self._raw) > LINES:
            self._stop(_Wrong(431, f"a request has at most {LINES} headers"))
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: refuse the request, or start it."""
        self._offers = self.parser.should_upgrade()
        if self._offers:
            if self.parser.get_method() == b"CONNECT":
                self._stop(_Wrong(501, "the gateway is the base URL of an API: it opens no tunnels"))
            return  # it is read again: see _not_upgraded
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() != "1.0"):
            self._stop(_Wrong(400, f"a request has exactly one Host, this one has {self._hosts}"))
        if self.url[:1] != b"/" or b"#" in self.url:
            self._check_target()
        if self._seen > self.bounds.head and self._size() > self.bounds.head:
            self._stop(self._too_large())
        self._reading, self._seen, self._body, self._since = _BODY, 0, 0, time.monotonic()
        self.app = _overloaded if len(self.tasks) >= self.bounds.concurrency else self._served
        super().on_headers_complete()
        scope: Any = self.scope
        scope[WHOLE] = self._write_whole  # not with its cycle, which has the scope: only the collector would free both
        scope[LEAVES] = self.when_lost
        if self._head:
            scope[HEAD], self._head = self._head, b""

    def _write_whole(self, answer: bytes) -> None:
        """Write all of the answer that is due now, as RequestResponseCycle.send does in two steps."""
        cycle = self._answered
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if cycle.keep_alive:
            cycle.transport.write(answer)
        else:
            head, end, body = answer.partition(b"\r\n\r\n")
            cycle.transport.write(head + b"\r\nconnection: close" + end + body)
            cycle.transport.close()
        cycle.on_response()

    def _check_target(self) -> None:
        host = next((value for name, value in self.headers if name == b"host"), b"")
        if problem := target_problem(self.url, host):
            self._stop(_Wrong(400, problem))

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self._raw)

    def _stop(self, wrong: _Wrong) -> None:
        """Make the parser stop: what a callback raises ends the parsing."""
        self._wrong = wrong
        raise wrong

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._offers:
            self._reading = _IDLE
            super().on_message_complete()

    def _refuse(self, wrong: _Wrong) -> None:
        under_way: Any = self.cycle  # None before the first request
        if under_way is not None and not under_way.response_complete:
            if self._reading != _BODY or under_way.response_started or under_way is not self._answered:
                self.transport.close()  # another answer is under way: there is no place for this one
                return
            under_way.disconnected = True  # what the application answers is not sent any more
            under_way.message_event.set()
        answer = replies.error(wrong.status, "bad_request", str(wrong))
        answer.more.append((b"connection", b"close"))
        self.transport.write(packed(answer))
        self.transport.close()

    def pause_writing(self) -> None:
        """The caller reads more slowly than its answer comes."""
        self._stalled, self._unread = time.monotonic(), self._left_to_read()
        super().pause_writing()

    def _left_to_read(self) -> int:
        return self.transport.get_write_buffer_size() + unread(self.transport.get_extra_info("socket").fileno())

    def look(self, now: float) -> None:
        """Close the connection if what it reads is late, or if its caller reads nothing."""
        if self.flow.write_paused and self._has_stalled(now):
            self.transport.abort()
        elif self._reading != _IDLE and not self.transport.is_closing():
            self._look_at_request(now)

    def _has_stalled(self, now: float) -> bool:
        """Whether the caller has read nothing for too long: a large answer may take a slow one as long as it reads."""
        left = self._left_to_read()
        if left < self._unread:
            self._stalled = now
        self._unread = left
        return now - self._stalled > STALLED

    def _look_at_request(self, now: float) -> None:
        if self.flow.read_paused:
            self._since = now  # it is this side that waits
        elif self._reading == _HEAD and now - self._since > self.bounds.head_timeout:
            self._late("head")
        elif self._reading == _BODY and now - self._since > self.bounds.body_timeout + self._seen / RATE:
            self._late("body")

    def _late(self, what: str) -> None:
        if self._reading == _HEAD and not self._seen:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(_Wrong(408, f"the {what} of the request did not arrive in time"))


def _less_upgrade(name: bytes, value: bytes) -> bytes:
    """The value of a header, without the word that makes an Upgrade an offer."""
    if name.lower() != b"connection":
        return value
    return b",".join(word for word in value.split(b",") if word.strip().lower() != b"upgrade")


async def _overloaded(_scope: Any, _receive: Any, send: Any) -> None:
    """The answer to a request that finds too many others."""
    made = replies.error(503, "overloaded", "the gateway serves as many requests as it may (limits.concurrency)")
    made.more.append((b"retry-after", b"1"))
    await said(made, send)
