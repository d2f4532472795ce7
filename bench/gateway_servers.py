"""Servers beside the gateway: what answers from a dict, what only passes on, and what answers as a provider would.

All run in `askonce serve`'s own server, so that rows compare what is done with a request, and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import uvicorn

from askonce.gateway.config import load
from askonce.gateway.protocol import GatewayProtocol
from askonce.gateway.server import plain_config, run_worker
from askonce.gateway.sockets import listening
from bench.workers import Parent

HOST = "127.0.0.1"
App = Callable[[Any, Any, Any], Awaitable[None]]
JSON = (b"content-type", b"application/json")


def gateway(parent: Parent, upstream: str, store: str, near: int = 0) -> None:
    """`askonce serve` with one worker; says its port."""
    flags = {"upstream": [upstream], "store.url": store, "store.near": str(near), "server.port": 0}
    config = load(None, {}, flags)
    sockets = listening(HOST, 0, 1)[0]
    parent.tell(sockets[0].getsockname()[1])
    logging.getLogger("askonce").setLevel(logging.ERROR)
    run_worker(config, lambda: config, sockets)


def from_dict(parent: Parent, answer: bytes) -> None:
    """Answers from a dict, after parsing and hashing the body."""
    known: dict[bytes, bytes] = {}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        asked = orjson.dumps(orjson.loads(await _body(receive)), option=orjson.OPT_SORT_KEYS)
        found = known.setdefault(hashlib.sha256(asked).digest(), answer)
        await _say(send, 200, [JSON, (b"content-length", b"%d" % len(found))], found)

    _serve(parent, app)


def provider(parent: Parent, answer: bytes) -> None:
    """Answers every request with these bytes at once, under the headers that OpenAI's API sends."""
    headers = [JSON, (b"content-length", b"%d" % len(answer)), (b"x-request-id", b"req_1"), (b"cf-ray", b"1-FRA")]
    headers += [(b"openai-processing-ms", b"12"), (b"openai-version", b"2020-10-01")]

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await _body(receive)
        await _say(send, 200, headers, answer)

    _serve(parent, app)


def bare_proxy(parent: Parent, upstream: str) -> None:
    """Passes requests on with aiohttp, and does nothing else."""
    sessions: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not sessions:
            made = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=made, auto_decompress=False))
        left_out = {b"host", b"connection"}
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name not in left_out}
        url = upstream + scope["path"]
        body = await _body(receive)
        async with sessions[0].post(url, data=body, headers=headers) as came:
            await _say(send, came.status, list(came.raw_headers), await came.read())

    _serve(parent, app)


async def _body(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    return body


async def _say(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _serve(parent: Parent, app: App) -> None:
    sockets = listening(HOST, 0, 1)[0]
    parent.tell(sockets[0].getsockname()[1])
    uvicorn.Server(plain_config(app, GatewayProtocol, lifespan="off")).run(sockets=sockets)
