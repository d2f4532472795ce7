"""The admin API as an ASGI application: operations behind the token, checked parameters, and problems as errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from askonce.errors import AskonceError
from askonce.gateway import nesting
from askonce.gateway.admin import problems
from askonce.gateway.admin.access import SAFE, Access
from askonce.gateway.admin.openapi import MOUNT, document
from askonce.gateway.admin.operations import HOST, OPERATIONS, Given, Operation
from askonce.gateway.admin.pages import PLAIN, page
from askonce.gateway.admin.problems import Refused, json_answer
from askonce.gateway.caller import Disconnected, while_there
from askonce.gateway.results import plain
from askonce.gateway.view import View
from askonce.store import StoreTrouble

LARGEST = 2**20  # bytes of a body
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
Metrics = Callable[[str], Awaitable[tuple[bytes, str]]]


def admin_app(view: View, access: Access) -> ASGIApp:
    """The API of a view as an ASGI application, for whoever has access. It is mounted at ``/_askonce/api``."""
    routes = [_route(view, one) for one in OPERATIONS]
    routes += [Route("/openapi.json", _document), Route("/", _page)]
    errors: tuple[Any, ...] = (Refused, AskonceError, StoreTrouble, HTTPException, Exception)
    app = Starlette(
        routes=routes, exception_handlers={**dict.fromkeys(errors, _problem), Disconnected: problems.nobody}
    )
    app.router.redirect_slashes = False
    return _Guarded(app, access)


def metrics_app(metrics: Metrics, access: Access) -> ASGIApp:
    """The metrics as an ASGI application, for whoever has access. `metrics`: from an Accept to a text and its type."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in SAFE:
            await problems.answer(405, "write GET", {"allow": "GET, HEAD"})(scope, receive, send)
            return
        text, kind = await metrics(Headers(scope=scope).get("accept", ""))
        await Response(text, headers={"content-type": kind})(scope, receive, send)

    return _Guarded(answered, access)


class _Guarded:
    """The application behind its access, and the headers that all of its answers have."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._access.check(Request(scope))
        except Refused as refused:
            await problems.of(refused)(scope, receive, _secured(send))
            return
        await self._app(scope, receive, _secured(send))


def _secured(send: Send) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return secured


def _route(view: View, operation: Operation) -> Route:
    walking = asyncio.Lock()

    async def run(given: Given) -> Any:
        async with walking if operation.walks else contextlib.nullcontext():
            return await operation.run(view, given)

    async def asked(request: Request) -> Response:
        given = operation.given(request.path_params, request.query_params.multi_items())
        if operation.ways:
            given |= operation.told(await _body(request))
        if "http" in given:
            given["http"] = {**given["http"], HOST: request.headers.get("host", "")}
        if operation.ways and not given.get("dry_run"):
            found = await run(given)  # what invalidates does not stop half-way
        else:
            found = await while_there(request.scope, request.receive, run(given))
        return await asyncio.to_thread(_answer, operation, found)  # it may have megabytes

    return Route(operation.path, asked, methods=[operation.method])


async def _body(request: Request) -> Any:
    """The JSON body of a request; Refused if it is too large, or is not JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "the body is not JSON: send it with `content-type: application/json`")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Refused(413, f"the body is larger than {LARGEST} bytes: invalidate by key, tag or scope")
    try:
        return nesting.read(body, once=True)
    except ValueError as wrong:
        raise Refused(400, f"the body is not JSON that can be read: {wrong}") from None


def _answer(operation: Operation, found: Any) -> Response:
    if operation.result is bytes:
        return Response(found, media_type="application/octet-stream", headers={"content-disposition": "attachment"})
    return json_answer(plain(found))


async def _document(request: Request) -> Response:
    return json_answer(_served(request))


def _served(request: Request) -> dict[str, Any]:
    """The document, of an API that may be mounted below a path of another application."""
    return {**document(), "servers": [{"url": request.scope.get("root_path", "").removesuffix(MOUNT) or "/"}]}


async def _page(request: Request) -> Response:
    return HTMLResponse(page(_served(request)), headers={"content-security-policy": PLAIN})


async def _problem(_request: Request, error: Exception) -> Response:
    return problems.of(error)
