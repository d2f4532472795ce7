"""What a request leaves behind in a gateway: nothing that waits for long for the garbage collector."""

from __future__ import annotations

import gc
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from askonce.gateway.collector import collector
from askonce.gateway.wire import Request
from tests.gateway.running import Heard, Tap, answer, raw_call, request, serving

REQUESTS = 12
BODY = 100_000  # bytes
STREAM = b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[]}\n\ndata: [DONE]\n\n'


@contextmanager
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def says(heard: Heard) -> bytes:
    return answer(STREAM, kind="text/event-stream") if json.loads(heard.body).get("stream") else answer()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_what_was_a_request_is_freed_when_its_connection_brings_the_next_one(stream, same):
    with uncollected(), Tap(says) as tap, serving(tap.url) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        for number in range(REQUESTS):
            said = {"role": "user", "content": "same" if same else str(number)}
            body = json.dumps({"model": "m", "stream": stream, "messages": [said]})
            connection.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer sk-a"})
            assert connection.getresponse().read()
        held = [one for one in gc.get_objects() if type(one).__name__ == "RequestResponseCycle"]
        connection.close()
    assert len(held) <= 2


def test_bodies_of_failed_calls_that_only_the_collector_frees_are_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(collector, "used", True)
    monkeypatch.setattr("askonce.gateway.collector.EVERY", 4 * BODY)
    with uncollected(), Tap(lambda _: b"") as tap, serving(tap.url) as running:
        for number in range(REQUESTS):
            said = {"role": "user", "content": f"{number}".zfill(BODY)}
            body = json.dumps({"model": "m", "messages": [said]})
            found = raw_call(running.port, request(body.encode(), headers=("Authorization: Bearer sk-a",)))
            assert found.startswith(b"HTTP/1.1 502")
        held = [one for one in gc.get_objects() if type(one) is Request]
    assert len(held) < REQUESTS * 2 // 3
