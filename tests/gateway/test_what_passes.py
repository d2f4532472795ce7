"""What crosses the gateway, in both directions: the bytes that were sent, in their order."""

from __future__ import annotations

import gzip
import json
import socket
import zlib

import brotli
import pytest
import zstandard

from tests.gateway.running import CLIENT, JSON, Heard, Tap, answer, raw_call, request, serving

CHAT = b'{ "model":"gpt-4o",\n "messages" : [{"role":"user","content":"\\u00e9 hi"}] }'
KEY = "Authorization: Bearer sk-1"


def test_bodies_and_the_order_and_case_of_headers_are_upstream_what_the_caller_sent():
    sent = (
        "X-Zeta: 1",
        "accept: */*",
        KEY,
        "X-Alpha: a, b",
        "X-ALPHA: c",
        "Content-Type: application/json",
        "anthropic-Beta: q",
    )
    with Tap() as tap, serving(tap.url) as running:
        raw_call(running.port, request(CHAT, headers=sent))
    (heard,) = tap.heard
    assert heard.line == b"POST /v1/chat/completions HTTP/1.1"
    wanted = ["Host: " + tap.host, *sent, f"Content-Length: {len(CHAT)}"]
    assert [b": ".join(pair).decode() for pair in heard.headers] == wanted
    assert heard.body == CHAT


def test_host_stays_in_its_place_and_headers_of_the_connection_go_no_further():
    hops = (
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: 5",
        "TE: trailers",
        "Proxy-Connection: x",
        "Upgrade: h2c",
    )
    head = "\r\n".join(["GET /v1/models HTTP/1.1", "A: 1", *hops, "HOST: me", "Z: 2", "", ""])
    with Tap() as tap, serving(tap.url) as running:
        raw_call(running.port, head.encode())
    (heard,) = tap.heard
    assert heard.headers == [(b"A", b"1"), (b"HOST", tap.host.encode()), (b"Z", b"2")]


def test_nothing_is_added_to_a_bare_request_and_askonces_own_headers_are_taken_off():
    with Tap() as tap, serving(tap.url) as running:
        raw_call(running.port, b"GET /x HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        raw_call(running.port, b"DELETE /x HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        raw_call(
            running.port, request(CHAT, headers=("askonce-scope: a", "Cache-Control: no-cache", "askonce-new: x", KEY))
        )
    bare, deleted, ours = tap.heard
    assert bare.headers == deleted.headers == [(b"Host", tap.host.encode())]
    assert [name for name, _ in ours.headers] == [b"Host", b"Cache-Control", b"Authorization", b"Content-Length"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "POST"])
def test_unknown_paths_pass_with_their_method_query_and_escapes(method):
    path = "/v1/files/a%2Fb/../c//d;x=1?q=%20&r=a+b"

    def says(heard: Heard) -> bytes:
        return answer(b"" if heard.line.startswith(b"HEAD") else b"[1]", headers={"ETag": '"x"'})

    with Tap(says) as tap, serving(f"{tap.url}/base") as running:
        came = raw_call(running.port, request(method=method, path=path))
    assert tap.heard[0].line == f"{method} /base{path} HTTP/1.1".encode()
    assert came.startswith(b"HTTP/1.1 200")
    assert b'etag: "x"' in came
    assert b"cache-status: askonce; fwd=bypass; detail=unknown-path" in came


def test_a_chunked_body_arrives_chunked_and_is_a_question_all_the_same():
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in (CHAT[:7], CHAT[7:])) + b"0\r\n\r\n"
    head = request(headers=(KEY, "Transfer-Encoding: chunked", "Content-Type: application/json"))
    with Tap() as tap, serving(tap.url) as running:
        first, second = (raw_call(running.port, head + chunks) for _ in range(2))
    (heard,) = tap.heard
    assert heard.body == CHAT
    assert (b"transfer-encoding", b"chunked") in [(n.lower(), v) for n, v in heard.headers]
    assert b"fwd=miss; stored" in first
    assert b"askonce; hit" in second


def test_expect_100_continue_is_answered_before_the_body_is_sent():
    with Tap() as tap, serving(tap.url) as running, socket.create_connection(("127.0.0.1", running.port), 10) as caller:
        caller.sendall(request(CHAT, headers=("Expect: 100-continue", KEY))[: -len(CHAT)])
        assert caller.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(CHAT)
        assert b"200 OK" in caller.recv(65536)
    assert b"expect" not in [name.lower() for name, _ in tap.heard[0].headers]


def test_large_uploads_pass_in_pieces_whatever_their_size():
    body = bytes(range(256)) * 40_000  # 10 MB
    with Tap() as tap, serving(tap.url, limits_buffer=2**20) as running:
        came = raw_call(
            running.port, request(body, path="/v1/files", headers=("Content-Type: application/octet-stream",))
        )
        question = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 2**21}]}).encode()
        large = raw_call(running.port, request(question, headers=(KEY,)))
        refused = raw_call(
            running.port,
            request(b"x", headers=(f"X: {2**31}",)).replace(b"Content-Length: 1", b"Content-Length: %d" % 2**31),
        )
    assert tap.heard[0].body == body
    assert tap.heard[1].body == question
    assert b"200 OK" in came
    assert b"detail=streamed-body" in large
    assert refused.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_read_for_its_key_up_to_the_last_byte_of_the_buffer(more, chunked):
    body = CHAT + b" " * more
    sent = request(body, headers=(KEY,))
    if chunked:
        sent = request(headers=(KEY, "Transfer-Encoding: chunked")) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with Tap() as tap, serving(tap.url, limits_buffer=len(CHAT) + 1) as running:
        said = [raw_call(running.port, sent) for _ in range(2)]
    assert [b"detail=streamed-body" in one for one in said] == [more == 2] * 2
    assert {heard.body for heard in tap.heard} == {body}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_an_encoded_answer_reaches_its_payer_as_it_came_and_everybody_else_decoded(coding):
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress}[
        coding
    ]
    body = encode(JSON)

    def says(heard: Heard) -> bytes:
        assert dict(heard.headers)[b"Accept-Encoding"] == b"gzip, br, zstd, deflate"
        return answer(body, headers={"content-encoding": coding})

    with Tap(says) as tap, serving(tap.url) as running:
        ask = request(CHAT, headers=(KEY, "Accept-Encoding: gzip, br, zstd, deflate"))
        first, second = (raw_call(running.port, ask) for _ in range(2))
    assert first.endswith(body)
    assert f"content-encoding: {coding}".encode() in first
    assert second.endswith(JSON)
    assert b"content-encoding" not in second
    assert b"askonce; hit" in second


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "500 Oops", "529 Overloaded"]
)
def test_errors_of_upstream_and_their_retry_headers_are_untouched(status):
    error = b'{"error":{"message":"no"}}'
    says = answer(error, status, {"retry-after": "7", "x-should-retry": "true", "request-id": "r"})
    with Tap(lambda _: says) as tap, serving(tap.url) as running:
        came = raw_call(running.port, request(CHAT, headers=(KEY,)))
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status.split(" ")[0].encode()
    assert body == error
    assert {b"retry-after: 7", b"x-should-retry: true", b"request-id: r"} <= set(head.split(b"\r\n"))
    assert len(tap.heard) == 1


def test_redirects_cookies_and_repeated_headers_of_an_answer_are_the_callers():
    said = b"HTTP/1.1 307 x\r\nLocation: /y\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    with Tap(lambda _: said) as tap, serving(tap.url) as running:
        for _ in range(2):
            came = raw_call(running.port, request(method="GET", path="/x"))
    assert came.startswith(b"HTTP/1.1 307")
    assert came.count(b"set-cookie: ") == 2
    assert [name for name, _ in tap.heard[1].headers] == [b"Host"]


def test_several_upstreams_stand_behind_paths_and_the_longest_path_goes_first():
    with Tap() as one, Tap() as two, serving(f"/openai={one.url}", f"/openai/eu={two.url}/eu") as running:
        raw_call(running.port, request(CHAT, path="/openai/v1/chat/completions", headers=(KEY,)))
        raw_call(running.port, request(CHAT, path="/openai/eu/v1/chat/completions?a=1", headers=(KEY,)))
        raw_call(running.port, request(method="GET", path="/openai"))
        unknown = raw_call(running.port, request(method="GET", path="/openaix/v1"))
    assert [heard.line.split()[1] for heard in one.heard] == [b"/v1/chat/completions", b"/"]
    assert [heard.line.split()[1] for heard in two.heard] == [b"/eu/v1/chat/completions?a=1"]
    assert unknown.startswith(b"HTTP/1.1 404")


def test_websockets_are_refused_with_a_reason_and_other_upgrades_are_left_alone():
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    with Tap() as tap, serving(tap.url) as running:
        refused = raw_call(
            running.port, request(method="GET", path="/v1/realtime", headers=upgrade, last=False) + request()
        )
        h2c = request(
            CHAT, headers=("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A", KEY), last=False
        )
        both = raw_call(running.port, h2c + request(CHAT, headers=(KEY,)))
    assert refused.startswith(b"HTTP/1.1 501")
    assert b"does not proxy WebSockets" in refused
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert all(b"upgrade" not in [name.lower() for name, _ in heard.headers] for heard in tap.heard)


def test_a_caller_without_a_body_and_one_with_an_empty_body_are_answered():
    with Tap() as tap, serving(tap.url) as running:
        assert CLIENT.post(f"{running.url}/v1/x", content=b"").status_code == 200
        assert b" 200 " in raw_call(running.port, b"POST /v1/x HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    assert [heard.body for heard in tap.heard] == [b"", b""]


@pytest.mark.parametrize("body", [b"", pytest.param(CHAT, marks=pytest.mark.slow)], ids=["none", "some"])
def test_every_byte_of_a_header_arrives_or_the_request_is_refused(body):
    values = [
        b"caf\xe9",
        b"\xff\xfe",
        b"na\xc3\xafve",
        b"\xed\xa0\x80",
        b"a\x80b",
        *(b"a%cb" % one for one in range(1, 256, 9)),
    ]
    arrived = []
    with Tap() as tap, serving(tap.url) as running:
        for value in values:
            data = request(body, path="/v1/files", headers=("X-Value: VALUE", "Z: last")).replace(b"VALUE", value)
            came = raw_call(running.port, data)
            assert came.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400")), (value, came)
            arrived += [value] if came.startswith(b"HTTP/1.1 200") else []
    assert [dict(heard.headers)[b"X-Value"] for heard in tap.heard] == arrived
    assert {heard.body for heard in tap.heard} == {body}
    assert {name for heard in tap.heard for name, _ in heard.headers[:3]} == {b"Host", b"X-Value", b"Z"}
    assert set(values[:5]) <= set(arrived)
