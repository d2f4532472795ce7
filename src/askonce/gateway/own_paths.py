"""The gateway's own paths: health, readiness, and the applications of the admin API and the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from askonce import __version__
from askonce.cache.base import base_of
from askonce.core.urls import without_password, without_prefix
from askonce.events import log
from askonce.gateway import readiness, replies
from askonce.gateway.answers import write
from askonce.gateway.mounts import Mount, Mounted, below, mount_at, mounts_of
from askonce.gateway.paths import OURS
from askonce.gateway.wire import Whole

_NOTHING = (
    "there is nothing here: the admin API and the dashboard need a token (admin.token), and are served at the address"
    " admin.bind alone"
)
HEALTH, READY = f"{OURS}/health", f"{OURS}/ready"


class OwnPaths:
    """Answers the paths below /_askonce."""

    def __init__(self, gateway: Mounted) -> None:
        self._gateway = gateway
        self._mounts: Sequence[Mount] | None = None
        self._reloads = 0

    def reloaded(self) -> None:
        """Another configuration is in use: what is mounted is made anew, for it, and what is open ends."""
        self._mounts = None
        self._reloads += 1

    @property
    def mounts(self) -> Sequence[Mount]:
        """What is mounted."""
        if self._mounts is None:
            self._mounts = mounts_of(self._gateway, partial(self._is_over, self._reloads))
        return self._mounts

    def _is_over(self, reloads: int) -> bool:
        """Whether what was mounted after so many reloads has to end: its token or its cache may be another now."""
        return self._gateway.stopping or self._reloads != reloads

    async def __call__(self, path: str, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request for an own path."""
        if path in {HEALTH, READY}:
            response = await self._probed(path, scope["method"])
        else:
            local = (scope.get("server") or (None,))[0]
            mount = mount_at(path, self.mounts) if self._gateway.config.admin.reachable(local) else None
            if mount is not None:
                await mount.app(below(scope, mount), receive, send)
                return
            response = replies.error(404, "unknown_path", _NOTHING)
        await write(response, scope, send)

    async def _probed(self, path: str, method: str) -> Whole:
        if method not in {"GET", "HEAD"}:
            return replies.error(405, "method_not_allowed", "write GET")
        if path == HEALTH:
            return replies.plain_json(200, {"status": "ok", "version": __version__})
        return await self._ready()

    async def _ready(self) -> Whole:
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
            address = without_password(without_prefix(base_of(cache).engine().store.address))
            log.warning(
                "the store %s cannot be used (%s: %s): calls go upstream uncached until it answers",
                address, trouble.kind, trouble,
            )  # fmt: skip
