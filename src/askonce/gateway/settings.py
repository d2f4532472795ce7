"""The settings of a gateway, as values; `config.load` makes them of a file, the environment and flags."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from askonce.cache.config import MODES
from askonce.cache.sealing import COMPRESSIONS
from askonce.core.policy import LONGEST
from askonce.gateway.addresses import address_of
from askonce.gateway.operator_rules import Rule
from askonce.gateway.sections import BYTES, SECONDS, between, key, one_of
from askonce.gateway.tenant_file import name_problem
from askonce.gateway.upstreams import Upstream

TOKEN_LEAST = 16  # characters of an admin token
TENANT_HEADER = "askonce-tenant"
LOOPBACK = ("127.0.0.0/8", "::1/128")
_RIGHT = "write 127.0.0.1 (this machine only), 0.0.0.0 or :: (every network), or one address"
WAYS = ("credential", "header", "file", "shared")


def token_problem(value: str) -> str:
    """What is wrong with a token; the message does not repeat it."""
    if value and len(value) < TOKEN_LEAST:
        return f"a token of {len(value)} characters: write at least {TOKEN_LEAST}, such as `openssl rand -hex 16` makes"
    if value and (not value.isascii() or " " in value or len(set(value)) == 1):
        return "a token that is no random text: write one that `openssl rand -hex 16` makes"
    return ""


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return f"{value!r} is no IP address: {_RIGHT}"
    return ""


def _host(value: str) -> str:
    if value.startswith(("/", "./", "../", "@", "unix:")):
        return f"{value!r}: the gateway listens on no Unix socket: write 127.0.0.1, which only this machine reaches"
    # Sockets take it for all networks, and nobody means that by a variable that is not set.
    return "" if value.strip() else f"'': {_RIGHT}"


def _networks(value: tuple[str, ...]) -> str:
    for one in value:
        try:
            ipaddress.ip_network(one)
        except ValueError as wrong:
            return f"{one!r} is no network ({wrong}): write one as '10.0.0.0/8'"
    return ""


def _near(value: int) -> str:
    return f"{value}: write at least '1MiB', or 0 for none" if 0 < value < 2**20 else ""


def _header(value: str) -> str:
    plain = value.replace("-", "").replace("_", "")
    if plain.isascii() and plain.isalnum() and value == value.lower():
        return ""
    return f"{value!r} is no name of a header in small letters: write it as 'x-team'"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """[server]: where the gateway listens."""

    host: str = key(
        "127.0.0.1",
        "address to listen on; :: is every network, of IPv6 and IPv4",
        env="ASKONCE_HOST",
        flag="host",
        check=_host,
    )
    port: int = key(
        8181, "port to listen on; 0: any free one", env="ASKONCE_PORT", flag="port", check=between(0, 65535)
    )
    workers: int = key(
        1, "processes, each with a socket of its own", env="ASKONCE_WORKERS", flag="workers", check=between(1, 256)
    )
    drain: float = key(60.0, "how long a shutdown waits for calls under way", unit=SECONDS)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """[store]: where answers are stored; the settings of a `Cache`, and what is not given is as there."""

    url: str = key("", "URL of the store; empty: as for a Cache", env="ASKONCE_URL", flag="url", repr=False)
    prefix: str | None = key(None, "first part of every stored name", env="ASKONCE_PREFIX", flag="prefix")
    mode: str = key(
        "on",
        "use of the store: on, off, refresh, or only-if-cached",
        env="ASKONCE_MODE",
        flag="mode",
        check=one_of(*MODES),
    )
    near: int | None = key(
        None,
        "answers of a Redis kept in each worker; 0: none",
        unit=BYTES,
        env="ASKONCE_NEAR",
        flag="near",
        check=_near,
    )
    compress: str = key(
        "", "compression of answers: zstd, or empty", env="ASKONCE_COMPRESS", check=one_of("", *COMPRESSIONS)
    )
    encryption: str = key("", "ring of keys, or file:PATH of one; empty: none", env="ASKONCE_KEYS", repr=False)


@dataclass(frozen=True, slots=True)
class TenantsConfig:
    """[tenants]: who may have whose answers."""

    by: str = key(
        "credential",
        "what makes a tenant: credential, header, file, or shared",
        env="ASKONCE_TENANTS",
        check=one_of(*WAYS),
    )
    name: str = key("shared", "name of the one tenant, with by = 'shared'")
    header: str = key(TENANT_HEADER, "request header that names the tenant, with by = 'header'", check=_header)
    proxies: tuple[str, ...] = key(
        LOOPBACK, "networks whose requests may name a tenant, with by = 'header'", check=_networks
    )
    file: str = key("", "file of key digests and names, with by = 'file'")
    unlisted: str = key(
        "own",
        "a key that the file does not list: own (its own tenant), or pass (not cached)",
        check=one_of("own", "pass"),
    )
    verify: bool = key(
        True, "whether upstream must have accepted a credential; false, with by = 'header': the proxy vouches for it"
    )
    recheck: float = key(
        3600.0,
        "how long a credential that upstream accepted gets stored answers",
        unit=SECONDS,
        check=between(1, 86400),
    )


_OF_WAY = {"name": "shared", "header": "header", "proxies": "header", "verify": "header"}
_OF_WAY |= {"file": "file", "unlisted": "file"}


def needless_problem(tenants: TenantsConfig, word: str) -> str:
    """What is wrong with a key that means something only with another `by`, "" if nothing."""
    way = _OF_WAY.get(word, tenants.by)
    return (
        "" if way == tenants.by else f"{word} means something with by = {way!r}, and by is {tenants.by!r}: leave it out"
    )


def tenants_problem(tenants: TenantsConfig) -> str:
    """What is wrong with the section as a whole, "" if nothing."""
    if tenants.by == "file" and not tenants.file:
        return "by = 'file' needs file = 'tenants.txt', with a line `DIGEST NAME` for each key"
    if tenants.by == "shared" and (problem := name_problem(tenants.name)):
        return f"name = {problem}"
    return ""


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """[admin]: the admin API and the dashboard, below /_askonce/."""

    token: str = key(
        "",
        "token of the admin API and the dashboard; empty: both are off",
        env="ASKONCE_ADMIN_TOKEN",
        check=token_problem,
        repr=False,
    )
    token_file: str = key("", "file that holds the token", env="ASKONCE_ADMIN_TOKEN_FILE", flag="admin-token-file")
    bind: str = key(
        "127.0.0.1", "address at which they are served", env="ASKONCE_ADMIN_BIND", flag="admin-bind", check=_address
    )

    def reachable(self, local: str | None) -> bool:
        """Whether they are served on a connection that reached this `local` address; None: of a Unix socket.

        The kernel delivers nothing from another machine to a loopback address, so this is as good as a socket bound
        to it, on any number of workers and without another port.
        """
        if local is None:
            return True
        try:
            bound, reached = ipaddress.ip_address(self.bind), address_of(local)
        except ValueError:
            return False
        return bound.is_unspecified or (reached.is_loopback if bound.is_loopback else reached == bound)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """[limits]: what one request, one worker and the upstreams may take."""

    head: int = key(65536, "largest head of a request", unit=BYTES, check=between(1024))
    body: int = key(2**30, "largest body of a request; a larger one gets 413", unit=BYTES, check=between(1))
    buffer: int = key(
        32 * 2**20, "largest body that is read for its key; a larger one streams upstream, uncached", unit=BYTES
    )
    head_timeout: float = key(10.0, "how long a head may take to arrive", unit=SECONDS, check=between(0.1))
    body_timeout: float = key(
        60.0,
        "how long a body may take to arrive, plus a second for each 64 KiB of it",
        unit=SECONDS,
        check=between(0.1),
    )
    keep_alive: float = key(75.0, "how long a silent connection stays open", unit=SECONDS, check=between(0.1))
    concurrency: int = key(10_000, "connections and requests of a worker at one time; more get 503", check=between(1))
    connections: int = key(1000, "connections of a worker to one upstream", check=between(1))
    connect_timeout: float = key(
        5.0, "how long connecting to an upstream may take", unit=SECONDS, check=between(0.1, LONGEST)
    )
    read_timeout: float = key(600.0, "how long an upstream may be silent", unit=SECONDS, check=between(0.1, LONGEST))


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]: what is written about requests."""

    level: str = key(
        "info",
        "least level: debug, info, warning, or error",
        env="ASKONCE_LOG",
        flag="log",
        check=one_of("debug", "info", "warning", "error"),
    )
    requests: bool = key(False, "write one JSON line for each request", env="ASKONCE_LOG_REQUESTS", flag="log-requests")


@dataclass(frozen=True, slots=True)
class PricesConfig:
    """[prices]: prices of models that the built-in list does not know."""

    file: str = key("", "file of prices of your own; off: no prices", env="ASKONCE_PRICES")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All of it. `tenant_names`: what the file of [tenants] maps, sha256 of a credential to a name."""

    upstreams: tuple[Upstream, ...] = ()
    rules: tuple[Rule, ...] = ()
    server: ServerConfig = field(default_factory=ServerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    tenants: TenantsConfig = field(default_factory=TenantsConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    prices: PricesConfig = field(default_factory=PricesConfig)
    tenant_names: dict[str, str] = field(default_factory=dict, repr=False)


SECTIONS: dict[str, type[Any]] = {
    "server": ServerConfig,
    "store": StoreConfig,
    "tenants": TenantsConfig,
    "admin": AdminConfig,
    "limits": LimitsConfig,
    "log": LogConfig,
    "prices": PricesConfig,
}
