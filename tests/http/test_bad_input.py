"""Invalid bodies and responses: the caller sees what it would have seen without askonce."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from askonce import Cache
from tests.http.conftest import CHAT
from tests.http.test_requests import ANSWER, URL, answering
from tests.took import Took

WHOLE = json.dumps(ANSWER).encode()


@contextmanager
def served(*answers: bytes, received: list[bytes] | None = None) -> Iterator[str]:
    """A socket that sends these bytes, one answer a connection, whatever it is asked; and keeps what it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    got = b""
                    while b"\r\n\r\n" not in got or not got.rstrip().endswith(b"}"):
                        got += connection.recv(65536)
                    if received is not None:
                        received.append(got)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/chat/completions"


def http(body: bytes, *lines: str, length: int | None = None) -> bytes:
    named = [f"content-length: {len(body) if length is None else length}", "connection: close", *lines]
    return "\r\n".join(("HTTP/1.1 200 OK", *named, "", "")).encode() + body


def seen(ask: Any) -> tuple[Any, ...]:
    """What a caller gets: an answer, or an error of the module's."""
    try:
        response = ask()
    except Exception as error:
        return type(error).__name__, str(error)
    return response.status_code, response.content


BROKEN = {
    "too short": http(WHOLE, length=len(WHOLE) + 10),
    "too long": http(WHOLE, length=len(WHOLE) - 10),
    "no gzip": http(WHOLE, "content-encoding: gzip"),
    "gzip, cut": http(gzip.compress(WHOLE)[:-20], "content-encoding: gzip"),
    "unknown encoding": http(b"\x1b\x00", "content-encoding: rot13"),
    "no http": b"hello, who is there?\r\n\r\n",
    "nothing": b"",
    "no json": http(b"<html>"),
    "nan": http(b'{"choices": NaN}'),
    "empty": http(b""),
    "a stream nobody asked for": http(b'data: {"choices": []}\n\ndata: [DONE]\n\n', "content-type: text/event-stream"),
    "an error inside": http(b'{"error": {"message": "overloaded", "type": "server_error"}}'),
    "another protocol": http(b'{"type": "message", "content": [], "stop_reason": "end_turn"}'),
    "binary headers": http(WHOLE[:-1], "x-odd: \xe9\xff"),
}


def test_the_bytes_on_the_wire_are_those_that_were_sent_without_askonce(module, cache):
    received: list[bytes] = []
    answer = http(WHOLE)
    ours_alone = {"askonce-scope": "a", "askonce-tags": "t", "cache-control": "max-age=60", "askonce-ttl": "9"}
    said = {"authorization": "Bearer sk-1", "X-Mixed-Case": "1", "x-twice": "a"}
    with served(answer, answer, answer, received=received) as url, module.Client(timeout=9) as bare:
        bare.post(url, json=CHAT, headers=said)
        with cache.http_client(module=module, timeout=9) as ours:
            ours.post(url, json=CHAT, headers=said)
        with cache.http_client(module=module, timeout=9) as ours:
            ours.post(url, json=CHAT, headers={**ours_alone, **said})
    assert received[0] == received[1] == received[2]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_answer_is_given_as_it_is_and_not_stored(module, cache, broken):
    data = BROKEN[broken]
    with served(data, data, data) as url, module.Client() as bare, cache.http_client(module=module) as ours:
        without = seen(lambda: bare.post(url, json=CHAT))
        assert seen(lambda: ours.post(url, json=CHAT)) == without
        assert seen(lambda: ours.post(url, json=CHAT)) == without
    assert cache.stats().get("stored", 0) == 0


def test_a_gzip_answer_is_stored_decoded_and_served_without_its_encoding(module, cache):
    with (
        served(http(gzip.compress(WHOLE), "content-encoding: gzip")) as url,
        cache.http_client(module=module) as client,
    ):
        first, second = client.post(url, json=CHAT), client.post(url, json=CHAT)
        assert first.content == second.content == WHOLE
        assert first.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in second.headers
        assert second.headers["content-length"] == str(len(WHOLE))


def test_an_encoding_that_the_module_cannot_undo_is_left_on(module, cache):
    """Brotli without its package: the bytes and the header that says so stay together."""
    data = b"\x1b\x00 not for us"
    with served(http(data, "content-encoding: br-of-tomorrow")) as url, cache.http_client(module=module) as client:
        response = client.post(url, json=CHAT)
        assert response.content == data
        assert response.headers["content-encoding"] == "br-of-tomorrow"


def test_a_chunked_answer_that_is_cut_is_the_modules_error(module, cache):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    cut = head + b'5\r\n{"id"\r\n'
    with served(cut, cut) as url, module.Client() as bare, cache.http_client(module=module) as ours:
        without = seen(lambda: bare.post(url, json=CHAT))
        assert seen(lambda: ours.post(url, json=CHAT)) == without
    assert without[0] == "RemoteProtocolError"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "model": "n", "messages": []}',
        b'{"model": "m", "seed": 123456789012345678901234567890}',
        b'{"model": "m", "messages": ' + b"[" * 600 + b"]" * 600 + b"}",
        b'\xef\xbb\xbf{"model": "m"}',
        b'{"model": 5, "messages": "no list"}',
        b'{"model": "m", "messages": [], "x": 1e999}',
        b"{}",
    ],
)
def test_an_odd_body_is_asked_as_it_stands_and_raises_nothing(module, cache, body):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner) as client:
        for _ in range(2):
            assert client.post(URL, content=body).content == WHOLE
    assert all(one.body == body for one in inner.requests)
    assert len(inner.requests) in {1, 2}


def test_a_request_of_100_mb_passes_without_being_read_for_its_key(cache, module):
    inner = answering(module)
    body = b'{"model": "m", "messages": "' + b"x" * 100_000_000 + b'"}'
    with cache.watch() as statuses, cache.http_client(module=module, inner=inner) as client:
        request = client.build_request("POST", URL, content=body)
        tracemalloc.start()
        took = Took()
        client.send(request)
        assert took.seconds < 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()
    assert statuses[0].detail == "large-body"


def test_an_answer_of_100_mb_is_given_and_not_stored(module):
    big = json.dumps({**ANSWER, "padding": "x" * 100_000_000}).encode()
    with Cache("memory://") as cache, cache.http_client(module=module, inner=answering(module, big)) as client:
        with cache.watch() as statuses:
            assert len(client.post(URL, json=CHAT).content) == len(big)
        assert statuses[0].detail == "too-large"


def test_a_cache_that_was_closed_lets_its_clients_go_on_without_it(module, caplog):
    inner = answering(module)
    cache = Cache("memory://")
    with cache.http_client(module=module, inner=inner) as client:
        cache.close()
        with cache.watch() as statuses:
            assert client.post(URL, json=CHAT).status_code == 200
            assert client.post(URL, json=CHAT).status_code == 200
    assert [status.detail for status in statuses] == ["CacheClosed"] * 2
    assert len([one for one in caplog.records if "without the cache" in one.message]) == 1


def test_a_store_out_of_reach_costs_nothing_but_the_cache(module):
    inner = answering(module)
    with Cache("redis://127.0.0.1:1/0") as cache, cache.http_client(module=module, inner=inner) as client:
        with cache.watch() as statuses:
            assert client.post(URL, json=CHAT).status_code == 200
        assert statuses[0].detail.startswith("store-")


def test_a_strict_cache_whose_store_is_out_of_reach_answers_503_and_calls_nobody(module):
    inner = answering(module)
    with (
        Cache("redis://127.0.0.1:1/0", strict=True) as cache,
        cache.http_client(module=module, inner=inner) as client,
    ):
        response = client.post(URL, json=CHAT)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "store_unavailable"
    assert response.headers["x-should-retry"] == "false"
    assert inner.requests == []


def test_a_failure_of_our_own_is_the_call_without_us(module, cache, monkeypatch, caplog):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner) as client:
        monkeypatch.setattr(type(cache._base._engine), "ask", lambda *_: 1 / 0)
        assert client.post(URL, json=CHAT).content == WHOLE
    assert "ZeroDivisionError" in caplog.text


def test_an_entry_that_is_no_reply_is_the_call_without_us(module, cache, monkeypatch):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner) as client:
        client.post(URL, json=CHAT)
        monkeypatch.setattr("askonce.http.stored.unpack", lambda _: 1 / 0)
        assert client.post(URL, json=CHAT).content == WHOLE
    assert len(inner.requests) == 2
