"""The application of the page: its routes, and who may ask for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from askonce.errors import AskonceError, StoreUnavailable
from askonce.gateway.admin.access import foreign
from askonce.gateway.admin.problems import nobody
from askonce.gateway.caller import Disconnected, while_there
from askonce.gateway.page import entries, invalidate
from askonce.gateway.page.forms import fields
from askonce.gateway.page.headers import Secured
from askonce.gateway.page.live import Live
from askonce.gateway.page.overview import PARTS, Overview
from askonce.gateway.page.session import FIELD, Sessions, path_of
from askonce.gateway.page.site import Site, Starts, no_starts
from askonce.gateway.view import View
from askonce.store import StoreTrouble

MOUNT = "/_askonce"
SEE_OTHER = 303
Page = Callable[[Request], Awaitable[Response]]


def page_app(
    view: View,
    sessions: Sessions,
    *,
    starts: Starts = no_starts,
    stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """The page of a view as an ASGI application, for browsers that have shown the token; mounted at ``/_askonce``.

    `starts`: the lines that an empty page shows, by the origin at which it is seen. `stopping`: whether the server is
    about to end.
    """
    site = Site(view, sessions, starts, stopping)
    login, overview = Login(site), Overview(view)
    live = Live(site, overview)
    pages = Pages(site, overview, live)
    routes = [
        Route("/", login.required(pages.overview)),
        Route("/part/{name}", login.required(pages.part)),
        Route("/live", login.required(live.answer)),
        Route("/entries", login.required(partial(entries.listing, site))),
        Route("/entries/{key}", login.required(partial(entries.single, site))),
        Route("/invalidate", login.required(partial(invalidate.ask, site)), methods=["GET"]),
        Route("/invalidate", login.required(partial(invalidate.confirmed, site)), methods=["POST"]),
        Route("/login", login.show, methods=["GET"]),
        Route("/login", login.enter, methods=["POST"]),
        Route("/logout", login.required(login.leave), methods=["POST"]),
        Route("/static/{version}/{name:path}", _static(site)),
    ]
    faults = Faults(site)
    handlers: dict[Any, Any] = {
        HTTPException: faults.http,
        AskonceError: faults.ours,
        StoreTrouble: faults.store,
        StoreUnavailable: faults.store,
        Disconnected: nobody,
    }
    return Secured(Starlette(routes=routes, exception_handlers=handlers))


def alone(page: ASGIApp) -> ASGIApp:
    """A page for a server that has nothing else: it is at ``/_askonce/`` there too, so that cookies keep apart."""

    async def root(_request: Request) -> Response:
        return RedirectResponse(f"{MOUNT}/", SEE_OTHER)

    return Starlette(routes=[Route("/", root), Mount(MOUNT, app=page)])


class Pages:
    """The overview, and its parts alone."""

    def __init__(self, site: Site, overview: Overview, live: Live) -> None:
        self._site, self._overview, self._live = site, overview, live

    async def overview(self, request: Request) -> Response:
        """``/``: all of it."""
        return self._site.page(request, "overview.html", **await self._overview.whole())

    async def part(self, request: Request) -> Response:
        """``part/{name}``: what a page that is open asks for when it changed."""
        if request.path_params["name"] not in PARTS:
            raise HTTPException(404)
        return HTMLResponse(await self._live.part(request, request.path_params["name"]))


class Login:
    """Logs people in by the admin token, and shows everybody else the page where to log in."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def required(self, page: Page) -> Page:
        """A page for those who are logged in. A link with ``?token=`` logs in, and the token leaves the address."""

        async def guarded(request: Request) -> Response:
            if self._site.sessions.opened(request):
                if request.method != "GET":
                    return await page(request)
                return await while_there(request.scope, request.receive, page(request))
            if "token" in request.query_params and request.method == "GET":
                return self._by_link(request)
            return self._outside(request)

        return guarded

    def _by_link(self, request: Request) -> Response:
        if not self._site.sessions.knows(request.query_params["token"]):
            return self._login(request, "", "This is not the token.", 403)
        answer = RedirectResponse(_without_token(request.url), SEE_OTHER)
        self._site.sessions.begin(request, answer)
        return answer

    def _outside(self, request: Request) -> Response:
        login = f"{path_of(request)}login"
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"hx-redirect": login})
        if request.method != "GET":
            return self._login(request, "", "Log in first.", 401)
        back = request.url.path.removeprefix(path_of(request)) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{login}?next={quote(back)}" if back else login, SEE_OTHER)

    async def show(self, request: Request) -> Response:
        """``GET login``."""
        return self._login(request, request.query_params.get("next", ""), "", 200)

    async def enter(self, request: Request) -> Response:
        """``POST login``: the token, from a form of ours."""
        form = await fields(request)
        token, back = form.get("token", ""), form.get("next", "")
        if foreign(request.headers):
            return self._login(request, back, "This form came from another site.", 403)
        if not self._site.sessions.knows(token.strip()):
            return self._login(request, back, "This is not the token.", 403)
        answer = RedirectResponse(path_of(request) + within(back), SEE_OTHER)
        self._site.sessions.begin(request, answer)
        return answer

    async def leave(self, request: Request) -> Response:
        """``POST logout``."""
        form = await fields(request)
        if not self._site.sessions.ours(request, form.get(FIELD, "")):
            return self._site.message(request, 403, "This form is out of date", "Open the page again to log out.")
        answer = RedirectResponse(f"{path_of(request)}login", SEE_OTHER)
        self._site.sessions.end(request, answer)
        return answer

    def _login(self, request: Request, back: str, wrong: str, status: int) -> Response:
        return self._site.page(request, "login.html", status=status, wrong=wrong, next=within(back), here="-")


def within(back: str) -> str:
    """An address below the mount, or "": nobody is sent to another site, or to a page that does something."""
    return back if back.startswith(("entries", "invalidate")) else ""


def _without_token(url: URL) -> str:
    plain = url.remove_query_params("token")
    return plain.path + (f"?{plain.query}" if plain.query else "")


def _static(site: Site) -> Page:
    async def static(request: Request) -> Response:
        return site.assets.answer(request)

    return static


class Faults:
    """Pages in place of errors. None of them shows more than what the error was made to say."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def http(self, request: Request, error: HTTPException) -> Response:
        """No such page, or not in this way."""
        said = "The dashboard has no page at this address." if error.status_code == 404 else error.detail
        answer = self._site.message(request, error.status_code, "Not found" if error.status_code == 404 else "No", said)
        answer.headers.update(error.headers or {})
        return answer

    async def ours(self, request: Request, error: AskonceError) -> Response:
        """An invalid key, or one that no answer has."""
        absent = isinstance(error, LookupError)
        title = "No such answer" if absent else "This cannot be shown"
        return self._site.message(request, 404 if absent else 400, title, str(error))

    async def store(self, request: Request, error: StoreTrouble | StoreUnavailable) -> Response:
        """The store is away."""
        said = f"{error} ({error.kind}). Calls go upstream meanwhile; askonce doctor says more."
        return self._site.message(request, 503, "The store does not answer", said)
