"""Upstreams that answer oddly: what cannot be sent on is an error that repeats nothing, and all else is sent as it came."""

from __future__ import annotations

import gzip
import json
import logging
import socket

import pytest

from tests.gateway.running import CLIENT, JSON, Heard, Tap, answer, raw_call, received, request, serving

SECRET, ANSWER = "sk-verysecret", "told-in-confidence"
BODY = JSON.replace(b"yes", ANSWER.encode())
KEY = "Authorization: Bearer sk-1"


def said(
    *lines: bytes, status: bytes = b"200 OK", body: bytes = BODY, version: bytes = b"1.1", length: int = -1
) -> bytes:
    """An answer; `length`: what it says of its body, negative: the truth, and 0: nothing."""
    own = [] if length == 0 else [b"content-length: %d" % (len(body) if length < 0 else length)]
    head = [b"HTTP/%b %b" % (version, status), b"content-type: application/json", *own, *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunks(body: bytes, trailer: bytes = b"") -> bytes:
    return b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer)


CHUNKED = b"transfer-encoding: chunked"
NO_ANSWERS = {
    "an offer to change the protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    + BODY,
    "a status below all": said(status=b"099 Odd"),
    "a status above all": said(status=b"600 Odd"),
    "a status of nobody": said(status=b"999 Odd"),
    "a status of four digits": said(status=b"2000 Odd"),
    "a status that is a word": said(status=b"abc Odd"),
    "more than it said": said(length=len(BODY) - 30),
    "two lengths": said(b"content-length: 5"),
    "a length and chunks": said(CHUNKED, body=chunks(BODY)),
    "a chunk without a size": said(CHUNKED, body=BODY, length=0),
    "another transfer coding": said(b"transfer-encoding: gzip, chunked", body=chunks(gzip.compress(BODY)), length=0),
    "no head": BODY,
    "a NUL in a header": said(b"x-a: " + ANSWER.encode() + b"\0b"),
    "a control in a header": said(b"x-a: a\x01" + ANSWER.encode()),
    "a delete in a header": said(b"x-a: a\x7f" + ANSWER.encode()),
    "a bare carriage return": said(b"x-a: a\rset-cookie: " + ANSWER.encode()),
    "a name with a space": said(b"x a: " + ANSWER.encode()),
    "no name": said(b": " + ANSWER.encode()),
    "a name that is none": said(b"x(a): " + ANSWER.encode()),
    "a line without an end": said(b"x-a: " + ANSWER.encode() * 5000),
    "too many headers": said(*[b"x-%d: %b" % (number, ANSWER.encode()) for number in range(1100)]),
}


ELSEWHERE = [pytest.param(path, marks=pytest.mark.slow) for path in ("/v1/messages", "/v1/files")]


@pytest.mark.parametrize("path", ["/v1/chat/completions", *ELSEWHERE])
@pytest.mark.parametrize("odd", NO_ANSWERS)
def test_what_is_no_answer_of_http_is_an_error_that_repeats_nothing_of_it(odd, path, caplog):
    caplog.set_level(logging.DEBUG, "askonce")
    with Tap(lambda _: NO_ANSWERS[odd], hangs_up=True) as tap, serving(tap.url) as running:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}).encode()
        came = raw_call(running.port, request(body, path=f"{path}?key={SECRET}", headers=(KEY,)))
    head, _, told = came.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 502 Bad Gateway", b"HTTP/1.1 200 OK")), head
    if head.startswith(b"HTTP/1.1 502"):
        assert b"does not speak HTTP/1.1" in told or b"closed the connection" in told
        assert "error" in json.loads(told)
        assert ANSWER.encode() not in came
    else:  # it was passed on piece by piece before its end was wrong: what came is cut
        assert path == "/v1/files"
        assert odd in {"more than it said", "a chunk without a size"}
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
    for line in caplog.messages:
        assert SECRET not in line
        assert ANSWER not in line


def test_the_errors_of_a_proxy_on_the_way_repeat_no_password(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "askonce")
    with Tap(lambda _: answer(b"no", "407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@{proxy.host}")
        monkeypatch.setenv("NO_PROXY", "")
        with serving("https://upstream.example") as running:
            came = CLIENT.post(f"{running.url}/v1/chat/completions?key={SECRET}", json={"model": "m", "messages": []})
    assert came.status_code == 502
    assert "the proxy on the way to https://upstream.example refused" in came.text
    assert SECRET not in came.text + caplog.text


EMPTY = {
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "nothing, and its length": b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
    "not changed": b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
    "not changed, and the length of what there is": b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 100\r\n\r\n",
    "to be emptied": b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
@pytest.mark.parametrize("empty", EMPTY)
def test_an_answer_without_a_body_ends_where_its_head_ends(empty, path, caplog):
    caplog.set_level(logging.ERROR)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    one, last = (request(body, path=path, headers=(KEY,), last=last) for last in (False, True))
    with Tap(lambda _: EMPTY[empty]) as tap, serving(tap.url) as running:
        came = raw_call(running.port, one + last)
    assert came.count(b"HTTP/1.1 " + EMPTY[empty][9:12]) == 2
    assert came.endswith(b"\r\n\r\n")
    assert len(tap.heard) == 2
    assert caplog.messages == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nothing_is_said_of_the_length_of_what_only_its_head_was_asked_for(version):
    with Tap(lambda _: b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n") as tap, serving(tap.url) as running:
        asked = f"HEAD /v1/files/x HTTP/{version}\r\nHost: gateway\r\nConnection: close\r\n\r\n"
        came = raw_call(running.port, asked.encode())
    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length" not in came


FIRST = {
    "early hints": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    "go on": b"HTTP/1.1 100 Continue\r\n\r\n",
    "still at it": b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
}


@pytest.mark.parametrize("first", FIRST)
def test_what_comes_before_an_answer_is_no_answer(first):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with Tap(lambda _: FIRST[first] + said()) as tap, serving(tap.url) as running:
        found = [raw_call(running.port, request(body, headers=(KEY,))) for _ in range(2)]
    assert [one.partition(b"\r\n\r\n")[2] for one in found] == [BODY] * 2
    assert b"link:" not in found[0]
    assert b"askonce; hit" in found[1]


UNASKED = {
    "a second answer": said(),
    "half an answer": said()[:40],
    "a balancer's end": b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    "a word before an answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "an empty line": b"\r\n",
    "no answer": b"\0" * 70_000,
    "its end": b"",
}


WITH_AN_ANSWER = [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 Between\r\nx: ", said()[:40], said()[:-1], said()]


def test_what_comes_over_an_idle_connection_is_no_callers_answer():
    def ask(text: str) -> tuple[bytes, int]:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
        came = raw_call(running.port, request(body, headers=(f"Authorization: Bearer sk-{text}",)))
        return came.partition(b"\r\n\r\n")[2], tap.connections

    def says(heard: Heard) -> bytes:
        text = json.loads(heard.body)["messages"][0]["content"].encode()
        more = WITH_AN_ANSWER[int(text.split()[1]) - 1] if text.startswith(b"more") else b""
        return answer(JSON.replace(b"yes", text)) + more

    with Tap(says) as tap, serving(tap.url) as running:
        for number, unasked in enumerate(UNASKED.values(), 1):
            assert ask(f"one {number}") == (JSON.replace(b"yes", b"one %d" % number), number)
            tap.say(unasked)
            assert ask(f"two {number}") == (JSON.replace(b"yes", b"two %d" % number), number + 1)
        before = tap.connections
        for number in range(len(WITH_AN_ANSWER)):
            assert ask(f"more {number + 1}") == (JSON.replace(b"yes", b"more %d" % (number + 1)), before + number)
            assert ask(f"next {number}") == (JSON.replace(b"yes", b"next %d" % number), before + number + 1)
            assert ask(f"then {number}")[1] == before + number + 1


@pytest.mark.parametrize("streams", [False, True], ids=["a file", "a stream"])
def test_a_body_that_goes_wrong_after_its_first_part_is_cut_at_once(streams, caplog):
    caplog.set_level(logging.CRITICAL)
    path = "/v1/chat/completions" if streams else "/v1/files"
    first = b'data: {"choices": [{"index": 0, "delta": {"content": "first"}}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + CHUNKED + b"\r\n\r\n"
    body = json.dumps({"model": "m", "stream": streams, "messages": [{"role": "user", "content": "hi"}]}).encode()
    with Tap(lambda _: head + b"%x\r\n%b\r\n" % (len(first), first)) as tap, serving(tap.url) as running:
        for wrong in (b"zz\r\n\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"\0" * 20):
            with socket.create_connection(("127.0.0.1", running.port), 10) as caller:
                caller.sendall(request(body, path=path, headers=(KEY,)))
                came = b""
                while first not in came:
                    came += caller.recv(65536)
                tap.say(wrong)
                assert not received(caller).endswith(b"0\r\n\r\n")
    assert len(tap.heard) == 4


def test_a_stored_answer_has_no_header_of_the_connection_or_of_the_first_caller():
    lines = b"connection: keep-alive, X-Hop", b"x-hop: 1", b"keep-alive: timeout=5", b"set-cookie: s=1", b"x-kept: 1"
    lines += b"askonce-saved-tokens: 9", b"askonce-saved-usd: 0.1", b"x-ratelimit-remaining: 3", b"via: 1.1 x"
    lines += b"Content-Digest: sha-256=:x:", b"content-md5: x", b"signature: x", b"Authentication-Info: nextnonce=1"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with Tap(lambda _: said(*lines)) as tap, serving(tap.url) as running:
        first, second = (raw_call(running.port, request(body, headers=(KEY,))).partition(b"\r\n\r\n")[0] for _ in "ab")
    ours = {b"content-type", b"content-length", b"cache-status", b"age", b"connection"}
    names = {line.partition(b":")[0] for line in second.split(b"\r\n")[1:]}
    assert b"askonce; hit" in second
    assert names - ours == {b"x-kept"}
    assert {b"set-cookie: s=1", b"askonce-saved-tokens: 9", b"x-kept: 1"} <= set(first.split(b"\r\n"))
    assert b"x-hop" not in first
