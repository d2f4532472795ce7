"""All that a gateway makes of one configuration: its upstreams with their transports. A reload makes another.

Requests that began under the old one end under it. The cache and the pool of connections are kept, unless what they
are made of changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from askonce.cache.base import base_of
from askonce.cache.cache import AsyncCache
from askonce.cache.config import check_mode
from askonce.errors import ConfigError
from askonce.gateway.config import GatewayConfig, LimitsConfig, Upstream
from askonce.gateway.gateway_rules import Operator, rules_for
from askonce.gateway.paths import below
from askonce.gateway.repeated import Repeated
from askonce.gateway.saved import saved_headers
from askonce.gateway.transport import GatewayTransport
from askonce.gateway.upstream_client import UpstreamClient, context_of


class Route(NamedTuple):
    """An upstream: the gateway's path for it, its base URL, its Host, and what answers requests to it."""

    path: str
    base: str
    host: bytes
    transport: GatewayTransport
    repeated: Repeated


@dataclass(frozen=True, slots=True)
class Serving:
    """A configuration in use. Its routes: the longest path first."""

    config: GatewayConfig
    cache: AsyncCache
    client: UpstreamClient
    operator: Operator
    routes: tuple[Route, ...]
    repeated: Repeated

    def route(self, path: str) -> tuple[Route, str] | None:
        """The upstream of a path, and the path there."""
        for route in self.routes:
            if (rest := below(path, route.path)) is not None:
                return route, rest
        return None


def new_cache(config: GatewayConfig) -> AsyncCache:
    """The cache of a configuration; ConfigError."""
    store = config.store
    return AsyncCache(
        store.url or None,
        prefix=store.prefix or None,
        mode=check_mode(store.mode),
        near=store.near or None,
        compress=store.compress or None,
        encryption=store.encryption or None,
        prices=config.prices.file or None,
    )


def new_client(limits: LimitsConfig, authorities: Mapping[str, str]) -> UpstreamClient:
    """A pool of connections."""
    return UpstreamClient(
        connect=limits.connect_timeout,
        silent=limits.read_timeout,
        connections=limits.connections,
        authorities=authorities,
    )


def authorities_of(config: GatewayConfig) -> dict[str, str]:
    """The files of certificates, by origin."""
    return {one.origin: one.ca for one in config.upstreams if one.ca}


def check(config: GatewayConfig) -> None:
    """ConfigError for what only shows when a configuration is used."""
    if not config.upstreams:
        raise ConfigError("no upstream: name one, as --upstream https://api.openai.com (also $ASKONCE_UPSTREAM)")
    for origin, file in authorities_of(config).items():
        try:
            context_of(file)
        except OSError as wrong:  # SSLError is one
            raise ConfigError(
                f"the certificates of {origin} cannot be read from {file} ({wrong.strerror or wrong}):"
                " write the path of a PEM file"
            ) from None


def serving(config: GatewayConfig, before: Serving | None = None, cache: AsyncCache | None = None) -> Serving:
    """What a configuration needs, made anew where it differs from `before`. Must be called in the event loop."""
    kept = before is not None and (before.config.store, before.config.prices) == (config.store, config.prices)
    cache = cache or (before.cache if before is not None and kept else new_cache(config))
    limits, authorities = config.limits, authorities_of(config)
    same = before is not None and (before.config.limits, authorities_of(before.config)) == (limits, authorities)
    client = before.client if before is not None and same else new_client(limits, authorities)
    operator = Operator.of(config, before.operator if before is not None else None)
    repeated = Repeated(used=base_of(cache).engine().holds_answers, by_peer=bool(operator.tenants.header))
    routes = [
        Route(one.path, one.url, urlsplit(one.url).netloc.encode(), _transport(operator, one, cache, client), repeated)
        for one in config.upstreams
    ]
    routes.sort(key=lambda route: -len(route.path))
    return Serving(config, cache, client, operator, tuple(routes), repeated)


def _transport(operator: Operator, upstream: Upstream, cache: AsyncCache, client: UpstreamClient) -> GatewayTransport:
    base = base_of(cache)
    return GatewayTransport(rules_for(operator, upstream, base), base.engine, client, saved_headers(base.engine))
