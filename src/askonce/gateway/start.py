"""The start of `askonce serve`: everything that can be wrong is found before the first request."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from askonce.cache.base import base_of
from askonce.core.urls import without_password, without_prefix
from askonce.events import log
from askonce.gateway.config import GatewayConfig
from askonce.gateway.server import Load, run_worker, set_up_logs
from askonce.gateway.serving import check, new_cache
from askonce.gateway.sockets import listening
from askonce.gateway.workers import Workers


def start(load: Load) -> int:
    """Serve until a signal ends it; return the exit code. ConfigError for what is wrong with the configuration."""
    config = load()
    check(config)
    address = without_prefix(base_of(new_cache(config)).engine().store.address)
    set_up_logs(config.log.level)
    server = config.server
    sockets = listening(server.host, server.port, server.workers)
    _say(config, sockets, address)
    if server.workers == 1:
        return run_worker(config, load, sockets[0])
    return Workers(config, load, sockets).run()


def _say(config: GatewayConfig, sockets: Sequence[Sequence[socket.socket]], address: str) -> None:
    for one in sockets[0]:
        host, port = one.getsockname()[:2]
        at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        for upstream in config.upstreams:
            log.info("%s%s is served for %s", at, upstream.path, without_password(upstream.url))
    many = f"{len(sockets)} workers" if len(sockets) > 1 else "1 worker"
    log.info("%s, answers in %s", many, without_password(address))
    if len(sockets) > 1 and address.startswith("memory:"):
        log.warning(
            "memory:// is of each process alone, so each worker pays for itself: write --url sqlite:///answers.db, or a"
            " Redis"
        )
