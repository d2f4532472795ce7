"""What one caller may take of a worker: heads, bodies, time, places."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from askonce.gateway import server
from askonce.gateway.protocol import STALLED
from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import Running, Tap, answer, next_status, raw_call, received, request, serving

KEY = "Authorization: Bearer sk-1"
CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    with Tap() as tap:
        yield tap


@pytest.fixture(scope="module")
def running(tap: Tap) -> Iterator[Running]:
    """For requests that are refused, of which none goes upstream."""
    with serving(tap.url, limits_head_timeout=1) as running:
        yield running


def status_of(came: bytes) -> int:
    return int(came.split(b" ")[1]) if came else 0


@pytest.mark.parametrize("hosts", [0, 2, 3])
def test_a_request_has_exactly_one_host(running, tap, hosts):
    head = b"GET /x HTTP/1.1\r\n" + b"Host: a\r\n" * hosts + b"\r\n"
    assert status_of(raw_call(running.port, head)) == 400
    assert not tap.heard


@pytest.mark.parametrize(
    "lines",
    [
        ("X: " + "a" * 70_000,),
        tuple(f"X-{number}: {'a' * 1000}" for number in range(70)),
        tuple("a: b" for _ in range(12_000)),
    ],
    ids=["one header", "many headers", "tiny headers"],
)
def test_a_head_over_its_limit_is_refused_in_one_piece_and_in_many(lines):
    sent = request(method="GET", path="/x", headers=lines)
    with Tap() as tap, serving(tap.url) as running:
        assert status_of(raw_call(running.port, sent)) in {431, 0}  # reset, if it was still sending
        with socket.create_connection(("127.0.0.1", running.port), 20) as caller, contextlib.suppress(ConnectionError):
            for at in range(0, len(sent), 5000):
                caller.sendall(sent[at : at + 5000])
                time.sleep(0.001)
            assert status_of(received(caller)) in {431, 0}
        assert (
            status_of(raw_call(running.port, request(method="GET", path="/x", headers=("X: " + "a" * 60_000,)))) == 200
        )
    assert len(tap.heard) == 1


def test_a_head_or_a_body_that_trickles_in_is_cut_and_nothing_is_sent_upstream():
    with Tap() as tap, serving(tap.url, limits_head_timeout=0.2, limits_body_timeout=0.2) as running:
        for begun in (b"GET /x HTTP/1.1\r\nHost: a\r\n", request(CHAT)[:-5]):
            with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
                caller.sendall(begun)
                assert status_of(received(caller)) == 408
        with socket.create_connection(("127.0.0.1", running.port), 20) as silent:
            assert received(silent) == b""
        kept = socket.create_connection(("127.0.0.1", running.port), 20)
        for _ in range(2):  # a connection that is silent between requests is not late
            kept.sendall(request(method="GET", path="/x", last=False))
            assert next_status(kept) == 200
            time.sleep(0.6)
        kept.close()
    assert [heard.line for heard in tap.heard] == [b"GET /x HTTP/1.1"] * 2


def test_trailers_are_no_headers():
    chunked = ("Transfer-Encoding: chunked", KEY)
    body = b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\nHost: other\r\n\r\n" % (len(CHAT), CHAT)
    with Tap() as tap, serving(tap.url) as running:
        assert status_of(raw_call(running.port, request(headers=chunked) + body)) == 200
    assert b"x-trailer" not in [name.lower() for name, _ in tap.heard[0].headers]


def test_more_requests_than_may_run_get_503_and_the_others_their_answer():
    with Provider() as provider, serving(provider.url, limits_concurrency=2) as running:
        provider.script("hi", Step(hang=True))
        first = socket.create_connection(("127.0.0.1", running.port), 20)
        first.sendall(request(CHAT, headers=(KEY,)))
        provider.wait_until_paid("hi")
        second = socket.create_connection(("127.0.0.1", running.port), 20)
        second.sendall(request(CHAT, headers=(KEY,)))
        third = raw_call(running.port, request(method="GET", path="/x"))
        assert status_of(third) == 503
        assert b"limits.concurrency" in third
        provider.release()
        assert status_of(received(first)) == status_of(received(second)) == 200
        first.close()
        second.close()


@pytest.mark.parametrize(
    "wrong",
    [
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(running, tap, wrong):
    assert status_of(raw_call(running.port, wrong)) in {400, 408}
    assert not tap.heard


def test_requests_that_are_pipelined_are_answered_in_their_order():
    with Tap() as tap, serving(tap.url) as running:
        many = b"".join(request(method="GET", path=f"/{number}", last=number == 4) for number in range(5))
        came = raw_call(running.port, many)
    assert came.count(b"HTTP/1.1 200") == 5
    assert [heard.line.split()[1] for heard in tap.heard] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_a_caller_is_cut_when_it_reads_nothing_and_not_when_it_reads_slowly(monkeypatch):
    monkeypatch.setattr(server, "SECOND", 1000.0)  # the connection is looked at here, with times of this test
    large = answer(b"[%s]" % (b" " * 7_000_000))
    with Tap(lambda _: large) as tap, serving(tap.url) as running, socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        caller.connect(("127.0.0.1", running.port))
        caller.sendall(request(CHAT, headers=(KEY,), last=False))
        eventually(lambda: unread_of(running) > 3_000_000, "the answer waits for its caller")
        (connection,) = running.server.server_state.connections
        now = time.monotonic()
        for step in range(1, 4):
            before = unread_of(running)
            assert looked_at(running, now + step * 0.9 * STALLED)
            caller.recv(100_000, socket.MSG_WAITALL)
            eventually(lambda before=before: unread_of(running) < before, "it has read a part")
        assert looked_at(running, now + 4 * 0.9 * STALLED)
        assert looked_at(running, now + 4 * 0.9 * STALLED + 0.9 * STALLED)
        assert not looked_at(running, now + 4 * 0.9 * STALLED + 1.1 * STALLED)
        assert connection.transport.is_closing()


def unread_of(running: Running) -> Any:
    """Bytes that the only caller has not read yet."""

    async def unread() -> int:
        connections: Any = running.server.server_state.connections
        return sum(one._left_to_read() for one in connections)

    return running.do(unread())


def looked_at(running: Running, now: float) -> Any:
    """Look at the connection; whether it stays."""

    async def look() -> bool:
        connections: Any = running.server.server_state.connections
        (one,) = connections
        one.look(now)
        return not one.transport.is_closing()

    return running.do(look())
