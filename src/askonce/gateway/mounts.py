"""The applications that are mounted in the gateway, below /_askonce: where a new one is added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from askonce.cache.cache import AsyncCache
from askonce.gateway.config import GatewayConfig

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


def mounts_of(config: GatewayConfig, cache: AsyncCache, stopping: Callable[[], bool]) -> Sequence[Mount]:
    """All of them, the longest path first; none without a token. `stopping`: whether the gateway is about to end."""
    del cache, stopping
    if not config.admin.token:
        return ()
    return ()


def mount_at(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that answers this path."""
    return next((one for one in mounts if path == one.path or path.startswith(f"{one.path}/")), None)


def below(scope: Mapping[str, Any], mount: Mount) -> dict[str, Any]:
    """The scope of a request as its mounted application gets it."""
    root = scope.get("root_path", "")
    return {**scope, "app_root_path": scope.get("app_root_path", root), "root_path": root + mount.path}
