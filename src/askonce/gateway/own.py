"""The gateway's own paths: health, readiness, and the applications of the admin API and the page."""

from __future__ import annotations

from typing import Any, Protocol

from askonce import __version__
from askonce.cache.cache import AsyncCache
from askonce.core.urls import without_password
from askonce.events import log
from askonce.gateway import readiness, replies
from askonce.gateway.paths import OURS

HEALTH, READY = f"{OURS}/health", f"{OURS}/ready"


class Served(Protocol):
    """What the own paths show: a gateway."""

    @property
    def stopping(self) -> bool:
        """Whether it ends soon."""
        ...

    @property
    def cache(self) -> AsyncCache:
        """The cache in use."""
        ...


class Own:
    """Answers the paths below /_askonce."""

    def __init__(self, gateway: Served) -> None:
        self._gateway = gateway

    def reloaded(self) -> None:
        """Another configuration is in use."""

    async def __call__(self, path: str, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request for an own path."""
        del receive
        response = await self._response(path, scope["method"])
        body = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.headers.raw})
        await send({"type": "http.response.body", "body": body})

    async def _response(self, path: str, method: str) -> Any:
        if path in {HEALTH, READY} and method not in {"GET", "HEAD"}:
            return replies.error(405, "method_not_allowed", "write GET")
        if path == HEALTH:
            return replies.plain_json(200, {"status": "ok", "version": __version__})
        if path == READY:
            return await self._ready()
        return replies.error(404, "unknown_path", f"the gateway has no such page: see {HEALTH} and {READY}")

    async def _ready(self) -> Any:
        if self._gateway.stopping:
            return replies.plain_json(503, {"status": "stopping"})
        trouble = await readiness.trouble_of(self._gateway.cache)
        if trouble is None:
            return replies.plain_json(200, {"status": "ready"})
        return replies.plain_json(503, {"status": "uncached", "store": trouble.kind})

    async def say_if_away(self) -> None:
        """Log one line if the store cannot be used at the start."""
        cache = self._gateway.cache
        trouble = await readiness.trouble_of(cache)
        if trouble is not None:
            address = without_password(cache.engine().store.address.partition("#")[0])
            log.warning(
                "the store %s cannot be used (%s: %s): calls go upstream uncached until it answers",
                address, trouble.kind, trouble,
            )  # fmt: skip
