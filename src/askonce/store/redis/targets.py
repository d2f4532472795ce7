"""What a URL or a configured client names: a server, or the primary of a Sentinel service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import redis.asyncio.connection as tasks
import redis.asyncio.sentinel as async_sentinel
import redis.connection as threads
import redis.sentinel as sync_sentinel

from askonce.errors import ConfigError
from askonce.store import TIMEOUT
from askonce.store.redis import address as addresses
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.options import check, check_query, check_tls, shown, typed
from askonce.store.redis.sentinel import PORT, SentinelAddress, Service

SUFFIX = "+sentinel"
EXAMPLE = f"redis+sentinel://host:{PORT},host:{PORT}/mymaster/0"
_URL = re.compile(r"//(?P<net>[^/?#]*)/?(?P<name>[^/?#]*)/?(?P<db>[^?#]*)\??(?P<query>[^#]*)(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"\s*(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+)(?::(\d{1,5}))?\s*")
_OWN = "sentinel_"  # what the names of the sentinels' own options begin with
_LEAST = "min_other_sentinels"
_CONNECTIONS: dict[Any, type] = {
    sync_sentinel.SentinelManagedConnection: threads.Connection,
    sync_sentinel.SentinelManagedSSLConnection: threads.SSLConnection,
    async_sentinel.SentinelManagedConnection: tasks.Connection,
    async_sentinel.SentinelManagedSSLConnection: tasks.SSLConnection,
}
_SEARCHES = (sync_sentinel.Sentinel.discover_master, async_sentinel.Sentinel.discover_master)


def target(url: str, options: Mapping[str, Any], client: Any = None) -> RedisAddress:
    """The address that a URL or a client names; ConfigError if it names none."""
    if client is not None:
        pool = getattr(client, "connection_pool", None)
        manager = getattr(pool, "sentinel_manager", None)
        return addresses.from_client(client) if manager is None else _from_pool(pool, manager)
    scheme = url.partition(":")[0].lower()
    return _from_url(url, scheme, options) if scheme.endswith(SUFFIX) else addresses.from_url(url, options)


def _from_url(url: str, scheme: str, options: Mapping[str, Any]) -> SentinelAddress:
    """``redis+sentinel://user:password@host:port,host:port/service/0?option=value``."""
    parts = _URL.fullmatch(url, len(scheme) + 1)
    if parts is None:
        raise ConfigError(f"{shown(url)} names no sentinel: write {EXAMPLE}")
    addresses.check_no_at(url[parts.end("net") :], url)
    user, at, hosts = parts["net"].rpartition("@")
    asked = [one for one in parts["query"].split("&") if one]
    own = [one for one in asked if _is_own(one.partition("=")[0])]
    query = "&".join(one for one in asked if one not in own)
    more = {name: value for name, value in options.items() if not _is_own(name)}
    plain = f"{scheme.removesuffix(SUFFIX)}://{user}{at}localhost/{parts['db']}?{query}"
    kind, given, timeout = addresses.parsed(plain, url, more, EXAMPLE)
    given.pop("host", None)
    if not (name := unquote(parts["name"])):
        raise ConfigError(f"{shown(url)} names no service: write {EXAMPLE}")
    check_query("&".join(one.removeprefix(_OWN) for one in own), url, _OWN)
    told = _typed(own) | {name: value for name, value in options.items() if _is_own(name)}
    least = _number(told.pop(_LEAST, 0))
    sentinels = _sentinels(_hosts(hosts, url), kind, given, told, timeout)
    return SentinelAddress(kind, given, timeout, Service(name, sentinels, least), more)


def _is_own(name: str) -> bool:
    return name == _LEAST or name.startswith(_OWN)


def _typed(own: Sequence[str]) -> dict[str, Any]:
    """Options for the sentinels from a URL, with the types that redis-py gives them there."""
    bare = [one.removeprefix(_OWN) for one in own]
    found = dict(threads.parse_url(f"redis://sentinel?{'&'.join(bare)}"))  # type: ignore[no-untyped-call]
    names = {one.partition("=")[0]: other.partition("=")[0] for one, other in zip(bare, own, strict=True)}
    return {names[name]: value for name, value in typed(found).items() if name in names}


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{_LEAST}={value!r} is not a number of sentinels: write {_LEAST}=1") from None


def _hosts(text: str, url: str) -> list[tuple[str, int]]:
    found = [_HOST.fullmatch(one) for one in text.split(",")]
    hosts = [(one[1].strip("[]"), int(one[2] or PORT)) for one in found if one is not None]
    if len(hosts) < len(found):
        raise ConfigError(f"{shown(url)} names no sentinel, or one that is no host:port: write {EXAMPLE}")
    return hosts


def _sentinels(
    hosts: Sequence[tuple[str, int]], kind: type, given: Mapping[str, Any], told: dict[str, Any], timeout: float
) -> list[RedisAddress]:
    """The addresses of the sentinels: TLS as for the primary unless `told` otherwise, and credentials of their own."""
    options = {name.removeprefix(_OWN): value for name, value in told.items() if name != f"{_OWN}kwargs"}
    options |= told.get(f"{_OWN}kwargs") or {}
    if str(options.pop("ssl", kind is threads.SSLConnection)).lower() in {"true", "1", "yes"}:
        kind = threads.SSLConnection
        options = {name: value for name, value in given.items() if name.startswith("ssl_")} | options
    else:
        kind = threads.Connection
    try:
        check(options)
        check_tls(options)
    except ConfigError as wrong:
        raise ConfigError(f"of the sentinels: {wrong}") from None
    return [RedisAddress(kind, {**options, "host": host, "port": port}, timeout, options) for host, port in hosts]


def _from_pool(pool: Any, manager: Any) -> SentinelAddress:
    """The address of a client that redis-py's Sentinel made, sync or asyncio: its options, never its pool."""
    if not pool.is_master:
        raise ConfigError(
            "a client made by slave_for() leads to replicas, and leases need the primary: use master_for()"
        )
    kind = _CONNECTIONS.get(pool.connection_class)
    if kind is None or type(manager).discover_master not in _SEARCHES:
        raise ConfigError("a client of a Sentinel with a class of its own cannot be used: use redis-py's own classes")
    addresses.check_options(pool.connection_kwargs)
    sentinels = [addresses.from_client(client) for client in manager.sentinels]
    host = getattr(manager, "_force_master_ip", None)
    service = Service(str(pool.service_name), sentinels, manager.min_other_sentinels, host)
    return SentinelAddress(kind, addresses.timeless(pool.connection_kwargs), TIMEOUT, service)
