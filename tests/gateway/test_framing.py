"""Where one request ends and the next begins: after offers of another protocol, tunnels, and requests sent at once."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import Running, Tap, raw_call, received, request, serving

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
KEY = "Authorization: Bearer sk-1"
OFFERS = ["foo", "TLS/1.0", "HTTP/2.0", "h2c", "H2C", "h2c, foo", "foo, h2c", "HTTP/2.0, SHTTP/1.3, IRC/6.9"]
CONNECTIONS = ["Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade, HTTP2-Settings", " UPGRADE ,x"]


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    with Tap() as tap:
        yield tap


@pytest.fixture(scope="module")
def running(tap: Tap) -> Iterator[Running]:
    with serving(tap.url) as running:
        yield running


def offer(protocol: str, connection: str, *, chunked: bool = False, method: str = "POST") -> bytes:
    """A request with a body that is a request, and an offer to change the protocol."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(SMUGGLED)}"
    lines = (
        f"{method} /v1/files HTTP/1.1\r\nHost: gateway\r\nUpgrade: {protocol}\r\nConnection: {connection}\r\n{length}"
    )
    return lines.encode() + b"\r\n\r\n" + (CHUNKED if chunked else SMUGGLED)


def lines_of(tap: Tap, since: int) -> list[tuple[bytes, bytes]]:
    return [(one.line.split()[1], one.body) for one in tap.heard[since:]]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("protocol", OFFERS)
def test_a_body_after_an_offer_of_another_protocol_is_a_body(running, tap, protocol, connection, chunked):
    before = len(tap.heard)
    said = raw_call(running.port, offer(protocol, connection, chunked=chunked) + LAST)
    assert lines_of(tap, before) == [(b"/v1/files", SMUGGLED), (b"/last", b"")]
    assert said.count(b"HTTP/1.1 200 OK") == 2
    names = {name.lower() for name, _ in tap.heard[before].headers}
    assert not names & {b"upgrade", b"connection", b"http2-settings"}


@pytest.mark.parametrize("cut", [1, 5, 40, 60, 70, 75, 90, 110, 130])
def test_it_does_not_matter_in_which_pieces_it_comes(running, tap, cut):
    before, data = len(tap.heard), offer("h2c", "Upgrade, HTTP2-Settings") + LAST
    with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), cut):
            caller.sendall(data[at : at + cut])
        assert received(caller).count(b"HTTP/1.1 200 OK") == 2
    assert lines_of(tap, before) == [(b"/v1/files", SMUGGLED), (b"/last", b"")]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    protocol=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
    connection=st.lists(st.sampled_from(["upgrade", "Upgrade", "close", "keep-alive", "x", ""]), max_size=4),
    chunked=st.booleans(),
    method=st.sampled_from(["POST", "GET", "PUT", "OPTIONS", "CONNECT"]),
)
def test_no_offer_makes_a_request_of_a_body(running, tap, protocol, connection, chunked, method):
    before = len(tap.heard)
    raw_call(running.port, offer(protocol, ",".join(connection), chunked=chunked, method=method) + LAST, over=True)
    assert b"/smuggled" not in [path for path, _ in lines_of(tap, before)]


@pytest.mark.parametrize("target", ["/v1/chat/completions", "gateway:443", "127.0.0.1:22", "http://gateway/v1/x"])
@pytest.mark.parametrize("length", [b"", b"Content-Length: %d\r\n" % len(SMUGGLED)], ids=["bare", "with a body"])
def test_nobody_gets_a_tunnel(running, tap, target, length):
    before = len(tap.heard)
    said = raw_call(
        running.port, f"CONNECT {target} HTTP/1.1\r\nHost: gateway\r\n".encode() + length + b"\r\n" + SMUGGLED
    )
    assert said.startswith((b"HTTP/1.1 501", b"HTTP/1.1 400"))
    assert said.count(b"HTTP/1.1") == 1
    assert lines_of(tap, before) == []


def test_an_answer_comes_also_if_more_is_sent_after_the_last_request(running):
    for more in (b"", b"\r\n", SMUGGLED):
        assert raw_call(running.port, offer("foo", "close, upgrade") + more).startswith(b"HTTP/1.1 200 OK")
        assert raw_call(running.port, request(b"{}", path="/v1/files") + more).startswith(b"HTTP/1.1 200 OK")


# --- requests that are sent at once --------------------------------------------------------------------------------


def chat(text: str, *, last: bool = False) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    return request(body, headers=(KEY,), last=last)


def test_requests_that_are_sent_at_once_are_answered_in_their_order():
    texts = [f"question {number}" for number in range(8)]
    with Provider() as provider, serving(provider.url) as running:
        provider.script(texts[0], Step(delay=0.3))
        said = raw_call(running.port, b"".join(chat(text, last=text == texts[-1]) for text in texts))
    assert said.count(b"HTTP/1.1 200 OK") == len(texts)
    places = [said.index(f"to: {text}".encode()) for text in texts]
    assert places == sorted(places)


def test_a_stored_answer_does_not_overtake_a_call_that_was_asked_before_it():
    with Provider() as provider, serving(provider.url) as running:
        provider.script("slow", Step(delay=0.3))
        for _ in range(3):  # by then its answer is at hand
            raw_call(running.port, chat("quick", last=True))
        said = raw_call(running.port, chat("slow") + chat("quick") + chat("quick", last=True))
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert said.count(b"askonce; hit") == 2
    assert said.index(b"to: slow") < said.index(b"to: quick")


@pytest.mark.parametrize(
    "bad", [b"NONSENSE\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]
)
def test_what_is_wrong_with_the_second_request_is_no_answer_to_the_first(bad):
    with Provider() as provider, serving(provider.url) as running:
        provider.script("slow", Step(delay=0.3))
        said = raw_call(running.port, chat("slow") + bad)
    assert said == b"" or said.startswith(b"HTTP/1.1 200 OK")


def test_a_caller_that_leaves_while_its_requests_wait_for_each_other_leaves_no_error(caplog):
    caplog.set_level(logging.ERROR)
    with Provider() as provider, serving(provider.url) as running:
        provider.script("slow", Step(hang=True))
        with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
            caller.sendall(chat("slow") + chat("next") + chat("last"))
            provider.wait_until_paid("slow")
        eventually(lambda: not running.server.server_state.tasks, "the requests end")
        provider.release("slow")
    assert caplog.records == []
    assert provider.paid("next") == 0
