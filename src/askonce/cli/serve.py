"""``askonce serve``: the gateway."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from askonce.cli.place import Prefix, StoreUrl
from askonce.errors import UsageError

if TYPE_CHECKING:
    from askonce.gateway.config import GatewayConfig

EXTRA = {"uvicorn", "httptools", "uvloop", "aiohttp", "multidict", "yarl"}


def _option(name: str, metavar: str, says: str, default: str = "") -> Any:
    """An option; what it is without being given, the configuration says: a default here would go before the file's."""
    return typer.Option(name, metavar=metavar, help=f"{says} Default: {default}." if default else says)


_UPSTREAM = "Base URL of a provider, for all paths, or for those below /PATH; may be repeated."

Upstreams = Annotated[list[str] | None, _option("--upstream", "[/PATH=]URL", _UPSTREAM, "$ASKONCE_UPSTREAM")]
Config = Annotated[Path | None, _option("--config", "FILE", "Configuration in TOML.", "$ASKONCE_CONFIG")]
Host = Annotated[str | None, _option("--host", "ADDRESS", "Address to listen on.", "$ASKONCE_HOST, 127.0.0.1")]
Port = Annotated[int | None, _option("--port", "N", "Port to listen on; 0: any free one.", "$ASKONCE_PORT, 8181")]
Workers = Annotated[int | None, _option("--workers", "N", "Processes that serve.", "$ASKONCE_WORKERS, 1")]
Mode = Annotated[str | None, _option("--mode", "WORD", "on, off, refresh, or only-if-cached.", "$ASKONCE_MODE, on")]
Near = Annotated[str | None, _option("--near", "SIZE", "Answers of a Redis kept in each worker.", "$ASKONCE_NEAR, 0")]
AdminToken = Annotated[Path | None, _option("--admin-token-file", "FILE", "Token of the admin API and the dashboard.")]
AdminBind = Annotated[str | None, _option("--admin-bind", "ADDRESS", "Address at which they are served.", "127.0.0.1")]
Level = Annotated[str | None, _option("--log", "LEVEL", "debug, info, warning, or error.", "$ASKONCE_LOG, info")]
Requests = Annotated[bool, typer.Option("--log-requests", help="Write one JSON line for each request.")]


def serve(
    upstream: Upstreams = None,
    config: Config = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    url: StoreUrl = None,
    prefix: Prefix = None,
    mode: Mode = None,
    near: Near = None,
    admin_token_file: AdminToken = None,
    admin_bind: AdminBind = None,
    log: Level = None,
    log_requests: Requests = False,
) -> int:
    """Serve a caching proxy for LLM APIs.

    Clients in any language can use it: point their base URL at it, and it answers repeated requests from the store.
    SIGHUP reads the configuration again. SIGTERM ends it when the calls under way have ended.
    """
    given: dict[str, object] = {"server.host": host, "server.port": port, "server.workers": workers, "store.url": url}
    given |= {"store.prefix": prefix, "store.mode": mode, "store.near": near, "log.level": log}
    given |= {"admin.token_file": admin_token_file and str(admin_token_file), "admin.bind": admin_bind}
    given |= {"upstream": upstream or None, "log.requests": log_requests or None}
    try:
        from askonce.gateway.start import start
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UsageError(f"{missing.name} is not installed: pip install 'askonce[gateway]'") from None
    return start(partial(_loaded, config, given))


def _loaded(path: Path | None, flags: Mapping[str, object]) -> GatewayConfig:
    from askonce.gateway.config import load

    return load(path, os.environ, flags)
