"""A caller's own answer, part by part: what is kept of it, what happens if it breaks, and who gets the rest."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import threading
from typing import Any

import openai
import pytest

from askonce import AsyncCache, Cache
from tests.http.conftest import CHAT
from tests.http.desk import Desk, embed
from tests.http.streams.talking import wait_until
from tests.http.test_handed_on import JSON, SSE, answer, cut
from tests.http.test_requests import ANSWER
from tests.http.wires import Script, transport

URL = "http://api.example/v1/chat/completions"
STREAM = {**CHAT, "stream": True}
ODD = [b"X-B: 1", b"x-a: 2", b"Set-Cookie: a=1", b"X-B: 3", b"Server: Edge", b"Set-Cookie: b=2", b"Age: 7"]


def asked(module: Any, script: Script, request: Any, *, asynchronous: bool, times: int = 1) -> list[Any]:
    """The responses to one request, asked so often of one cache, read."""
    if asynchronous:
        return asyncio.run(_aasked(module, script, request, times))
    inner = transport(module, script, asynchronous=False)
    with Cache("memory://") as cache, cache.http_client(module=module, inner=inner) as client:
        return [_alike(client).post(URL, json=request) for _ in range(times)]


async def _aasked(module: Any, script: Script, request: Any, times: int) -> list[Any]:
    inner = transport(module, script, asynchronous=True)
    async with AsyncCache("memory://") as cache, cache.http_client(module=module, inner=inner) as client:
        return [await _alike(client).post(URL, json=request) for _ in range(times)]


def _alike(client: Any) -> Any:
    """A client that sends no cookie back, which would make another question."""
    client.cookies.clear()
    return client


def of(*, encoding: str = "none", framing: str = "its length", stream: bool = False) -> tuple[Script, Any]:
    """A script, and the request it answers."""
    data = answer(b"200 OK", ODD, encoding, framing, SSE if stream else JSON)
    return Script(cut(data, 60)), STREAM if stream else CHAT


both_modes = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
both_forms = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@both_modes
@both_forms
def test_headers_keep_their_order_their_case_and_their_number_on_a_miss(module, asynchronous, stream):
    (response,) = asked(module, *of(stream=stream), asynchronous=asynchronous)
    names = [name for name, _ in response.headers.raw]
    assert names[:-2] == [line.partition(b":")[0] for line in ODD]
    assert names[-2:] == [b"Content-Length", b"cache-status"]
    assert response.headers["age"] == "7"


@both_modes
@both_forms
def test_a_length_is_neither_invented_nor_lost_on_a_miss(module, asynchronous, stream):
    (with_length,) = asked(module, *of(stream=stream), asynchronous=asynchronous)
    (without,) = asked(module, *of(framing="until it hangs up", stream=stream), asynchronous=asynchronous)
    assert with_length.headers["content-length"] == str(len(SSE if stream else JSON))
    assert "content-length" not in without.headers


@both_modes
@both_forms
def test_encodings_of_the_content_and_of_the_transfer_are_kept_on_a_miss_and_gone_on_a_hit(
    module, asynchronous, stream
):
    script = of(encoding="gzip", framing="chunked", stream=stream)
    miss, hit = asked(module, *script, asynchronous=asynchronous, times=2)
    assert (miss.headers["content-encoding"], miss.headers["transfer-encoding"]) == ("gzip", "chunked")
    assert not {"content-encoding", "transfer-encoding"} & hit.headers.keys()
    assert miss.content == hit.content == (SSE if stream else JSON)
    assert miss.num_bytes_downloaded == len(gzip.compress(SSE if stream else JSON))


@both_modes
@both_forms
def test_the_connection_that_an_answer_came_by_is_at_hand_on_a_miss_and_not_on_a_hit(module, asynchronous, stream):
    miss, hit = asked(module, *of(stream=stream), asynchronous=asynchronous, times=2)
    assert miss.extensions["network_stream"].get_extra_info("server_addr") == ("192.0.2.1", 80)
    assert miss.extensions["http_version"] == b"HTTP/1.1"
    assert hit.extensions == {}


@both_modes
def test_what_differs_on_a_hit_is_what_the_docs_say(module, asynchronous):
    """The table of docs/sdks.md."""
    miss, hit = asked(module, *of(encoding="gzip"), asynchronous=asynchronous, times=2)
    kept = [pair for pair in miss.headers.raw if pair[0] in {b"X-B", b"x-a", b"Server"}]
    assert hit.headers.raw[: len(kept)] == kept
    added = [name for name, _ in hit.headers.raw[len(kept) :]]
    assert added == [b"content-length", b"cache-status", b"age"]
    assert (hit.status_code, hit.content, hit.http_version, hit.reason_phrase) == (200, JSON, "HTTP/1.1", "OK")


# --- what is broken ---


class Closing:
    """A body that says when it was closed."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.closed = threading.Event()
        self.begins: threading.Event | None = None

    def __iter__(self) -> Any:
        assert self.begins is None or self.begins.wait(60)
        yield from self.parts

    async def __aiter__(self) -> Any:
        for part in self.parts:
            yield part

    def close(self) -> None:
        self.closed.set()

    async def aclose(self) -> None:
        self.closed.set()


def closing(module: Any, *parts: bytes) -> Any:
    return type("Body", (Closing, module.SyncByteStream, module.AsyncByteStream), {})(*parts)


def broken(module: Any, bodies: list[Any], gate: threading.Event | None = None, begins: Any = None) -> Any:
    """A transport whose answers say that they are gzip and are not."""

    def answering(_: Any) -> Any:
        if gate is not None:
            assert gate.wait(60)
        bodies.append(closing(module, b"this is", b" no gzip"))
        bodies[-1].begins = begins
        return module.Response(200, headers={"content-encoding": "gzip"}, stream=bodies[-1])

    return module.MockTransport(answering)


@both_forms
def test_a_body_that_cannot_be_decoded_is_closed_upstream_when_its_reader_gets_the_error(module, cache, stream):
    bodies: list[Any] = []
    with cache.http_client(module=module, inner=broken(module, bodies)) as client:
        for asking in range(2):
            with client.stream("POST", URL, json=STREAM if stream else CHAT) as response:
                with pytest.raises(module.DecodingError) as error:
                    list(response.iter_bytes())
                assert error.value.request.url == URL
                if module.__name__ == "httpx2":  # httpx leaves the response open until its block ends
                    assert response.is_closed
                    assert bodies[asking].closed.is_set()
            assert response.is_closed
            assert bodies[asking].closed.is_set()
        assert cache.stats().get("stored", 0) == cache.stats()["flights"] == 0


@both_forms
async def test_the_same_in_async_mode(module, stream):
    bodies: list[Any] = []
    async with (
        AsyncCache("memory://") as cache,
        cache.http_client(module=module, inner=broken(module, bodies)) as client,
    ):
        for asking in range(2):
            async with client.stream("POST", URL, json=STREAM if stream else CHAT) as response:
                with pytest.raises(module.DecodingError):
                    _ = [part async for part in response.aiter_bytes()]
                if module.__name__ == "httpx2":
                    assert response.is_closed
                    assert bodies[asking].closed.is_set()
            assert bodies[asking].closed.is_set()
        assert cache.stats().get("stored", 0) == cache.stats()["flights"] == 0


@both_forms
def test_its_raw_bytes_are_to_be_had_to_the_end(module, cache, stream):
    """Some servers say gzip and send text: who knows it reads around the decoder."""
    with (
        cache.http_client(module=module, inner=broken(module, [])) as client,
        client.stream("POST", URL, json=STREAM if stream else CHAT) as response,
    ):
        assert b"".join(response.iter_raw()) == b"this is no gzip"


@pytest.mark.concurrency
@both_forms
def test_who_waits_for_a_body_that_cannot_be_decoded_gets_the_same_error_of_his_own_module(module, cache, stream):
    import httpx
    import httpx2

    bodies: list[Any] = []
    gate, begins = threading.Event(), threading.Event()
    errors: list[Any] = []

    def ask(client: Any) -> None:
        try:
            client.post(URL, json=STREAM if stream else CHAT)
        except Exception as error:
            errors.append(error)

    inner = broken(module, bodies, gate, begins)
    other = httpx if module is httpx2 else httpx2
    with contextlib.ExitStack() as clients:
        first = clients.enter_context(cache.http_client(module=module, inner=inner))
        second = clients.enter_context(cache.http_client(module=other, inner=broken(other, bodies, gate)))
        threads = [threading.Thread(target=ask, args=(client,)) for client in (first, second)]
        threads[0].start()
        wait_until(cache._base._engine.board.flights)
        threads[1].start()
        wait_until(lambda: cache._base._engine.board.flights()[0].followers)
        (flight,) = cache._base._engine.board.flights()
        gate.set()
        if stream:  # a stream that is not kept is dropped as it is read, so both have their places before it begins
            wait_until(lambda: flight.pump is not None and flight.pump.tape.readers == 2)
        begins.set()
        for thread in threads:
            thread.join(60)
    assert {type(error) for error in errors} == {module.DecodingError, other.DecodingError}
    assert len(bodies) == 1


def test_an_sdk_that_streams_a_raw_response_meets_the_error_where_it_reads(cache):
    """OpenAI's own test of this, in short."""
    import httpx2

    bodies: list[Any] = []
    with cache.http_client(module=httpx2, inner=broken(httpx2, bodies)) as http:
        sdk = openai.OpenAI(api_key="k", base_url="http://api.example/v1", http_client=http, max_retries=0)
        with sdk.chat.completions.with_streaming_response.create(**CHAT) as response:
            with pytest.raises(httpx2.DecodingError):
                list(response.iter_bytes())
            assert bodies[0].closed.is_set()


def test_an_error_that_no_module_knows_in_a_batch_is_handed_on_and_not_paid_again(module, cache):
    class Odd(Closing):
        def __iter__(self) -> Any:
            yield b'{"da'
            raise ZeroDivisionError

    desk = Desk(module)
    desk.answer = lambda request: module.Response(200, stream=type("Odd", (Odd, module.SyncByteStream), {})())
    with cache.http_client(module=module, inner=desk) as client, pytest.raises(ZeroDivisionError):
        embed(client, ["a", "b"])
    assert len(desk.requests) == 1


# --- responses that were read before they came here ---


@both_forms
def test_an_answer_that_its_transport_has_read_is_handed_on_as_it_is_and_kept(module, cache, stream):
    made: list[Any] = []

    def answering(_: Any) -> Any:
        made.append(module.Response(200, headers={"X-Odd": "1"}, content=SSE if stream else JSON))
        return made[-1]

    with cache.http_client(module=module, inner=module.MockTransport(answering)) as client:
        miss = client.post(URL, json=STREAM if stream else CHAT)
        hit = client.post(URL, json=STREAM if stream else CHAT)
    assert miss is made[0]
    assert len(made) == 1
    assert miss.content == hit.content
    assert "askonce; hit" in hit.headers["cache-status"]


def test_a_body_of_the_wrong_kind_is_its_clients_to_refuse(module, cache):
    def answering(_: Any) -> Any:
        return module.Response(200, content=(part async for part in closing(module, b"x")))

    with module.Client(transport=module.MockTransport(answering)) as bare, pytest.raises(AssertionError):
        bare.post(URL, json=CHAT)
    with (
        cache.http_client(module=module, inner=module.MockTransport(answering)) as client,
        pytest.raises(AssertionError),
    ):
        client.post(URL, json=CHAT)
    assert cache.stats()["flights"] == 0


@both_modes
def test_what_an_edge_says_of_its_own_cache_stays_before_what_we_say(module, asynchronous):
    data = answer(b"200 OK", [b"Cache-Status: edge; hit"], "none", "its length", json.dumps(ANSWER).encode())
    (response,) = asked(module, Script((data,)), CHAT, asynchronous=asynchronous)
    said = response.headers.get_list("cache-status")
    assert said[0] == "edge; hit"
    assert said[1].startswith("askonce; fwd=miss; stored")


def test_a_transport_behind_ours_finds_the_body_at_hand_also_where_our_headers_were_taken_off(module, cache):
    class Signing(module.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            signed.append((request.content, list(request.headers.raw)))
            return module.Response(200, json=ANSWER)

    signed: list[Any] = []
    with cache.http_client(module=module, inner=Signing()) as client:
        client.post(URL, json=CHAT)
        client.post(URL, json=CHAT, headers={"askonce-scope": "a"})
    assert signed[0] == signed[1]
    assert json.loads(signed[0][0]) == CHAT


class Private(dict[str, object]):
    """What an application keeps for itself."""

    def values(self) -> Any:
        raise AssertionError("looked through")


def test_what_an_application_keeps_in_its_clients_and_transports_is_not_looked_through(module, cache):
    inner = module.MockTransport(lambda _: module.Response(200, json=ANSWER))
    inner.history = Private(nested={"large": [object()]})
    inner.mine = type("Odd", (), {"__getattr__": lambda self, name: 1 / 0})()
    with cache.http_client(module=module, inner=inner) as client, cache.watch() as seen:
        for _ in range(2):
            assert client.post("https://api.example/v1/chat/completions", json=CHAT).json() == ANSWER
    assert [status.hit for status in seen] == [False, True]


def test_a_request_that_we_fail_to_read_goes_upstream_without_us(module, cache, monkeypatch, caplog):
    inner = module.MockTransport(lambda request: module.Response(200, json=dict(request.headers)))
    with cache.http_client(module=module, inner=inner) as client, cache.watch() as seen:
        monkeypatch.setattr(client._transport.rules, "read", lambda _: 1 / 0)
        for _ in range(2):
            got = client.post(URL, json=CHAT, headers={"askonce-scope": "a", "x-mine": "b"}).json()
    assert got["x-mine"] == "b"
    assert "askonce-scope" not in got
    assert [(status.fwd, status.detail) for status in seen] == [("bypass", "ZeroDivisionError")] * 2
    assert caplog.text.count("a call went upstream without the cache") == 1
