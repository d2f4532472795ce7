"""Which store a URL names. A new kind of store is a folder in `store/`, and a line here."""

from __future__ import annotations

from typing import Any, Self, cast

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


def open_store(url: str, *, prefix: str = "", asynchronous: bool = False, **options: Any) -> Store:
    """Return the store that a URL names, without any I/O. ConfigError for an invalid URL or option.

    ``sqlite:///file.db`` (options: max_bytes), ``memory://``, ``redis://``, ``rediss://``, ``unix://`` (redis-py's URL
    options; option `client`: a configured redis-py client, which makes the URL irrelevant), ``redis+sentinel://`` and
    ``rediss+sentinel://`` (docs/services.md).
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "memory":
        from askonce.store.memory.store import MemoryStore

        return MemoryStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    if scheme == "sqlite":
        from askonce.store.sqlite.store import SQLiteStore

        return SQLiteStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    if scheme.partition("+")[0] in {"redis", "rediss", "valkey", "valkeys"} or scheme == "unix":
        from askonce.store.redis.store import RedisStore

        return RedisStore.from_url(url, prefix=prefix, asynchronous=asynchronous, **options)
    raise ConfigError(
        f"no store has the scheme {scheme!r}: write sqlite:///file.db, redis://host:6379/0, rediss://..., unix://... or memory://"
    )
