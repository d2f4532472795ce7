"""What a doctor looks at where the store is a server: what it is, what it keeps, and what happens when it is full.

By what the server says of itself. A service may refuse to say: then the doctor says that it cannot tell, and goes on.
What the server can do is tried, in `checks_abilities`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from askonce.cli import say
from askonce.cli.check import Check
from askonce.cli.checks_abilities import ability_checks
from askonce.cli.place import Place
from askonce.store import Store, StoreTrouble
from askonce.store.redis.abilities import first_reply, told
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import HELLO
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.store import RedisStore
from askonce.store.redis.trouble import Refusal

OLDEST = 7  # the major version that askonce is tested from; Valkey counts on from there
NEARLY = 0.9  # of maxmemory
SKEW = 5.0  # s
SLOTS = 16384
DOWN = "what it has is not cached meanwhile: start it, or let a replica take its place"


def server_checks(place: Place, store: Store) -> Iterator[Check]:
    """What each server says of itself, then what one of them can do; of the others, only what is not well."""
    if not isinstance(store, RedisStore):
        return
    servers = store.servers()
    reached: list[int] = []
    for partition, address in servers.items():
        trouble = _unreached(address)
        if trouble is not None:
            yield Check("server", f"{address.place}: {trouble}", "bad", DOWN)
        elif reached:
            lines = _of_server(address)
            yield from (check._replace(said=f"{address.place}: {check.said}") for check in lines if not check.well)
        else:
            yield from _of_server(address)
            reached.append(partition)
    for partition in reached:
        unused, cluster = store.names.unused(partition), len(servers) > 1
        yield from ability_checks(servers[partition], unused, place.prefix, cluster=cluster)


def _unreached(address: RedisAddress) -> StoreTrouble | None:
    try:
        open_connection(address).close()
    except StoreTrouble as trouble:
        return trouble
    return None


def _of_server(address: RedisAddress) -> Iterator[Check]:
    info = read_info(address)
    if info:
        yield from judged(info)
        if mode_of(info) == "sentinel":
            return
    else:
        yield _silent(address)
        yield memory({"maxmemory_policy": _setting(address, b"maxmemory-policy")})
    yield persistence(info, _setting(address, b"save"), _setting(address, b"appendfsync"))
    yield clock(address)
    if info.get("cluster_enabled") == "1":
        yield cluster(first_reply(address, b"CLUSTER", b"INFO"))


def read_info(address: RedisAddress) -> dict[str, str]:
    """INFO as a table; empty where it is refused."""
    return table(first_reply(address, b"INFO"))


def table(reply: Any) -> dict[str, str]:
    """The ``name:value`` lines of a reply; empty for any other reply."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _setting(address: RedisAddress, name: bytes) -> str | None:
    """A line of the configuration; None where CONFIG is refused."""
    reply = first_reply(address, b"CONFIG", b"GET", name)
    found = reply.get(name) if isinstance(reply, dict) else None
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else None


def judged(info: Mapping[str, str]) -> Iterator[Check]:
    """What INFO comes to."""
    yield _server(info)
    if mode_of(info) == "sentinel":
        return
    yield from _role(info)
    yield memory(info)


def mode_of(info: Mapping[str, str]) -> str:
    """``standalone``, ``cluster`` or ``sentinel``: Valkey has another name for it."""
    return info.get("server_mode") or info.get("redis_mode", "standalone")


def _server(info: Mapping[str, str]) -> Check:
    name = info.get("server_name", "redis")
    number = info.get(f"{name}_version", info.get("redis_version", "?"))
    mode = mode_of(info)
    said = f"{name.capitalize()} {number}, {mode}"
    if mode == "sentinel":
        remedy = "this is a sentinel, which keeps no data: write redis+sentinel://host:port/SERVICE"
        return Check("server", said, "bad", remedy)
    major = info.get("redis_version", "").partition(".")[0]
    if major.isdecimal() and int(major) >= OLDEST:
        return Check("server", said)
    return Check("server", said, "hint", f"askonce is tested with Redis {OLDEST}.0, Valkey 9 and later: upgrade")


def _silent(address: RedisAddress) -> Check:
    """A server that does not answer INFO, by its reply to HELLO."""
    try:
        connection = open_connection(address)
        try:
            (hello,) = connection.exchange(HELLO, 1)
        finally:
            connection.close()
    except StoreTrouble:
        hello = None
    facts = hello if isinstance(hello, dict) else {}
    name, number = (_text(facts.get(word)) for word in (b"server", b"version"))
    said = f"{name.capitalize() or 'unknown server'} {number}".rstrip()
    return Check("server", said, "hint", "cannot tell more: this user may not run INFO: ask the server's operator")


def _text(word: Any) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else ""


def _role(info: Mapping[str, str]) -> Iterator[Check]:
    if info.get("role", "master") != "master":
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        yield Check("role", "a replica", "bad", f"leases and invalidations need the primary: name {primary}")


def memory(info: Mapping[str, str | None]) -> Check:
    """What happens when the memory is full."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy is None:
        return Check("memory", "cannot tell what happens when it is full: INFO and CONFIG are refused", "hint")
    if "maxmemory" not in info:
        said, remedy = f"{policy}, of an unknown size", _policy(policy, "when it is full,")
        return Check("memory", said, "hint" if remedy else "ok", remedy)
    most, used = int(info["maxmemory"] or 0), int(info.get("used_memory") or 0)
    said = f"{say.size(used)} used of {say.size(most) if most else 'unlimited'}, {policy}"
    if not most:
        remedy = "the server grows until the machine is full: set maxmemory, and maxmemory-policy allkeys-lfu"
    else:
        remedy = _policy(policy, "it is nearly full, and then" if used > NEARLY * most else "when it is full,")
    return Check("memory", said, "hint" if remedy else "ok", remedy)


def _policy(policy: str, when: str) -> str:
    """What is not well about an eviction policy."""
    better = "set maxmemory-policy allkeys-lfu"
    if policy == "noeviction":
        return f"{when} it refuses to store: {better}"
    if policy == "volatile-ttl":
        return f"{when} it drops leases and running streams first, as they have the least time left: {better}"
    if policy.endswith("-random"):
        return f"{when} it drops what is asked most as readily as the rest: {better}"
    return ""


def persistence(info: Mapping[str, str], save: str | None, fsync: str | None) -> Check:
    """What is left after a crash. A server that comes back with older data has lost the invalidations since then."""
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        remedy = "by default it then refuses writes: look into its log, or turn snapshots off (save '')"
        return Check("persist", "the last snapshot failed", "hint", remedy)
    if info.get("aof_enabled") == "1":
        lost = {"always": "nothing", "everysec": "at most 1 s", None: "little"}.get(fsync, "what was not written")
        return Check("persist", f"append-only file: a crash loses {lost}, also of invalidations")
    if save is None:
        return Check("persist", "cannot tell what is left after a crash: CONFIG is refused", "hint")
    if not save:
        return Check("persist", "none: after a restart each question misses once, and nothing invalidated comes back")
    remedy = "turn it off for a cache (save ''), or use appendonly yes"
    said = f"snapshots (save {save}): a crash undoes all invalidations since the last one"
    return Check("persist", said, "hint", remedy)


def clock(address: RedisAddress) -> Check:
    """How far the server's clock is from this machine's; lifetimes are measured by the server's alone."""
    before = time.time()
    reply = first_reply(address, b"TIME")
    if reply is None or type(reply) is Refusal:
        why = told(reply) if type(reply) is Refusal else "no reply"
        return Check("clock", f"the server does not tell the time ({why})", "bad", "allow TIME: each lookup needs it")
    try:
        theirs = int(reply[0]) + int(reply[1]) / 1e6
    except (TypeError, ValueError, IndexError, KeyError):
        return Check("clock", f"cannot tell: {reply!r}"[:80], "hint")
    off = theirs - (before + time.time()) / 2
    if abs(off) <= SKEW:
        return Check("clock", f"the server's is within {SKEW:g} s of this machine's")
    said = f"the server's is {say.time(abs(off))} {'ahead of' if off > 0 else 'behind'} this machine's"
    remedy = "lifetimes and leases are not affected, answers that name a date of their own end are: set both by NTP"
    return Check("clock", said, "hint", remedy)


def cluster(reply: Any) -> Check:
    """The state of a Cluster, as one of its nodes sees it."""
    facts = table(reply)
    if not facts:
        return Check("cluster", "cannot tell its state: CLUSTER INFO is refused", "hint")
    served = int(facts.get("cluster_slots_ok", 0))
    said = f"{facts.get('cluster_size', '?')} primaries, {served} of {SLOTS} slots"
    if served < SLOTS or facts.get("cluster_state") != "ok":
        missing = f"{SLOTS - served} slots have no primary" if served < SLOTS else "the Cluster is not ok"
        return Check("cluster", said, "bad", f"{missing}: what falls into them is not cached: repair the Cluster")
    return Check("cluster", said)
