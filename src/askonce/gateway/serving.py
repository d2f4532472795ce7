"""All that a gateway makes of one configuration: its upstreams with their transports. A reload makes another.

Requests that began under the old one end under it. The cache and the pool of connections are kept, unless what they
are made of changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from askonce.cache import sealing
from askonce.cache.base import base_of
from askonce.cache.cache import AsyncCache
from askonce.cache.config import check_mode
from askonce.errors import ConfigError, UsageError
from askonce.gateway import heads, tls
from askonce.gateway.config import GatewayConfig, LimitsConfig, Upstream
from askonce.gateway.gateway_rules import Operator, rules_for
from askonce.gateway.paths import below, climbs
from askonce.gateway.repeated import Repeated
from askonce.gateway.saved import saved_headers
from askonce.gateway.transport import GatewayTransport
from askonce.gateway.upstream_client import UpstreamClient
from askonce.gateway.wire import Request
from askonce.http.plain_request import PlainRequest
from askonce.http.rules import Asked


class Route(NamedTuple):
    """An upstream: the gateway's path for it, its base URL, its Host, and what answers requests to it."""

    path: str
    base: str
    host: bytes
    transport: GatewayTransport
    repeated: Repeated


class Use:
    """How much a cache is used: by `requests` under way, whichever of its configurations they began under."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """A configuration in use. Its routes: the longest path first. `made_of`: of the cache, with what its files hold."""

    config: GatewayConfig
    made_of: tuple[object, ...]
    cache: AsyncCache
    client: UpstreamClient
    contexts: tls.Contexts
    operator: Operator
    routes: tuple[Route, ...]
    repeated: Repeated
    use: Use

    def goes_on(self) -> bool:
        """Whether a request, a refresh or a call without its caller still needs the cache."""
        # A request may wait for a call of another process, which is no flight here; a flight may have no request.
        return self.use.requests > 0 or bool(base_of(self.cache).engine().board.flights())

    def route(self, path: str) -> tuple[Route, str] | None:
        """The upstream of a path, and the path there."""
        for route in self.routes:
            if (rest := below(path, route.path)) is not None:
                return route, rest
        return None

    def reads(self, sent: PlainRequest) -> Asked:
        """What a request to the gateway would ask, or why it would pass; UsageError for a path of no upstream."""
        parts = urlsplit(sent.url)
        route, rest = self.route(parts.path or "/") or (None, "")
        if route is None or climbs(rest):
            known = ", ".join(one.path or "/" for one in self.routes)
            raise UsageError(f"no upstream stands behind this path of the gateway, which knows {known}")
        url = f"{route.base}{rest}?{parts.query}" if parts.query else route.base + rest
        headers = heads.read(sent.headers.raw, route.host).headers
        return route.transport.reads(Request(sent.method, url, headers=headers, content=sent.body))


def new_cache(config: GatewayConfig) -> AsyncCache:
    """The cache of a configuration; ConfigError."""
    store = config.store
    return AsyncCache(
        store.url or None,
        prefix=store.prefix,
        mode=check_mode(store.mode),
        near=store.near,
        compress=store.compress or None,
        encryption=store.encryption or None,
        prices=config.prices.file or None,
    )


def made_of(config: GatewayConfig) -> tuple[object, ...]:
    """What the cache of a configuration is made of: its settings, and what the files that they name hold."""
    ring = config.store.encryption
    keys = ring.removeprefix(sealing.FILE).strip() if ring.startswith(sealing.FILE) else ""
    return config.store, config.prices, tls.held(keys, config.prices.file)


def new_client(limits: LimitsConfig) -> UpstreamClient:
    """A pool of connections."""
    return UpstreamClient(connect=limits.connect_timeout, silent=limits.read_timeout, connections=limits.connections)


def check(config: GatewayConfig) -> None:
    """ConfigError for what only shows when a configuration is used."""
    if not config.upstreams:
        raise ConfigError("no upstream: name one, as --upstream https://api.openai.com (also $ASKONCE_UPSTREAM)")
    tls.contexts_of(config.upstreams, {})


def serving(config: GatewayConfig, before: Serving | None = None, cache: AsyncCache | None = None) -> Serving:
    """What a configuration needs, made anew where it differs from `before`. Must be called in the event loop."""
    contexts = tls.contexts_of(config.upstreams, {} if before is None else before.contexts)
    parts = made_of(config)
    cache = cache or (before.cache if before is not None and before.made_of == parts else new_cache(config))
    use = before.use if before is not None and before.cache is cache else Use()
    same = before is not None and before.config.limits == config.limits
    client = before.client if before is not None and same else new_client(config.limits)
    operator = Operator.of(config, before.operator if before is not None else None)
    repeated = Repeated(used=base_of(cache).engine().holds_answers, by_peer=bool(operator.tenants.header))
    routes = [
        Route(one.path, one.url, urlsplit(one.url).netloc.encode(), transport, repeated)
        for one in config.upstreams
        for transport in [_transport(operator, one, cache, client, contexts)]
    ]
    routes.sort(key=lambda route: -len(route.path))
    return Serving(config, parts, cache, client, contexts, operator, tuple(routes), repeated, use)


def _transport(
    operator: Operator,
    upstream: Upstream,
    cache: AsyncCache,
    client: UpstreamClient,
    contexts: tls.Contexts,
) -> GatewayTransport:
    base = base_of(cache)
    own = tls.connection_to(upstream, contexts)
    return GatewayTransport(rules_for(operator, upstream, base), base.engine, client, saved_headers(base.engine), own)
