"""The applications that are mounted in the gateway, below /_askonce: where a new one is added."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from askonce.cache.cache import AsyncCache
from askonce.gateway.admin.access import Access
from askonce.gateway.admin.app import admin_app, metrics_app
from askonce.gateway.config import GatewayConfig
from askonce.gateway.page.app import page_app
from askonce.gateway.page.session import Sessions
from askonce.gateway.page.starts import of_gateway
from askonce.gateway.paths import OURS
from askonce.gateway.telemetry import Telemetry
from askonce.gateway.view import View
from askonce.http.plain_request import PlainRequest
from askonce.http.rules import Asked

API, METRICS = f"{OURS}/api", f"{OURS}/metrics"

App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


class Mount(NamedTuple):
    """An ASGI application, and the path below which it answers."""

    path: str
    app: App


class Mounted(Protocol):
    """What the mounted applications show: a gateway."""

    config: GatewayConfig
    telemetry: Telemetry

    @property
    def cache(self) -> AsyncCache:
        """The cache in use."""
        ...

    def reads(self, sent: PlainRequest) -> Asked:
        """What a request to it would ask, or why it would pass; UsageError if no upstream stands behind its path."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether it is about to end."""
        ...


def mounts_of(gateway: Mounted, over: Callable[[], bool]) -> Sequence[Mount]:
    """All of them, the longest path first; none without a token. `over`: whether a page that is open is to end."""
    token = gateway.config.admin.token
    if not token:
        return ()
    view, sessions = View(gateway.cache, gateway.reads), Sessions(token, time.time)
    access = Access(token, sessions.opened)
    upstreams = gateway.config.upstreams
    return (
        Mount(METRICS, metrics_app(gateway.telemetry.metrics, access)),
        Mount(API, admin_app(view, access)),
        Mount(OURS, page_app(view, sessions, starts=partial(of_gateway, upstreams), stopping=over)),
    )


def mount_at(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that answers this path."""
    return next((one for one in mounts if path == one.path or path.startswith(f"{one.path}/")), None)


def below(scope: Mapping[str, Any], mount: Mount) -> dict[str, Any]:
    """The scope of a request as its mounted application gets it."""
    root = scope.get("root_path", "")
    return {**scope, "app_root_path": scope.get("app_root_path", root), "root_path": root + mount.path}
