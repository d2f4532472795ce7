"""Where a Cluster is: the nodes that are asked first, and how each node is reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from askonce.core.urls import without_password
from askonce.errors import ConfigError
from askonce.store.redis import address as addresses
from askonce.store.redis.address import RedisAddress

SUFFIX = "+cluster"
EXAMPLE = "redis+cluster://host:6379,host:6379"
_URL = re.compile(r"//(?P<net>[^/?#]*)(?P<path>/?[^?#]*)(?P<query>.*)", re.DOTALL)
Remap = Callable[[tuple[str, int]], tuple[str, int]]


class ClusterAddress:
    """Makes the addresses of nodes. `seeds`: those that are asked first; `text`: their names, without a password."""

    def __init__(self, seeds: Sequence[RedisAddress], remap: Remap | None = None) -> None:
        self.seeds = list(seeds)
        first, *others = self.seeds
        scheme, _, rest = first.text.removesuffix("/0").partition("://")
        self.text = f"{scheme}{SUFFIX}://{','.join([rest, *(seed.place for seed in others)])}"
        self._remap = remap
        self._nodes = {(seed.host, seed.port): seed for seed in self.seeds}

    def node(self, host: str, port: int) -> RedisAddress:
        """The address of one node, always the same object."""
        if self._remap is not None:
            host, port = self._remap((host, port))
        found = self._nodes.get((host, port))
        return found or self._nodes.setdefault((host, port), self.seeds[0].at(host, port))


def names_cluster(url: str, client: Any = None) -> bool:
    """Whether a URL or a configured client names a Cluster."""
    if client is not None:
        return isinstance(client, RedisCluster | AsyncRedisCluster)
    return url.partition(":")[0].lower().endswith(SUFFIX)


def from_url(url: str, options: Mapping[str, Any]) -> ClusterAddress:
    """``redis+cluster://user:password@host:port,host:port?option=value``."""
    scheme = url.partition(":")[0].lower()
    parts = _URL.fullmatch(url, len(scheme) + 1)
    if parts is None:
        raise ConfigError(f"{without_password(url)!r} names no node of a Cluster: write {EXAMPLE}")
    addresses.check_no_at(url[parts.end("net") :], url)
    if parts["path"].strip("/") not in {"", "0"}:
        raise ConfigError(f"{without_password(url)!r}: a Cluster has only database 0: write {EXAMPLE}")
    user, at, hosts = parts["net"].rpartition("@")
    plain = scheme.removesuffix(SUFFIX)
    asked = [host.strip() for host in hosts.split(",")]
    if not all(asked):
        raise ConfigError(f"{without_password(url)!r} names no node of a Cluster, or an empty one: write {EXAMPLE}")
    urls = [f"{plain}://{user}{at}{host}{parts['query']}" for host in asked]
    seeds = [RedisAddress(*addresses.parsed(one, url, options, EXAMPLE), options) for one in urls]
    if options.get("db") or seeds[0].db:
        raise ConfigError(f"{without_password(url)!r}: a Cluster has only database 0: leave db out")
    return ClusterAddress(seeds)


def from_client(client: Any) -> ClusterAddress:
    """The address of a configured RedisCluster, sync or asyncio: its nodes and options, never its connections."""
    manager = client.nodes_manager
    nodes = list(manager.startup_nodes.values()) or list(client.startup_nodes)
    kwargs = dict(getattr(manager, "connection_kwargs", None) or client.connection_kwargs)
    made = [addresses.of_node(node.host, int(node.port), kwargs) for node in nodes]
    return ClusterAddress(made, getattr(manager, "address_remap", None))
