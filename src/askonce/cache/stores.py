"""Which store a URL names. A new kind of store is a folder in `store/`, and a line here."""

from __future__ import annotations

import os
import re
from typing import Any, Self, cast

from askonce.core.providers.patterns import pattern
from askonce.core.spelling import meant
from askonce.core.urls import without_password
from askonce.core.wording import shown, whole
from askonce.errors import ConfigError
from askonce.runtime.exits import EXIT
from askonce.store import (
    Store,
    StoreTrouble,
)


class _NoStore:
    """Replaces a store that cannot be loaded while Python ends and imports fail. Every command is StoreTrouble."""

    kind = "none"
    near = None
    visits = None
    address = "none"
    prefix = ""

    def blocking(self) -> Self:
        return self

    async def close(self) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        raise StoreTrouble(EXIT, "the interpreter is ending: no store can be loaded any more")


def no_store() -> Store:
    """The store of a cache that is made while Python ends."""
    return cast("Store", _NoStore())


def _scheme_of(url: str) -> str:
    """The scheme; "" without its //. A Cluster's and a service's own errors say what they want."""
    scheme = url.partition(":")[0].lower()
    return scheme if "://" in url or "+" in scheme else ""


def check_scheme(url: str) -> None:
    """ConfigError for a URL that names no kind of store."""
    if _scheme_of(url) not in SCHEMES:
        raise ConfigError(_no_store_at(url))


def open_store(url: str, *, prefix: str = "", asynchronous: bool = False, **options: Any) -> Store:
    """Return the store that a URL names, without any I/O. ConfigError for an invalid URL or option.

    ``sqlite:///file.db`` (options: max_bytes), ``memory://``, ``redis://``, ``rediss://``, ``unix://`` (redis-py's URL
    options; option `client`: a configured redis-py client, which makes the URL irrelevant), ``redis+sentinel://`` and
    ``rediss+sentinel://`` (docs/services.md).
    """
    scheme = _scheme_of(url)
    if scheme == "memory":
        from askonce.store.memory.store import MemoryStore

        return MemoryStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    if scheme == "sqlite":
        from askonce.store.sqlite.store import SQLiteStore, path_of

        _check_file(url, path_of(url))
        return SQLiteStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    if scheme == "unix" or scheme in _REDIS:
        from askonce.store.redis.store import RedisStore

        return RedisStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    raise ConfigError(_no_store_at(url))


_REDIS = {f"{one}{more}" for one in ("redis", "rediss", "valkey", "valkeys") for more in ("", "+cluster", "+sentinel")}
EXAMPLES = {
    "memory": "memory:// for a separate memory, or memory://name for a shared one",
    "sqlite": "sqlite:///file.db, or sqlite:////absolute/file.db",
    "unix": "unix:///run/redis.sock?db=0",
    **{scheme: f"{scheme}://host:6379/0" for scheme in ("redis", "rediss", "valkey", "valkeys")},
}
SCHEMES = {*EXAMPLES, *_REDIS}
_SCHEME = pattern(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_SERVER = pattern(r"[\w.-]+:\d{1,5}(/\d+)?", re.ASCII)
_PATH = pattern(r"[\w./~ -]*(/[\w. -]*|\.(db|sqlite3?))", re.IGNORECASE)
WRITE = "write sqlite:///file.db, redis://host:6379/0, rediss://..., unix://... or memory://"


def _check_file(url: str, path: str) -> None:
    """ConfigError for a path of something else than a file. What is missing above it may still come: that is trouble of
    the store.
    """
    if os.path.isdir(path):  # noqa: PTH112 - pathlib is not loaded for a lookup
        raise ConfigError(f"{whole(url)} is a folder: name a file in it, such as askonce.db")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - likewise
        raise ConfigError(f"{whole(url)} is a device, a socket or a pipe: name a file, as in sqlite:///file.db")


def _no_store_at(url: str) -> str:
    """What is wrong with a URL that names no kind of store. What may be a password in it is not repeated."""
    scheme, colon, _ = url.partition(":")
    if "://" not in url and (example := EXAMPLES.get(scheme.lower())):
        return f"{whole(without_password(url))} is no URL, because {scheme}: comes without //: write {example}"
    if _SERVER.fullmatch(url):
        return f"{whole(url)} names no kind of store: write redis://{url}"
    if not colon and _PATH.fullmatch(url):
        return f"{whole(url)} is a path and no URL: write sqlite:///{url}"
    if url[:1] in {'"', "'", "`"}:  # those of an --env-file are a part of the value
        return f"the URL begins with a quote, which is a part of it: remove the quotes around it, or {WRITE}"
    if not _SCHEME.fullmatch(scheme):
        return f"the URL begins with no scheme: {WRITE}"
    if scheme.lower() in {"http", "https"}:
        return f"no store has the scheme {shown(scheme)}, which is a gateway's: {WRITE}"
    right = meant(scheme, SCHEMES)
    return f"no store has the scheme {shown(scheme)}: {f'write {right}://...' if right else WRITE}"
