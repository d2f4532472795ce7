"""The View of a cache: all that the admin API, the page and the command line show, computed once, here.

It looks at the store and not at one process, so that every process of a fleet shows the same. It works over a cache of
either kind: over a Cache no method suspends (`runtime.drive`).
"""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import date
from typing import Any, TypeVar

from askonce.cache.base import base_of
from askonce.cache.cache import AsyncCache, Cache
from askonce.cache.totals import state_of, take
from askonce.core.keys import Key
from askonce.core.savings import Activity, Savings
from askonce.core.spent import Balance
from askonce.core.urls import without_prefix
from askonce.core.why import Miss, Why
from askonce.errors import AskonceError, UsageError
from askonce.gateway import nesting, short_keys
from askonce.gateway.results import (
    FLIGHTS,
    Answer,
    Answers,
    Filter,
    Flight,
    Invalidated,
    Pulse,
    Row,
    Rows,
    Stats,
    Swept,
)
from askonce.gateway.short_keys import NoSuchKey
from askonce.http.plain_request import PlainRequest
from askonce.http.rules import Asked
from askonce.store import Running, Store, inventory
from askonce.store.inventory import Listed

T = TypeVar("T")
LIMIT = 50  # entries in a list, unless told
RATE = 20_000  # entries a second that a sweep reads, unless told: a few per cent of a Redis
FIRST = 200  # entries that are looked at before an invalidation by labels
LABELS = frozenset({"scope", "tag", "model"})


def _silent(_met: int) -> None:
    """Nobody wants to know how far a walk has come."""


class View:
    """What a cache shows of its store. StoreTrouble or StoreUnavailable where the store fails.

    `reads`: how the gateway of this cache reads a request that is sent to it (None: no gateway serves it, and a request
    is read as a client of the cache sends it).
    """

    def __init__(self, cache: Cache | AsyncCache, reads: Callable[[PlainRequest], Asked] | None = None) -> None:
        self.cache = cache
        self._reads = reads
        self._base = base_of(cache)

    @property
    def store(self) -> Store:
        """The store of this process."""
        return self._base.engine().store

    @property
    def address(self) -> str:
        """The store's address, without a password."""
        return without_prefix(self.store.address)

    @property
    def prefix(self) -> str:
        """The prefix of its names."""
        return self._base.prefix

    async def now(self) -> float:
        """The store's clock, s since 1970."""
        return await inventory.now_us(self.store) / 1_000_000

    # what is in the store

    async def stats(self, progress: Callable[[int], None] = _silent) -> Stats:
        """The entries, counted on one walk through all of their headers; `progress` hears how many were met."""
        totals = await take(self.store, progress, self._base.codec)
        return Stats(self.address, self._base.prefix, totals.all, totals.states, totals.scopes, totals.models)

    async def entries(self, wanted: Filter | None = None, limit: int = LIMIT) -> Rows:
        """Up to `limit` entries, in no order; with `wanted`, those it accepts (None: all that can be served)."""
        now = await self.now()
        found = await _first(limit, self._met(wanted or Filter(), now))
        return Rows(found, len(found) == limit, now)

    async def _met(self, wanted: Filter, now: float) -> AsyncIterator[Row]:
        met = 0
        whole = [Key.parse(wanted.key)] if short_keys.is_whole(wanted.key) else []
        walk = inventory.of_keys(self.store, whole) if whole else inventory.records(self.store)
        async for record, head, live in walk:
            met += 1
            if met % inventory.STEP == 0:
                await self._pause()
            entry = inventory.listed(record, head, live, self._base.codec)
            state = state_of(entry, now)
            if wanted.accepts(entry, state):
                yield Row(**_fields(entry), state=state)

    async def entry(self, key: str, *, body: bool = False) -> Answers:
        """The forms of the entry whose key begins with `key` (`short_keys.whole`); bodies only if asked for."""
        now = await self.now()
        forms = [_answer(one, data, state_of(one, now), body_wanted=body) for one, data in await self._forms(key)]
        return Answers(forms, now)

    async def raw(self, key: str, form: str = "") -> bytes:
        """The bodies of an entry byte for byte, one after the other; of one form, if it is named."""
        found = [(entry, data) for entry, data in await self._forms(key) if form in {"", entry.form}]
        return b"".join(_readable(entry, data) for entry, data in found)

    async def _forms(self, key: str) -> list[tuple[Listed, bytes | None]]:
        (named,) = await short_keys.whole(self.store, [key])
        codec = self._base.codec
        read = [await inventory.read(self.store, named._replace(form=form), codec) for form in ("v", "j", "s")]
        found = [one for one in read if one is not None]
        if not found:
            raise NoSuchKey(f"no entry has the key {key}: see askonce ls --full, and check --url and --prefix")
        return found

    # what is under way

    async def flights(self, limit: int = FLIGHTS) -> list[Flight]:
        """Up to `limit` flights of all processes, the longest first."""
        return await self._under_way(await self.now(), limit)

    async def _under_way(self, now: float, limit: int = FLIGHTS) -> list[Flight]:
        running = await self.store.flights(limit)
        waiting = Counter[tuple[bytes, str]]()
        for key, callers in self._base.engine().background.waited().items():
            waiting[key.digest[:16], key.form] += callers
        found = [self._flight(one, now, waiting[one.digest, one.form]) for one in running]
        return sorted(found, key=lambda one: one.since)

    def _flight(self, one: Running, now: float, waiting: int) -> Flight:
        flight = self._base.engine().board.named(one.id, one.order)
        since = one.since / 1000
        return Flight(
            key=one.digest.hex(),
            form=one.form,
            since=since,
            seconds=max(0.0, now - since),
            deadline=one.deadline / 1000,
            here=flight is not None,
            followers=flight.followers if flight is not None else waiting,
            wanted=one.wanted,
            processes=one.waiting,
            model=flight.model if flight is not None else "",
            scope=flight.scope if flight is not None else "",
        )

    async def savings(self, since: int | date | None = None, by: str | Sequence[str] = ()) -> Savings:
        """Cache.savings: `since` a number of days or a date, None for all that is kept."""
        return await _settled(self.cache.savings(since=since, by=by))

    async def activity(self, days: int = 1) -> Activity:
        """Cache.activity of the last `days`."""
        return await _settled(self.cache.activity(days=days))

    async def misses(self, limit: int = 20) -> list[Miss]:
        """Cache.misses: the last `limit` of them."""
        return await _settled(self.cache.misses(limit))

    async def why(self, key: str = "", **asked: Any) -> Why:
        """Cache.why of a key, or of a request and its settings. A key may be the beginning of one that is stored, or
        that was asked lately.
        """
        if not key:
            return await _settled(self.cache.why(**asked))
        return await _settled(self.cache.why(key=await self._asked_key(key)))

    async def why_here(self, sent: PlainRequest) -> Why:
        """Why of a request that is sent to the gateway itself: under its rules, and for its tenant. UsageError."""
        if self._reads is None:
            raise UsageError("there is no gateway here: write the URL of the upstream")
        return await self._base.why_of(self._reads(sent))

    async def _asked_key(self, key: str) -> str:
        try:
            (named,) = await short_keys.whole(self.store, [key])
        except NoSuchKey:
            lately = await self._base.engine().explainer.beginning(key.lower())
            if len(lately) != 1:
                raise
            return lately.pop()
        return named.text

    async def pulse(self) -> Pulse:
        """What happened today, in all processes, and the flights now."""
        activity, now = await self.activity(), await self.now()
        sums = sum((hour.balance for hour in activity.hours), Balance())
        ended = {name: getattr(sums, name).calls for name in ("hits", "stale", "joined", "led")}
        return Pulse(
            at=now,
            lookups=sums.asked.calls,
            **ended,
            calls=sums.paid.calls,
            passed=sum(activity.passed.values()),
            unstored=sum(activity.unstored.values()),
            usd=sums.saved.usd,
            flights=await self._under_way(now),
        )

    # what changes it

    async def invalidate(self, aim: dict[str, Any], *, dry_run: bool = False) -> Invalidated:
        """Cache.invalidate with these arguments; a key may be the beginning of one. UsageError for a wrong aim."""
        if keys := aim.get("key"):
            aim = {**aim, "key": [one.text for one in await short_keys.whole(self.store, keys)]}
        if aim.keys() & LABELS and "request" not in aim:
            await self._check_secret()
        begun = time.monotonic()
        reached = await _settled(self.cache.invalidate(**aim, dry_run=dry_run))
        told = {name: name == "request" or value for name, value in aim.items()}
        return Invalidated(self._base.prefix, told, dry_run, reached, time.monotonic() - begun)

    async def _check_secret(self) -> None:
        """Refuse to invalidate by a label where labels are keyed with a secret that is not here: it reaches nothing.

        A first step through the store shows whether there are such entries.
        """
        rows = (await self.entries(Filter(dead=True), FIRST)).entries
        unknown = sorted({one.cipher for one in rows if not one.readable and one.cipher})
        if unknown:
            raise UsageError(
                f"entries here are encrypted with the key {', '.join(unknown)}, which is not here: their scopes, models"
                " and tags cannot be told; set $ASKONCE_KEYS, or use --key or --everything"
            )

    async def sweep(self, rate: int = RATE, progress: Callable[[int, int], None] | None = None) -> Swept:
        """Delete what no lookup can reach any more, at most `rate` entries a second. `progress` hears after each small
        step how many were met, and how many deleted (None: nobody does).
        """
        met = gone = 0
        begun = time.monotonic()
        async for met, gone in inventory.sweep(self.store):
            if progress is not None:
                progress(met, gone)
            await self._pause(met / rate - (time.monotonic() - begun))
        return Swept(self._base.prefix, met, gone)

    async def _pause(self, seconds: float = 0.0) -> None:
        """Wait, and let other tasks of the loop run in any case."""
        if self._base.asynchronous:
            import asyncio  # late: a command looks without it

            await asyncio.sleep(max(0.0, seconds))
        elif seconds > 0:
            time.sleep(seconds)  # noqa: ASYNC251 - over a Cache there is no loop


async def _settled(result: T | Awaitable[T]) -> T:
    """What a method of a cache returns: an AsyncCache's has to be awaited."""
    return await result if inspect.isawaitable(result) else result


async def _first(limit: int, met: AsyncIterator[Row]) -> list[Row]:
    found: list[Row] = []
    async for one in met:
        found.append(one)
        if len(found) == limit:
            break
    return found


def _answer(entry: Listed, body: bytes | None, state: str, *, body_wanted: bool) -> Answer:
    if not body_wanted:
        return Answer(**_fields(entry), state=state)
    if body is None:
        return Answer(**_fields(entry), state=state, unreadable=_unreadable(entry))
    return Answer(**_fields(entry), state=state, body=_shown(body))


def _fields(entry: Listed) -> dict[str, Any]:
    return {one.name: getattr(entry, one.name) for one in fields(entry)}


def _readable(entry: Listed, body: bytes | None) -> bytes:
    if body is None:
        raise AskonceError(_unreadable(entry))
    return body


def _unreadable(entry: Listed) -> str:
    """Why the body of an entry cannot be shown."""
    if entry.cipher:
        return f"encrypted with key {entry.cipher}, which is not here ($ASKONCE_KEYS), or is another key of that name"
    return f"compressed ({entry.codec}), and this installation cannot read it: pip install 'askonce[zstd]'"


def _shown(body: bytes) -> Any:
    """A body as JSON where it is, else as text."""
    try:
        return nesting.read(body)
    except ValueError:
        return body.decode("utf-8", "replace")
