"""Where a Redis is, and redis-py's own connections to it, created but not connected.

redis-py knows how to reach a server: TLS, ACL users, credential providers, unix sockets, URL options. So its connection
classes connect and do the handshake, from a URL or from a client that the user configured. Its pools and its retries,
which may cost a caller a minute, are not used.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import ssl
import weakref
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis.asyncio.connection as tasks
import redis.connection as threads
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from askonce.errors import ConfigError
from askonce.store import CONNECT_TIMEOUT, TIMEOUT
from askonce.store.redis.options import check, check_query, check_tls, shown, typed
from askonce.store.redis.scripts import pack

try:
    from redis.maint_notifications import MaintNotificationsConfig

    _QUIET: Any = MaintNotificationsConfig(enabled=False)
except ImportError:  # before redis-py 7
    _QUIET = None

_TWINS: dict[type, type] = {
    tasks.Connection: threads.Connection,
    tasks.SSLConnection: threads.SSLConnection,
    tasks.UnixDomainSocketConnection: threads.UnixDomainSocketConnection,
}
_POOLS = {"max_connections", "timeout", "connection_class", "queue_class", "pool_class", "connection_pool"}
# Pool-wide machinery of redis-py that must not touch connections its pool does not know.
_MACHINERY = {
    "retry_on_timeout", "retry_on_error", "parser_class", "encoder_class", "command_packer", "event_dispatcher",
    "maint_notifications_config", "maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler",
    "maintenance_state", "maintenance_notification_hash", "orig_host_address", "orig_socket_timeout",
    "orig_socket_connect_timeout", "himport_registry", "lib_name", "lib_version", "driver_info", "cache",
    "cache_config", "legacy_responses", "decode_responses", "encoding", "encoding_errors", "protocol", "retry",
    "health_check_interval",
}  # fmt: skip
_UNVERIFIED = (None, "none", ssl.CERT_NONE)  # a context that verifies nothing must not check names either
_QUOTE = ", and quote a password with urllib.parse.quote(password, safe='')"
EXAMPLE = "redis://host:6379/0"
SOCKET = "unix:///run/redis.sock?db=0"
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class _Packer:
    """Packs redis-py's connecting commands as this store packs its own: hiredis gets no integer."""

    def pack(self, *words: Any) -> list[bytes]:
        """Pack one command; redis-py writes some names as two words in one text."""
        return [pack(*str(words[0]).split(), *words[1:])]


class Epoch:
    """The epoch of this process's connections to one server. A connection of an earlier epoch is not used again.

    `listeners`: methods that are called when an epoch ends, by any thread, as long as their objects live.
    """

    def __init__(self) -> None:
        self.number = 0
        # Not `number += 1`: of two threads that end an epoch at once, one could bring back the number that the other
        # has ended. Each number is given out once.
        self._numbers = itertools.count(1)
        self.listeners: dict[int, weakref.WeakMethod[Callable[[], object]]] = {}

    def end(self, number: int | None = None) -> None:
        """End this epoch, or the one of that number: its connections may no longer lead to a primary."""
        if number is None or number == self.number:
            self._begin(next(self._numbers))

    def _begin(self, number: int) -> None:
        self.number = number
        for name, known in list(self.listeners.items()):
            if (listener := known()) is None:
                self.listeners.pop(name, None)
            else:
                listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Call a method whenever an epoch ends. It takes no lock, and may be called by any thread."""
        self.listeners[id(listener.__self__)] = weakref.WeakMethod(listener)  # type: ignore[attr-defined]


_epochs: dict[str, Epoch] = {}


class RedisAddress:
    """Makes connections. `text` names the server without a password.

    `timeout`: how long it may be silent, `connect_timeout`: how long connecting may take, both in s.
    """

    def __init__(self, kind: type, options: Mapping[str, Any], timeout: float, spelled: Collection[str] = ()) -> None:
        self.timeout = timeout
        self.connect_timeout = float(options.get("socket_connect_timeout") or CONNECT_TIMEOUT)
        self._sync: type = _TWINS.get(kind, kind)
        self._async: type | None = next((one for one, twin in _TWINS.items() if twin is self._sync), None)
        self._options = {name: value for name, value in options.items() if name not in _MACHINERY | _POOLS}
        self._options |= {"socket_timeout": timeout, "retry": Retry(NoBackoff(), 0), "protocol": 3}
        if issubclass(self._sync, threads.SSLConnection):
            # redis-py before 6 accepts any valid certificate, whatever name it contains.
            self._options.setdefault(
                "ssl_check_hostname", self._options.get("ssl_cert_reqs", "required") not in _UNVERIFIED
            )
        self.text = self.named()
        self.epoch = self._shared_epoch()
        _check(self._sync, self._options, spelled)

    def _shared_epoch(self) -> Epoch:
        """The epoch that this address has in common with the others that lead to the same server."""
        return _epochs.setdefault(self.text, Epoch())

    def named(self) -> str:
        """The server as a URL without a password."""
        return _text(self._sync, self._options)

    @property
    def place(self) -> str:
        """``host:port``."""
        return _host_and_port(self._options)

    @property
    def host(self) -> str:
        """The host's name or number."""
        return str(self._options.get("host") or "localhost")

    @property
    def port(self) -> int:
        """The port."""
        return int(self._options.get("port") or 6379)

    @property
    def db(self) -> int:
        """The database's number."""
        return int(self._options.get("db") or 0)

    def at(self, host: str, port: int) -> RedisAddress:
        """The address of another server, with the same options."""
        return RedisAddress(self._sync, {**self._options, "host": host, "port": port}, self.timeout)

    def connection(self, connect_timeout: float) -> Any:
        """A blocking connection."""
        return self._made(self._sync, connect_timeout)

    def async_connection(self, connect_timeout: float) -> Any:
        """A connection for the running event loop."""
        assert self._async is not None
        return self._made(self._async, connect_timeout)

    def _made(self, kind: type, connect_timeout: float) -> Any:
        known = _parameters(kind)
        options = {name: value for name, value in self._options.items() if name in known}
        extra = _nameless(known)
        if "command_packer" in known:
            extra["command_packer"] = _Packer()
        if "maint_notifications_config" in known:
            extra["maint_notifications_config"] = _QUIET
        # Only while it connects; then its reader applies `timeout`.
        limits = {"socket_connect_timeout": connect_timeout, "socket_timeout": connect_timeout}
        return kind(**(options | extra | limits))


def from_url(url: str, options: Mapping[str, Any]) -> RedisAddress:
    """The address that a URL names, as redis-py parses it, plus redis-py's connection options."""
    scheme, colon, rest = url.partition(":")
    return RedisAddress(*parsed(scheme.lower() + colon + rest, url, options), options)


def parsed(
    plain: str, url: str, options: Mapping[str, Any], example: str = EXAMPLE
) -> tuple[type, dict[str, Any], float]:
    """The connection class, its options and the timeout that a URL names; `url` is what the user wrote for it."""
    scheme, colon, rest = plain.partition(":")
    plain = _SCHEMES.get(scheme, scheme) + colon + rest
    if scheme == "unix":
        example = SOCKET
    _check_netloc(plain, url)
    check_query(plain.partition("?")[2].partition("#")[0], url)
    try:
        urlsplit(plain).port  # noqa: B018 - raises if the port is no number
        _check_labels(urlsplit(plain).hostname or "")
        found = dict(threads.parse_url(plain))  # type: ignore[no-untyped-call]
    except ValueError:
        # Without the error's own text: for an unquoted password, it quotes a part of it.
        raise ConfigError(f"{shown(url)} is not a Redis URL: write {example}{_QUOTE}") from None
    check_no_at(plain.replace(urlsplit(plain).netloc, "", 1), url)
    if not plain.startswith("unix:"):
        _check_path(url, plain, example)
    given = {**typed(found), **options}
    kind = given.pop("connection_class", threads.Connection)
    check(given)
    if issubclass(kind, threads.SSLConnection):
        check_tls(given)
    timeout = float(given.get("socket_timeout") or TIMEOUT)
    if kind is threads.UnixDomainSocketConnection and not given.get("path"):
        raise ConfigError(f"{shown(url)} names no socket: write {SOCKET}")
    return kind, given, timeout


def _check_labels(host: str) -> None:
    """ValueError for a name that no resolver takes: one with a part that is empty, or has more than 63 letters."""
    labels = host.removesuffix(".").split(".")
    if host.isascii() and ":" not in host and host and not all(0 < len(one) < 64 for one in labels):
        raise ValueError("no name of a host")


def check_no_at(rest: str, url: str) -> None:
    """ConfigError if there is an @ in what follows the host."""
    if "@" in rest:
        # What precedes it is taken for a host or a path, and may be a part of a password: do not show it.
        raise ConfigError(f"{shown(url)} contains an @ after its host: write it as %40{_QUOTE}")


def from_client(client: Any) -> RedisAddress:
    """The address of a configured client: its connection class and options, never its pool."""
    pool = getattr(client, "connection_pool", None)
    kind = getattr(pool, "connection_class", None)
    options = getattr(pool, "connection_kwargs", None)
    plain = kind in _TWINS or kind in _TWINS.values()
    if not isinstance(kind, type) or not isinstance(options, Mapping) or not plain:
        name = type(client).__name__
        raise ConfigError(
            f"client={name} is not a plain client of one server: pass a redis.Redis, a redis.asyncio.Redis or a URL"
        )
    check_options(options)
    check_tls(options)
    return RedisAddress(kind, timeless(options), TIMEOUT)


def timeless(options: Mapping[str, Any]) -> dict[str, Any]:
    """A client's options without its timeouts: they were chosen for its own commands (5 s by default)."""
    return {name: value for name, value in options.items() if name not in {"socket_timeout", "socket_connect_timeout"}}


def check_options(options: Mapping[str, Any]) -> None:
    """ConfigError if a client's options cannot be used."""
    if options.get("redis_connect_func"):
        # redis-py wants a plain function or a coroutine function, and both kinds of connections are needed here.
        raise ConfigError(
            "a client with redis_connect_func= cannot be used: pass its credentials or a credential_provider"
        )


def of_node(host: str, port: int, options: Mapping[str, Any]) -> RedisAddress:
    """The address of a node of a configured cluster client, by the client's options for connections."""
    kind = options.get("connection_class") or (threads.SSLConnection if options.get("ssl") else threads.Connection)
    if kind not in _TWINS and kind not in _TWINS.values():
        raise ConfigError(f"a cluster client with connection_class={kind.__name__} cannot be used: pass a URL")
    known = _parameters(_TWINS.get(kind, kind)) - {"redis_connect_func"}  # the cluster client's own
    bare = {name: value for name, value in options.items() if name in known and type(value) is not object}
    check_tls(bare)
    return RedisAddress(kind, {**timeless(bare), "host": host, "port": port}, TIMEOUT)


@cache
def _parameters(kind: type) -> frozenset[str]:
    """Every option that a connection class or one of its bases takes."""
    found: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            found |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return frozenset(found - {"self", "args", "kwargs"})


def _nameless(known: Collection[str]) -> dict[str, Any]:
    """Options without which redis-py tells its name: CLIENT SETINFO would cost each connection two more round trips."""
    return {"driver_info": None} if "driver_info" in known else {"lib_name": None, "lib_version": None}


def _check(kind: type, options: Mapping[str, Any], spelled: Collection[str]) -> None:
    """Refuse unknown options, and options that do not fit together; those `spelled` in code may be named."""
    known = _parameters(kind)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else _OTHERS.get(name, "see the options of redis.Redis.from_url")
            # An unknown option in a URL may be the rest of an unquoted password.
            harmless = near or name in spelled or name in _parameters(threads.SSLConnection)
            told = repr(name) if harmless else "a name in the URL"
            raise ConfigError(f"{told} is not an option of a {kind.__name__} for Redis: {hint}")
    try:
        kind(**(_nameless(known) | dict(options)))
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigError(
            f"the options for Redis do not fit together: {error}; see the options of redis.Redis.from_url"
        ) from None


_TLS = {name for name in ("ssl", *_parameters(threads.SSLConnection)) if name.startswith("ssl")}
_OTHERS = {"max_bytes": "a Redis has the bound of its own configuration: set maxmemory there"}
_OTHERS |= dict.fromkeys(_TLS, "TLS is a scheme: write rediss:// in the URL")


def _check_netloc(plain: str, url: str) -> None:
    """ConfigError for what stands where redis-py would take its default, or half of what was written."""
    try:
        parts = urlsplit(plain)
        port, twice = parts.port, {"username": parts.username, "password": parts.password}
    except ValueError:
        return  # the URL's own error says more
    if port == 0:
        raise ConfigError(f"{shown(url)}: port 0 is no server's: write {EXAMPLE}")
    if parts.fragment:
        raise ConfigError(f"{shown(url)} contains a #: write it as %23{_QUOTE}")
    if parts.hostname and any(sign.isspace() or sign == "," for sign in parts.hostname):
        raise ConfigError(
            f"{shown(url)} names no host: write {EXAMPLE}, or {parts.scheme}+cluster://host:6379,host:6379"
        )
    names = dict(parse_qsl(parts.query))
    path = parts.path.strip("/")
    twice["db"] = path if path.strip("0").isdigit() and plain[:5] != "unix:" and path != names.get("db") else None
    if name := next((name for name in names if twice.get(name)), ""):
        raise ConfigError(f"{shown(url)}: {name} is given twice: write it before the ?, or after it")


def _check_path(url: str, plain: str, example: str) -> None:
    path = urlsplit(plain).path.strip("/")
    if path and not path.isdigit():
        raise ConfigError(f"{shown(url)}: the path is not a database number: write {example}{_QUOTE}")


def _text(kind: type, options: Mapping[str, Any]) -> str:
    user = f"{options['username']}@" if options.get("username") else ""
    if kind is threads.UnixDomainSocketConnection:
        return f"unix://{user}{options.get('path', '')}?db={options.get('db') or 0}"
    scheme = "rediss" if issubclass(kind, threads.SSLConnection) else "redis"
    return f"{scheme}://{user}{_host_and_port(options)}/{options.get('db') or 0}"


def _host_and_port(options: Mapping[str, Any]) -> str:
    host = str(options.get("host") or "localhost")
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{options.get('port') or 6379}"
