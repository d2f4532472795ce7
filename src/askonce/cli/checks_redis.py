"""What a doctor looks at where the store is a server: what it is, and how it behaves when its memory is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from redis.exceptions import RedisError

from askonce.cli import say
from askonce.cli.check import Check
from askonce.cli.place import Place
from askonce.store import CONNECT_TIMEOUT
from askonce.store.redis import address as addresses

OLDEST = 7  # the major version that askonce is tested from; Valkey counts on from there
NEARLY = 0.9  # of maxmemory


def server_checks(place: Place) -> Iterator[Check]:
    """By what INFO says; a user who may not ask for it gets a hint instead."""
    info = read_info(place)
    if info:
        yield from judged(info)
    else:
        yield Check("server", "unknown server", "hint", "this user may not run INFO: ask the server's operator")


def read_info(place: Place) -> dict[str, str]:
    """INFO as a table; empty where it is refused."""
    connection = addresses.from_url(place.url, {}).connection(CONNECT_TIMEOUT)
    try:
        connection.connect()
        connection.send_command("INFO")
        reply = connection.read_response()
    except (RedisError, OSError):
        return {}
    finally:
        with contextlib.suppress(RedisError, OSError):
            connection.disconnect()
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def judged(info: Mapping[str, str]) -> Iterator[Check]:
    """What INFO comes to."""
    yield _server(info)
    yield from _role(info)
    yield _memory(info)


def _server(info: Mapping[str, str]) -> Check:
    name = info.get("server_name", "redis")
    number = info.get(f"{name}_version", info.get("redis_version", "?"))
    said = f"{name.capitalize()} {number}, {info.get('redis_mode', 'standalone')}"
    major = info.get("redis_version", "").partition(".")[0]
    if major.isdecimal() and int(major) >= OLDEST:
        return Check("server", said)
    return Check("server", said, "hint", f"askonce is tested with Redis {OLDEST}.0, Valkey 9 and later: upgrade")


def _role(info: Mapping[str, str]) -> Iterator[Check]:
    if info.get("role", "master") != "master":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        yield Check("role", "a replica", "bad", f"leases and invalidations need the primary: name {primary}")


def _memory(info: Mapping[str, str]) -> Check:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    said = f"{say.size(used)} used of {say.size(most) if most else 'unlimited'}, {policy}"
    if not most:
        remedy = "the server grows until the machine is full: set maxmemory, and maxmemory-policy allkeys-lfu"
    elif policy == "noeviction":
        full = "it is nearly full, and then" if used > NEARLY * most else "when it is full,"
        remedy = f"{full} it refuses to store: set maxmemory-policy allkeys-lfu"
    else:
        return Check("memory", said)
    return Check("memory", said, "hint", remedy)
