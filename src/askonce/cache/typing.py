"""The types of the public face: what a call returns, the options of a cache by name, and the modules of clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypedDict, TypeVar

from askonce.cache.options import PolicyFields
from askonce.core.rules import RuleWords
from askonce.store import Clock

# What JSON can hold, so that a coroutine function given to a Cache, or an SDK's object, is an error of types.
# TypedDicts are Mappings of objects and no dicts. A tuple would come back as a list.
T = TypeVar("T", bound="Mapping[str, object] | list[Any] | str | float | bool | None")
T_co = TypeVar("T_co", covariant=True)
I = TypeVar("I")  # noqa: E741 - an item
C_co = TypeVar("C_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)

Replay = Literal["at-once", "paced"]


class ClientModule(Protocol[C_co, A_co]):
    """A module of HTTP clients: httpx2, httpx."""

    @property
    def Client(self) -> Callable[..., C_co]:  # noqa: N802 - its name there
        """Its sync client."""
        ...

    @property
    def AsyncClient(self) -> Callable[..., A_co]:  # noqa: N802 - its name there
        """Its async client."""
        ...


class RedisOptions(TypedDict, total=False):
    """The options of redis-py's connections that a cache passes on; redis-py has their defaults, but for two.

    `socket_timeout` (0.2 s) and `socket_connect_timeout` (1.0 s): the longest that one exchange, or a new connection,
    may take. `max_connections` has no effect: threads share up to 32 connections, and tasks of a loop share one. `db`:
    the number of the database. `socket_read_size`: bytes read at once. `socket_type`, `socket_keepalive_options`:
    numbers of the socket module. All others as in ``redis.Redis``.
    """

    db: int
    username: str | None
    password: str | None
    credential_provider: Any
    client_name: str | None
    socket_timeout: float
    socket_connect_timeout: float
    socket_keepalive: bool | None
    socket_keepalive_options: Mapping[int, int | bytes] | None
    socket_read_size: int
    socket_type: int
    max_connections: int
    redis_connect_func: Callable[..., Any] | None
    ssl: bool
    ssl_keyfile: str | None
    ssl_certfile: str | None
    ssl_password: str | None
    ssl_cert_reqs: Any
    ssl_ca_certs: str | None
    ssl_ca_data: str | bytes | None
    ssl_ca_path: str | None
    ssl_check_hostname: bool
    ssl_ciphers: str | None
    ssl_min_version: Any
    ssl_validate_ocsp: bool
    ssl_validate_ocsp_stapled: bool
    ssl_ocsp_context: Any
    ssl_ocsp_expected_cert: str | None
    ssl_include_verify_flags: list[Any] | None
    ssl_exclude_verify_flags: list[Any] | None


class StoreOptions(RedisOptions, total=False):
    """The options of stores, and those of Redis (`RedisOptions`).


    `max_bytes` of SQLite (1 GiB) and memory (256 MiB): the room of the whole store, in bytes. `private` (True): SQLite
    keeps its file from other users. `clock`: of memory and SQLite, returns microseconds since 1970 (for tests).
    """

    max_bytes: int
    private: bool
    clock: Clock


class Fields(PolicyFields, total=False):
    """The fields of a `Policy` as keywords. `ttl`: seconds that an answer stays fresh (None: the policy's)."""

    ttl: float | None


class CacheOptions(StoreOptions, RuleWords, Fields, total=False):
    """The keywords of a cache beside those of its signature.

    Options of its store (`StoreOptions`), rules about requests (`RuleWords`), and fields of `Policy`, `ttl` among them.
    """
