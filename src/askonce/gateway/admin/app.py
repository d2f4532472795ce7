"""The admin API as an ASGI application: operations behind the token, checked parameters, and problems as errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from askonce.errors import AskonceError
from askonce.gateway import nesting
from askonce.gateway.admin import problems
from askonce.gateway.admin.access import Access, Session, no_session
from askonce.gateway.admin.openapi import MOUNT, document
from askonce.gateway.admin.operations import OPERATIONS, Operation
from askonce.gateway.admin.pages import PLAIN, page
from askonce.gateway.admin.problems import Refused, json_answer
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
Metrics = Callable[[], Awaitable[tuple[bytes, str]]]


def admin_app(view: View, token: str, *, session: Session = no_session, metrics: Metrics | None = None) -> ASGIApp:
    """The API of a view at ``/_askonce/api/``, and the metrics at ``/_askonce/metrics``, for whoever shows the token.

    `session`: whether the browser that sends a request has shown the token to the page; it may then read. `metrics`:
    returns the text of the metrics and its content type. ConfigError for a token that is none, or too short.
    """
    access = Access(token, session)
    routes = [_route(view, one) for one in OPERATIONS]
    routes += [Route(f"{MOUNT}/api/openapi.json", _document), Route(f"{MOUNT}/api/", _page)]
    if metrics is not None:
        routes.append(Route(f"{MOUNT}/metrics", _metrics(metrics)))
    errors: tuple[Any, ...] = (Refused, AskonceError, StoreTrouble, HTTPException, Exception)
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys(errors, _problem))
    app.router.redirect_slashes = False
    return _Guarded(app, access)


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
            had = {name for name, _ in message["headers"]}
            more = ((name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in had)
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return secured


def _route(view: View, operation: Operation) -> Route:
    async def asked(request: Request) -> Response:
        given = operation.given(request.path_params, request.query_params.multi_items())
        if operation.ways:
            given |= operation.told(await _body(request))
        return _answer(operation, await operation.run(view, given))

    return Route(f"{MOUNT}/api{operation.path}", asked, methods=[operation.method])


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
        return nesting.read(body)
    except ValueError as wrong:
        raise Refused(400, f"the body is not JSON: {wrong}") from None


def _answer(operation: Operation, found: Any) -> Response:
    if operation.result is bytes:
        return Response(found, media_type="application/octet-stream", headers={"content-disposition": "attachment"})
    return json_answer(plain(found))


def _metrics(metrics: Metrics) -> Callable[[Request], Awaitable[Response]]:
    async def asked(_request: Request) -> Response:
        text, kind = await metrics()
        return Response(text, headers={"content-type": kind})

    return asked


async def _document(_request: Request) -> Response:
    return json_answer(document())


async def _page(_request: Request) -> Response:
    return HTMLResponse(page(document()), headers={"content-security-policy": PLAIN})


async def _problem(_request: Request, error: Exception) -> Response:
    return problems.of(error)
