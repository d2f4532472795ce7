"""What a doctor looks at, as a walk of Checks: each says what is, and where that is not well, what to do about it.

It tries what a lookup, a flight and an invalidation would do, with the store's own verbs, under a prefix of its own
below the one given: rights that are limited to a prefix (``~{prefix:*``) reach it, no answer of a user is touched, and
what it wrote is removed. What is particular to a kind of store is in `checks_redis` and `checks_sqlite`.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from askonce import __version__
from askonce.cache import config
from askonce.cache.near import near_for, size_of
from askonce.cache.pricing import pricer_of
from askonce.cache.sealing import codec_of
from askonce.cache.stores import open_store
from askonce.cli import remedies, say
from askonce.cli.check import Check
from askonce.cli.checks_sealing import sealing_checks
from askonce.cli.place import Place, absent, is_gateway
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Lead, Limits
from askonce.core.model import Lifetime, seal
from askonce.core.tape import ALIVE, Notice
from askonce.core.urls import without_prefix
from askonce.errors import ConfigError, StoreUnavailable
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble
from askonce.store.redis.names import DEFAULT
from askonce.store.sqlite.store import path_of

LOOKUPS = 200
PATIENCE = 1.0  # s
SLOW = 0.005  # s: above this, a hit costs noticeably more than the network of one site
MINUTE = 60_000  # ms
UNLISTED = "without SCAN, `askonce ls`, stats, sweep and dry_run= do not work; all else does"
BRIEF = Limits(MINUTE, MINUTE, MINUTE)


def checks(place: Place) -> Iterator[Check]:
    """The diagnosis, line by line; it ends early where nothing further can be tried.

    ConfigError or UsageError before the first line, if the place or the environment is wrong.
    """
    if is_gateway(place.url):
        from askonce.cli.checks_gateway import gateway_checks

        return chain([_versions()], gateway_checks(place))
    config.find_mode(None)
    codec_of(None, None)
    pricer_of(None)
    with config.naming(place.variable):
        store = open_store(place.url, prefix=place.prefix)
    return _walk(place, store)


def _walk(place: Place, store: Store) -> Iterator[Check]:
    yield _versions()
    try:
        yield Check("store", f"{without_prefix(store.address)} (named by {place.source})")
        yield _prefix(place)
        yield from _mode()
        yield from _near(place)
        if absent(place.url):
            yield from _before_the_first(place)
        else:
            yield from _tried(store, place)
    finally:
        drive(store.close())


def _before_the_first(place: Place) -> Iterator[Check]:
    """The same for a file that is not there yet, tried in a new folder beside its place: a doctor leaves nothing."""
    path = Path(path_of(place.url))
    yield Check("file", f"{path} is not there yet; the first answer makes it")
    beside = next(folder for folder in path.parents if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=beside, prefix="askonce-doctor-") as folder:
            tried = place._replace(url=f"sqlite:///{quote(folder)}/askonce.db")
            store = open_store(tried.url, prefix=tried.prefix)
            try:
                yield from _tried(store, tried)
            finally:
                drive(store.close())
    except OSError as error:
        remedy = "let this user write there, or name another file with --url"
        yield Check("reach", f"{beside}: {error.strerror}", "bad", remedy)


def _tried(store: Store, place: Place) -> Iterator[Check]:
    yield from _named(store)
    reached = _reach(store, place)
    yield reached
    if reached.state == "ok":
        yield _round_trip(store, place)
        yield from _own(store, place)
        yield rights(place)
        yield from sealing_checks(store)
    elif store.kind == "redis":
        yield from _reachable(store, place)


def trouble(name: str, found: StoreTrouble | StoreUnavailable, place: Place, doing: str = "") -> Check:
    """A line for trouble of the store."""
    remedy = remedies.remedy(found).format(prefix=place.prefix or DEFAULT)
    return Check(name, f"{doing}{found} ({found.kind})", "bad", remedy)


def _versions() -> Check:
    parts = [("redis-py", "redis"), ("hiredis", "hiredis"), ("orjson", "orjson")]
    told = [f"{name} {_version(package)}" for name, package in parts]
    python = f"Python {platform.python_version()}"
    return Check("askonce", ", ".join([__version__, python, *told, f"SQLite {sqlite3.sqlite_version}"]))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _prefix(place: Place) -> Check:
    return Check("prefix", f'"{place.prefix}" (named by {place.prefix_source})' if place.prefix else "none")


def _mode() -> Iterator[Check]:
    mode = config.find_mode(None)
    if mode != "on":
        yield Check("mode", f"{mode} ($ASKONCE_MODE)", "hint", "unset ASKONCE_MODE to use the cache normally")


def _reachable(store: Store, place: Place) -> Iterator[Check]:
    """Of a Cluster that cannot be reached whole, each primary."""
    from askonce.cli.checks_redis import server_checks
    from askonce.store.redis.store import RedisStore

    if isinstance(store, RedisStore) and len(store.servers()) > 1:
        yield from server_checks(place, store)


def _near(place: Place) -> Iterator[Check]:
    """What $ASKONCE_NEAR asks for; whether the server can do it is tried with its other abilities (tracking)."""
    asked = config.default_near()
    try:
        size = near_for(place.url, None, asked)
        if size:
            yield Check("near", f"each process keeps up to {say.size(size)} of hot answers ($ASKONCE_NEAR)")
        elif asked and size_of(asked):
            yield Check("near", "$ASKONCE_NEAR is for Redis: this store needs no near cache")
    except ConfigError as wrong:
        yield Check("near", f"$ASKONCE_NEAR: {wrong}", "bad", "write ASKONCE_NEAR=64MB, or unset it")


def _named(store: Store) -> Iterator[Check]:
    if store.kind == "redis":
        from askonce.cli.checks_sentinel import sentinel_checks

        yield from sentinel_checks(store)


def _reach(store: Store, place: Place) -> Check:
    link = store.link()
    begun = time.perf_counter()
    try:
        link.probe()
    except StoreTrouble as found:
        return trouble("reach", found, place)
    finally:
        link.close()
    return Check("reach", f"the store answers after {say.time(time.perf_counter() - begun)}")


def _round_trip(store: Store, place: Place) -> Check:
    took: list[float] = []
    until = time.perf_counter() + PATIENCE
    while len(took) < LOOKUPS and time.perf_counter() < until:
        begun = time.perf_counter()
        try:
            drive(store.look(Key(os.urandom(32), "v"), ()))
        except StoreTrouble as found:
            return trouble("lookup", found, place)
        took.append(time.perf_counter() - begun)
    half, late, most = statistics.median(took), sorted(took)[len(took) * 99 // 100], max(took)
    said = f"median {say.time(half)}, p99 {say.time(late)}, slowest {say.time(most)}, of {len(took)}"
    if half <= SLOW:
        return Check("lookup", said)
    return Check("lookup", said, "hint", "each hit takes this long: use a store nearer to this machine")


def _own(store: Store, place: Place) -> Iterator[Check]:
    if store.kind == "sqlite":
        from askonce.cli.checks_sqlite import file_checks

        yield from file_checks(place)
    elif store.kind == "redis":
        from askonce.cli.checks_redis import server_checks

        yield from server_checks(place, store)


def rights(place: Place) -> Check:
    """Whether everything that askonce does is allowed there, by doing it."""
    prefix = f"{place.prefix or DEFAULT}:doctor-{os.urandom(4).hex()}"
    store = open_store(place.url, prefix=prefix)
    done: list[str] = []
    lost = ""
    try:
        for name, work in _works(store):
            try:
                work()
            except (StoreTrouble, StoreUnavailable) as found:
                if name != "list":
                    return trouble("rights", found, place, f"{name}: ")
                lost = f"list: {found}"
            else:
                done.append(name)
    finally:
        _clean(store)
    if lost:
        return Check("rights", f"may {', '.join(done)}; not {lost}", "hint", UNLISTED)
    return Check("rights", f"may {', '.join(done)}")


def _works(store: Store) -> Iterator[tuple[str, Callable[[], None]]]:
    key, flight = Key(os.urandom(32), "v"), os.urandom(16)

    def claim_and_fill() -> None:
        said = drive(store.claim(key, Ask(flight, flight[:4], (), BRIEF, 0, NEVER, 5000)))
        assert isinstance(said, Lead)
        grant = said.grant
        sealed = seal("v", key.digest, grant.id, grant.order, grant.snapshot, MINUTE, {}, b'"a doctor was here"')
        drive(store.fill(key, flight, grant.order, sealed, Lifetime(MINUTE, MINUTE, MINUTE, MINUTE)))

    yield "store", claim_and_fill
    yield "read", lambda: _none(drive(store.entry(key)))
    yield "count", lambda: _none(drive(store.count(key, 1, MINUTE)))
    yield "wake others", lambda: _wake(store, key)
    yield "list", lambda: _none(drive(store.scan(b"", 1)))
    yield "invalidate", lambda: drive(store.invalidate((), everything=True))


def _none(_: object) -> None:
    """A reply that was only waited for."""


def _wake(store: Store, key: Key) -> None:
    link = store.link()
    try:
        link.subscribe(key)
        said = False
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            notices, ready = link.poll(until - time.monotonic())
            if ready and not said:
                link.say(key, Notice(ALIVE, bytes(16), 1))
                said = True
            if notices:
                return
        if getattr(link, "may_not_listen", False):
            why = "this user may not use channels: callers that wait for another process ask every 0.1 s"
            raise StoreTrouble("store-denied", why)
        raise StoreTrouble("store-timeout", "no message arrived" if said else "the subscription did not start")
    finally:
        link.close()


def _clean(store: Store) -> None:
    try:
        while drive(store.raze(100)):
            pass
    except StoreTrouble:
        pass  # it may have been denied, and has been said then; what is left lives a minute
    finally:
        drive(store.close())
