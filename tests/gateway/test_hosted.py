"""The gateway in applications of Starlette and FastAPI, on their own server: as the pages print it, and as people do it."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi
import httpx2
import openai
import orjson
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from askonce.gateway.app import Gateway
from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import CLIENT, Tap, config_of, read_until, request
from tests.hosted import served

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
PRINTED = [
    code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if "lifespan" in code
]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer sk-1"}

Make = Callable[[Gateway, Any], Any]


def of_starlette(gateway: Gateway, lifespan: Any) -> Any:
    async def own(_: Any) -> Any:
        return PlainTextResponse("the host's")

    return Starlette(routes=[Route("/own", own), Mount("/llm", gateway)], lifespan=lifespan)


def of_fastapi(gateway: Gateway, lifespan: Any) -> Any:
    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/own", response_class=fastapi.responses.PlainTextResponse)
    async def own() -> str:
        return "the host's"

    app.mount("/llm", gateway)
    return app


def within_fastapi(gateway: Gateway, lifespan: Any) -> Any:
    """In an application that is mounted in another."""
    outer = fastapi.FastAPI(lifespan=lifespan)
    inner = fastapi.FastAPI()
    inner.mount("/llm", gateway)
    outer.mount("/api", inner)
    return outer


MAKES = pytest.mark.parametrize("make", [of_starlette, of_fastapi])


class Hosted:
    """An application that counts the requests that it has not answered yet; `url`: its address."""

    def __init__(self, app: Any, gateway: Gateway) -> None:
        self.gateway = gateway
        self.under_way = 0
        self.url = ""
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.under_way += scope["type"] == "http"
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= scope["type"] == "http"


@contextlib.contextmanager
def hosted(make: Make, *upstreams: str, root_path: str = "", **more: Any) -> Iterator[Hosted]:
    """An application with a gateway in it."""
    gateway = Gateway(config_of(*upstreams, **more))

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> Any:
        async with gateway:
            yield

    host = Hosted(make(gateway, lifespan), gateway)
    with served(host, root_path=root_path) as host.url:
        yield host


@pytest.mark.parametrize("code", PRINTED, ids=lambda code: "fastapi" if "fastapi" in code else "starlette")
def test_an_application_of_the_page_answers_an_sdk_as_printed(code, tmp_path):
    with Provider() as provider:
        code = code.replace("https://api.openai.com", provider.url)
        code = code.replace("redis://localhost:6379/0", f"sqlite:///{tmp_path}/answers.db")
        found: dict[str, Any] = {}
        exec(code, found)
        with served(found["app"]) as url, openai.OpenAI(base_url=f"{url}/llm/v1", api_key="k", max_retries=0) as client:
            said = [client.chat.completions.create(**CHAT) for _ in range(2)]
            parts = [list(client.chat.completions.create(**CHAT, stream=True)) for _ in range(2)]
    assert said[0] == said[1]
    assert parts[0] == parts[1]
    assert provider.paid("hi") == 2  # whole, and as a stream
    assert len(PRINTED) == 2


def sent(host: Hosted, asked: dict[str, Any]) -> socket.socket:
    """A connection over which that was asked, whose caller leaves when it likes."""
    caller = socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2])), 20)
    path = "/llm/v1/chat/completions"
    caller.sendall(request(orjson.dumps(asked), path=path, headers=("Authorization: Bearer sk-1",)))
    return caller


@MAKES
def test_what_is_behind_the_path_is_the_gateways_and_all_else_the_hosts(make):
    with Provider() as provider, hosted(make, f"/openai={provider.url}") as host:
        asked = [CLIENT.post(f"{host.url}/llm/openai/v1/chat/completions", json=CHAT, headers=KEY) for _ in range(2)]
        ready, own = CLIENT.get(f"{host.url}/llm/_askonce/ready"), CLIENT.get(f"{host.url}/own")
        unknown, outside = (
            CLIENT.get(f"{host.url}/llm/x"),
            CLIENT.post(f"{host.url}/v1/chat/completions", json=CHAT, headers=KEY),
        )
        admin = CLIENT.get(f"{host.url}/llm/_askonce/api/stats")
    assert ["fwd=miss; stored" in asked[0].headers["cache-status"], "hit" in asked[1].headers["cache-status"]] == [
        True
    ] * 2
    assert (ready.json(), own.text) == ({"status": "ready"}, "the host's")
    assert (unknown.status_code, outside.status_code, admin.status_code) == (404, 404, 404)
    assert unknown.json()["error"]["code"] == "unknown_path"
    assert provider.requests[0].target == "/v1/chat/completions"


def test_a_gateway_in_an_application_in_another_behind_a_proxy_that_takes_a_path_off_finds_its_path():
    with Tap() as tap, hosted(within_fastapi, tap.url, root_path="/behind") as host:
        for path in ("/v1/files/a%2Fb//c?q=%20", "/v1/models"):
            assert CLIENT.get(f"{host.url}/api/llm{path}").status_code == 200
    assert [heard.line.split()[1] for heard in tap.heard] == [b"/v1/files/a%2Fb//c?q=%20", b"/v1/models"]


@MAKES
def test_bodies_arrive_byte_for_byte_and_errors_of_upstream_are_not_the_hosts(make):
    body = b'{ "model":"m",\n "messages":[{"role":"user","content":"\\u00e9"}] }'
    with Tap() as tap, Provider() as provider, hosted(make, f"/a={tap.url}", f"/b={provider.url}") as host:
        CLIENT.post(
            f"{host.url}/llm/a/v1/chat/completions", content=body, headers={**KEY, "X-A": "1", "askonce-scope": "s"}
        )
        provider.script("hi", Step(status=429, headers={"retry-after": "7"}))
        refused = CLIENT.post(f"{host.url}/llm/b/v1/chat/completions", json=CHAT, headers=KEY)
    assert tap.heard[0].body == body
    assert not [name for name, _ in tap.heard[0].headers if name.lower().startswith(b"askonce-")]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")


@MAKES
def test_a_stream_comes_part_by_part_and_is_stored_although_its_caller_left(make):
    with Provider() as provider, hosted(make, provider.url) as host:
        provider.script("hi", Step(hang=True, after=2))
        asked = httpx2.Request(
            "POST", f"{host.url}/llm/v1/chat/completions", json={**CHAT, "stream": True}, headers=KEY
        )
        with sent(host, {**CHAT, "stream": True}) as caller:
            read_until(caller, b"data: ")  # while the rest is still to come
        eventually(lambda: not host.under_way, "the request ends")
        provider.release("hi")
        eventually(lambda: host.gateway.cache.stats().get("stored", 0) == 1, "it is stored")
        assert "hit" in CLIENT.send(asked).headers["cache-status"]
    assert provider.paid("hi") == 1


@MAKES
def test_the_end_of_the_host_finishes_a_call_that_nobody_waits_for(make, tmp_path):
    store = f"sqlite:///{tmp_path}/answers.db"
    with Provider() as provider:
        provider.script("hi", Step(delay=1.0))
        with hosted(make, provider.url, store=store) as host, sent(host, CHAT):
            eventually(lambda: provider.calls == 1, "it is asked")
        with hosted(make, provider.url, store=store) as host:
            came = CLIENT.post(f"{host.url}/llm/v1/chat/completions", json=CHAT, headers=KEY)
    assert "hit" in came.headers["cache-status"]
    assert provider.paid("hi") == 1


@MAKES
def test_an_answer_that_upstream_cuts_is_cut_for_the_hosts_caller_too(make, caplog):
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{"
    with Tap(lambda _: cut, hangs_up=True) as tap, hosted(make, tap.url) as host:
        with pytest.raises(httpx2.RemoteProtocolError):
            CLIENT.post(f"{host.url}/llm/v1/chat/completions", json=CHAT, headers=KEY)
        with pytest.raises(httpx2.RemoteProtocolError):
            CLIENT.get(f"{host.url}/llm/v1/models")


@MAKES
def test_the_hosts_own_middleware_may_stand_around_it(make):
    def guarded(gateway: Gateway, lifespan: Any) -> Any:
        app = make(gateway, lifespan)
        app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])

        async def named(asked: Any, call_next: Any) -> Any:
            came = await call_next(asked)
            came.headers["x-host"] = "seen"
            return came

        app.add_middleware(BaseHTTPMiddleware, dispatch=named)
        return app

    with Provider() as provider, hosted(guarded, provider.url) as host:
        target, origin = f"{host.url}/llm/v1/chat/completions", {"origin": "https://app.example"}
        allowed = CLIENT.options(target, headers={**origin, "access-control-request-method": "POST"})
        came = [CLIENT.post(target, json={**CHAT, "stream": True}, headers=KEY | origin) for _ in range(2)]
    assert allowed.headers["access-control-allow-methods"]
    assert [one.headers["x-host"] for one in came] == ["seen"] * 2
    assert "hit" in came[1].headers["cache-status"]
    assert came[0].content == came[1].content
    assert came[1].content.endswith(b"data: [DONE]\n\n")
    assert provider.calls == 1
