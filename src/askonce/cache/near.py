"""The `near=` of a cache: how many bytes of its answers it keeps in the process, and which stores have a near cache."""

from __future__ import annotations

import re

from askonce.core.providers.patterns import pattern
from askonce.core.urls import without_password
from askonce.core.wording import shown
from askonce.errors import ConfigError

LEAST = 2**20
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = pattern(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)
_REDIS = {"redis", "rediss", "unix", "valkey", "valkeys"}


def _says(who: str, size: str) -> str:
    """How a size is written where `who` gives it: in the code, or in a variable."""
    quoted = size if who.startswith("$") else repr(size)
    return f"{who}{quoted}"


def bytes_in(text: str) -> int | None:
    """The bytes that a text such as "64MB" says; None if it says none."""
    found = _SIZE.fullmatch(text.strip().lower())
    return int(float(found[1]) * _UNITS[found[2]]) if found is not None and found[2] in _UNITS else None


def size_of(near: object, who: str = "near=") -> int:
    """Bytes, from a number or a text such as "64MB"; ConfigError for anything else, and for less than LEAST but 0."""
    size = bytes_in(near) if isinstance(near, str) else near
    if not isinstance(size, int) or isinstance(size, bool):
        raise _no_size(near, who)
    if size < 0 or 0 < size < LEAST:
        raise ConfigError(
            f"{who}{shown(near)} is too small to keep answers: write at least {_says(who, '1MiB')}, or {who}0 for none"
        )
    return size


def _no_size(near: object, who: str) -> ConfigError:
    return ConfigError(
        f"{who}{shown(near)} is not a size: write a size such as {_says(who, '64MB')} (bytes, KB, MB, GB, KiB, MiB,"
        f" GiB), or {who}0 for none"
    )


def is_redis(url: str) -> bool:
    """Whether a URL names a Redis of any kind: a server, a Cluster, or a service of sentinels."""
    return url.partition(":")[0].partition("+")[0].lower() in _REDIS


def near_for(url: str, near: object, default: object, who: str = "near=") -> int:
    """The bytes of the near cache of a cache at this URL; 0 for none.

    `near`: what the cache was made with. `default`, which `who` gives, holds for caches that say nothing, where their
    store can have one. A wrong one is wrong for all of them: the next deployment may have a Redis.
    """
    redis = is_redis(url)
    if near is None:
        size = 0 if default is None else size_of(default, who)
        return size if redis else 0
    size = size_of(near)
    if size and not redis:
        raise ConfigError(
            f"near= is for Redis and Valkey, and this cache is at {without_password(url)}:"
            f" {'a file' if url.lower().startswith('sqlite:') else 'memory'} is near already, so leave near= out"
        )
    return size
