"""The admin API of a cache, mounted as a gateway mounts it, and a client of it in the test's own loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from askonce import AsyncCache, __version__
from askonce.gateway.admin.access import Access
from askonce.gateway.admin.app import admin_app
from askonce.gateway.view import View

TOKEN = "a-token-of-nobody-else"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
OWN = {"/_askonce/health": {"status": "ok", "version": __version__}, "/_askonce/ready": {"status": "ready"}}
SECRET = "the secret of the question"  # in each request and each answer: nothing but an answer may show it


def mounted(cache: AsyncCache, access: Access | None = None) -> ASGIApp:
    app = admin_app(View(cache), access or Access(TOKEN))

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await closing(cache, receive, send)
            return
        if scope["path"] in OWN:
            await JSONResponse(OWN[scope["path"]])(scope, receive, send)
            return
        await app({**scope, "root_path": "/_askonce/api"}, receive, send)

    return below


async def closing(cache: AsyncCache, receive: Receive, send: Send) -> None:
    """The lifespan of a server: its cache is closed in its loop."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await cache.aclose()
    await send({"type": "lifespan.shutdown.complete"})


@contextlib.asynccontextmanager
async def api(
    cache: AsyncCache, headers: Mapping[str, str] = SHOWN, access: Access | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(mounted(cache, access), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://box/_askonce/api", headers=headers) as client:
        yield client


async def answered(cache: AsyncCache, number: int, **own) -> str:
    async def call() -> dict[str, object]:
        return {"n": number, "text": f"{SECRET} {number}"}

    request = {"model": own.pop("model", "m"), "n": number, "messages": [{"role": "user", "content": SECRET}]}
    return (await cache.fetch(request, call, **own)).key
