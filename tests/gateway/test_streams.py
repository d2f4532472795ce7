"""Streams through the gateway: one call for all who ask, whoever leaves, and every byte as upstream sent it."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import CLIENT, Heard, Running, Tap, answer, raw_call, read_until, received, request, serving

KEY = {"authorization": "Bearer sk-1"}


def asked(question: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": question}], **more}


def read(running: Running, question: str) -> tuple[str, bytes]:
    with CLIENT.stream(
        "POST", f"{running.url}/v1/chat/completions", json=asked(question), headers=KEY, timeout=30
    ) as came:
        return came.headers["cache-status"], came.read()


def open_stream(running: Running, question: str) -> socket.socket:
    """A caller that has read the first part of its stream."""
    caller = socket.create_connection(("127.0.0.1", running.port), 20)
    headers = ("Authorization: Bearer sk-1", "Content-Type: application/json")
    caller.sendall(request(json.dumps(asked(question)).encode(), headers=headers))
    read_until(caller, b"data: ")
    return caller


def test_callers_that_ask_at_once_share_one_call_and_each_gets_every_byte():
    with Provider() as provider, serving(provider.url) as running, ThreadPoolExecutor(20) as pool:
        provider.script("shared", Step(hang=True, after=2))
        found = [pool.submit(read, running, "shared") for _ in range(20)]
        eventually(lambda: running.gateway.cache.stats().get("collapsed", 0) == 19, "all others share the call")
        provider.release("shared")
        came = [one.result(60) for one in found]
        assert provider.paid("shared") == 1
        status, later = read(running, "shared")
    assert len({body for _, body in came}) == 1
    assert sum("collapsed" in said for said, _ in came) == 19
    assert "hit" in status
    assert later == came[0][1]
    assert later.endswith(b"data: [DONE]\n\n")


def test_parts_reach_the_caller_as_they_come_and_not_at_the_end():
    with Provider() as provider, serving(provider.url) as running:
        provider.script("slow", Step(hang=True, after=3))
        caller = open_stream(running, "slow")  # while the fourth event is still to come
        provider.release("slow")
        assert received(caller).rstrip().endswith(b"0")
        caller.close()


def test_a_stream_is_finished_and_stored_although_its_only_caller_left():
    with Provider() as provider, serving(provider.url) as running:
        provider.script("left", Step(hang=True, after=2))
        open_stream(running, "left").close()
        eventually(lambda: not running.server.server_state.tasks, "the request ends")
        provider.release("left")
        eventually(lambda: running.gateway.cache.stats().get("stored", 0) == 1, "it is stored")
        assert "hit" in read(running, "left")[0]
        assert provider.paid("left") == 1


def test_who_pays_may_leave_and_the_others_read_on():
    with Provider() as provider, serving(provider.url) as running, ThreadPoolExecutor(1) as pool:
        provider.script("shared", Step(hang=True, after=2))
        payer = open_stream(running, "shared")
        other = pool.submit(read, running, "shared")
        eventually(lambda: running.gateway.cache.stats().get("collapsed", 0) == 1, "the other one shares the call")
        payer.close()
        provider.release("shared")
        assert other.result(60)[1].endswith(b"data: [DONE]\n\n")
        assert provider.paid("shared") == 1


def test_a_caller_that_leaves_before_the_answer_begins_loses_nothing_for_the_next_one():
    with Provider() as provider, serving(provider.url) as running:
        provider.script("whole", Step(hang=True))
        body = json.dumps({**asked("whole"), "stream": False}).encode()
        caller = socket.create_connection(("127.0.0.1", running.port), 20)
        caller.sendall(request(body, headers=("Authorization: Bearer sk-1",)))
        provider.wait_until_paid("whole")
        caller.close()
        eventually(lambda: running.gateway.cache.stats().get("abandoned", 0) == 1, "nobody waits for it")
        provider.release("whole")
        came = CLIENT.post(f"{running.url}/v1/chat/completions", content=body, headers=KEY)
        assert came.status_code == 200
        assert provider.paid("whole") == 1


@pytest.mark.parametrize("pieces", [(), (b"all of it",), (b"a part", b" and the rest")])
def test_upstream_is_left_at_once_when_the_caller_of_an_uncached_request_leaves(pieces):
    def says(heard: Heard) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"

    with Tap(says) as tap, serving(tap.url) as running:
        caller = socket.create_connection(("127.0.0.1", running.port), 20)
        body = b"".join(pieces)
        caller.sendall(request(body, path="/v1/events").removesuffix(body))
        for piece in pieces:
            caller.sendall(piece)
            eventually(lambda: tap.connections, "it goes upstream before the next piece comes")
        assert b"HTTP/1.1 200" in caller.recv(4096)
        caller.close()
        eventually(lambda: not running.server.server_state.tasks, "the request ends")


def test_an_answer_that_upstream_cuts_is_cut_for_its_payer_and_its_followers_and_never_stored():
    cut = answer(b'{"id": "x"', headers={"content-length": "5000"})
    with Tap(lambda _: cut, hangs_up=True) as tap, serving(tap.url) as running:
        for _ in range(2):
            with pytest.raises(httpx2.RemoteProtocolError):
                CLIENT.post(
                    f"{running.url}/v1/chat/completions", json={**asked("x"), "stream": False}, headers=KEY, timeout=10
                )
    assert len(tap.heard) == 2


def test_a_caller_of_http_1_0_gets_a_stream_of_known_length():
    raw = request(json.dumps(asked("old")).encode(), headers=("Authorization: Bearer sk-1",))
    with Provider() as provider, serving(provider.url) as running:
        for _ in range(2):
            head, _, body = raw_call(running.port, raw.replace(b"HTTP/1.1", b"HTTP/1.0")).partition(b"\r\n\r\n")
            assert b"transfer-encoding" not in head
            assert f"content-length: {len(body)}".encode() in head
            assert body.endswith(b"data: [DONE]\n\n")
