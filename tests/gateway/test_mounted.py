"""The gateway in somebody else's application, below a path, on any server of ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from askonce import AsyncCache
from askonce.gateway.app import Gateway
from askonce.gateway.paths import sent_path
from askonce.testing import Provider
from tests.gateway.running import JSON, Tap, config_of

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer sk-1"}


def client(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://host")


async def test_it_answers_below_a_path_of_a_starlette_application():
    with Provider() as provider:
        async with Gateway(config_of(provider.url)) as gateway:
            app = Starlette(routes=[Mount("/llm", Mount("/v2", gateway))])
            async with client(app) as caller:
                first, second = [
                    await caller.post("/llm/v2/v1/chat/completions", json=CHAT, headers=KEY) for _ in range(2)
                ]
                ready = await caller.get("/llm/v2/_askonce/ready")
    assert "fwd=miss; stored" in first.headers["cache-status"]
    assert "hit" in second.headers["cache-status"]
    assert second.content == first.content
    assert ready.json() == {"status": "ready"}
    assert provider.requests[0].target == "/v1/chat/completions"


async def test_it_opens_at_the_first_request_and_shares_a_cache_of_yours_which_it_does_not_close():
    with Provider() as provider:
        async with AsyncCache("memory://") as cache:
            gateway = Gateway(config_of(provider.url), cache=cache)
            async with client(gateway) as caller:
                assert (await caller.post("/v1/chat/completions", json=CHAT, headers=KEY)).status_code == 200
            await gateway.aclose()
            assert cache.stats()["stored"] == 1
            assert await cache.get_or_set([], "m", lambda: asyncio.sleep(0, "still open")) == "still open"


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_stream_is_sent_part_by_part_and_ends_when_the_caller_leaves(pieces):
    with Provider() as provider:
        async with Gateway(config_of(provider.url)) as gateway, client(gateway) as caller:
            came = await caller.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=KEY)
            assert came.content.endswith(b"data: [DONE]\n\n")
            sent: list[dict[str, Any]] = []
            parts: Iterator[dict[str, Any]] = iter(
                [{"type": "http.request", "body": b"{}", "more_body": more > 1} for more in range(pieces, 0, -1)]
            )
            left, two = asyncio.Event(), asyncio.Event()

            async def receive() -> dict[str, Any]:
                if (part := next(parts, None)) is not None:
                    return part
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)
                if len(sent) == 2:
                    two.set()

            with Tap() as hanging:
                hanging.says = lambda _: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
                gateway.reload(config_of(hanging.url))
                scope = {
                    "type": "http",
                    "method": "GET",
                    "path": "/x",
                    "query_string": b"",
                    "headers": [(b"host", b"h")],
                }
                task = asyncio.create_task(gateway(scope, receive, send))
                await asyncio.wait_for(two.wait(), 10)
                assert sent[1]["body"] == b"a"
                left.set()
                await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
@pytest.mark.parametrize("pieces", [[b""], [json.dumps(CHAT).encode()], [b"", b'{"model":', b"", b'"m"}']])
async def test_a_body_of_http_2_that_nothing_announces_arrives_upstream(path, pieces):
    with Tap() as tap:
        async with Gateway(config_of(tap.url)) as gateway:
            status = await sent_as(gateway, path, pieces)
    assert [heard.body for heard in tap.heard] == [b"".join(pieces)]
    assert status == 200


async def sent_as(app: Any, path: str, pieces: list[bytes], *headers: tuple[bytes, bytes]) -> int:
    """The status of the answer to a request that a server hands over in these pieces."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    messages[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "2", "method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": [(b"host", b"h"), *headers]}
    await asyncio.wait_for(app(scope, receive, send), 10)
    return int(sent[0]["status"])


BODY = json.dumps(CHAT).encode()
TRUE, LESS, MORE = ((b"content-length", b"%d" % (len(BODY) + more)) for more in (0, -4, 4))
CHUNKED = (b"transfer-encoding", b"chunked")
LENGTHS = {  # servers differ in what they let through, and what stands before the gateway may change bodies
    "chunks and less": ([CHUNKED, LESS], 200),
    "more and chunks": ([MORE, CHUNKED], 200),
    "twice the same": ([TRUE, TRUE], 200),
    "with a zero": ([(TRUE[0], b"0" + TRUE[1])], 200),
    "less": ([LESS], 400),
    "more": ([MORE], 400),
    "the truth and less": ([TRUE, LESS], 400),
    "more and the truth": ([MORE, TRUE], 400),
    "the truth, another, and the truth": ([TRUE, MORE, TRUE], 400),
    "a list": ([(TRUE[0], TRUE[1] + b", " + TRUE[1])], 400),
    "a sign": ([(TRUE[0], b"+" + TRUE[1])], 400),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_a_body_arrives_as_long_as_its_head_says_or_not_at_all(path):
    with Tap() as tap:
        async with Gateway(config_of(tap.url)) as gateway:
            for said, (headers, status) in LENGTHS.items():
                for pieces in ([BODY], [BODY[:9], BODY[9:-2], b"", BODY[-2:]]):
                    found = await sent_as(gateway, path, pieces, *headers, (b"x-said", said.encode()))
                    assert found == status, (said, pieces)
            assert await sent_as(gateway, path, [BODY], TRUE, (b"x-said", b"last")) == 200
            for target in (f"{path}#", f"{path}#/x"):
                assert await sent_as(gateway, target, [BODY], TRUE) == 400
    for heard in tap.heard:
        assert heard.body == BODY
        assert sum(name.lower() in {TRUE[0], CHUNKED[0]} for name, _ in heard.headers) == 1, heard.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_a_body_over_the_limit_is_refused_in_whatever_pieces_it_comes(path):
    large = b" " * 101
    with Tap() as tap:
        async with Gateway(config_of(tap.url, limits_body=100, limits_buffer=50)) as gateway:
            for pieces in ([large], [large, b""], [b"", large], [large[:60], large[60:]], [large[:100], b"", b" "]):
                for headers in ([], [CHUNKED], [(b"content-length", b"101")]):
                    assert await sent_as(gateway, path, pieces, *headers) == 413, (pieces, headers)
            assert await sent_as(gateway, path, [large[1:]], CHUNKED) == 200
    assert [len(heard.body) for heard in tap.heard] == [100]


async def test_a_middleware_finds_the_headers_of_an_answer():
    odd = b"HTTP/1.1 200 OK\r\nContent-TYPE: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(JSON), JSON)
    with Tap(lambda _: odd) as tap:
        async with Gateway(config_of(tap.url)) as gateway:
            app = GZipMiddleware(gateway, minimum_size=1)
            async with client(app) as caller:
                for path in ("/v1/files", "/v1/chat/completions", "/v1/chat/completions"):
                    came = await caller.post(path, json=CHAT, headers=KEY)
                    assert came.content == JSON
                    assert str(len(JSON)) not in came.headers.get_list("content-length")


async def test_a_websocket_is_refused_and_a_lifespan_is_lived():
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "websocket.connect"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    gateway = Gateway(config_of("http://127.0.0.1:9"))
    await gateway({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    await gateway({"type": "lifespan"}, receive, send)
    kinds = [message["type"] for message in sent]
    assert kinds == ["websocket.close", "lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b"}, "/a%20b"),
        ({"path": "/a b"}, "/a%20b"),
        ({"path": "/m/a b", "root_path": "/m", "raw_path": b"/m/a%20b"}, "/a%20b"),
        ({"path": "/m/a b", "root_path": "/m", "raw_path": b"/a%20b"}, "/a%20b"),  # servers that leave the root out
        ({"path": "/a b", "root_path": "/m", "raw_path": b"/m/a%20b"}, "/a%20b"),  # and of the path alone
        ({"path": "/m", "root_path": "/m", "raw_path": b"/m"}, "/"),
        ({"path": "/m/", "root_path": "/m/", "raw_path": b"/m/"}, "/"),
        ({"path": "/mx/a", "root_path": "/m", "raw_path": b"/mx/a"}, "/mx/a"),
        ({"path": "/x/y", "root_path": "", "raw_path": b"/x%2Fy"}, "/x%2Fy"),
        ({"path": "/é", "root_path": ""}, "/%C3%A9"),
        ({"path": "/a", "root_path": "", "raw_path": b"/a?b=c"}, "/a"),
    ],
)
def test_the_path_is_read_as_it_was_sent_whatever_the_server_says_of_its_root(scope, path):
    assert sent_path({"root_path": "", **scope}) == path
