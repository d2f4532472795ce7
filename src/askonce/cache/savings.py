"""What a cache saved, and what it did: read from the tallies in the store, after this process has pushed its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar

from askonce.cache.trouble import reading
from askonce.core import tallies
from askonce.core.codec import MARK, Codec
from askonce.core.labels import OTHER
from askonce.core.model import Corrupt
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.savings import BY, Activity, By, Hour, Latency, Row, Savings
from askonce.core.spelling import meant
from askonce.core.spent import Balance
from askonce.core.tallies import DAY, EDGES, HOUR, Tallied, balance_of
from askonce.core.wording import list_of, one_of, shown
from askonce.engine.accounting import CALL, HIT
from askonce.engine.batch import BatchEngine
from askonce.errors import UsageError
from askonce.flight.bookings import opened

T = TypeVar("T")
Since = int | date | datetime | timedelta
EPOCH = date(1970, 1, 1)
HOTTEST = 50  # keys in an Activity
AT_ONCE = 300  # tallies, or rows, that are added up in one turn
DAYS = tallies.TABLES[tallies.BALANCES].kept


class Days(NamedTuple):
    """So many days up to today, or those since a date."""

    number: int | None = None
    since: date | None = None

    def back(self, today: date) -> int:
        """How many days to read; one more than it seems, where a clock may differ from the store's."""
        if self.number is not None:
            return self.number
        return DAYS if self.since is None else max(1, (today - self.since).days + 2)

    def first(self, today: date) -> date:
        """The first of them."""
        earliest = today - timedelta(days=DAYS - 1)
        wanted = today - timedelta(days=self.number - 1) if self.number is not None else self.since
        return earliest if wanted is None else max(earliest, wanted)


def days_of(since: Since | None) -> Days:
    """What `since` says; UsageError if it says nothing."""
    if isinstance(since, timedelta):
        if since < timedelta():
            raise UsageError(f"since={shown(since)}: give a timedelta that leads back, such as timedelta(days=7)")
        since = max(1, since.days + bool(since.seconds or since.microseconds))
    if isinstance(since, bool) or not isinstance(since, int | date | None):
        raise UsageError(f"since={shown(since)}: give a number of days, a date, a datetime or a timedelta")
    if isinstance(since, int):
        if since < 1:
            raise UsageError(f"since={since}: give at least 1, which is today")
        return Days(min(since, DAYS))
    if isinstance(since, datetime):
        with contextlib.suppress(OverflowError):  # at an end of the calendar, where a day does not matter
            since = since if since.tzinfo is None else since.astimezone(UTC)
        since = since.date()
    return Days(since=since)


def by_of(by: str | Sequence[str]) -> tuple[By, ...]:
    """What rows are split by; UsageError for anything unknown."""
    said = list_of("by", by)
    for one in said:
        if not one_of(one, BY):
            right = meant(one, BY) if isinstance(one, str) else None
            raise UsageError(f"by={shown(one)}: write {right or ', '.join(BY)}")
    return said  # type: ignore[return-value]  # checked


async def read(engine: BatchEngine, table: str, back: int) -> tuple[date, list[Tallied]]:
    """Today by the store's clock, and a table's tallies."""
    with reading():
        now, found = await engine.store.tallied(table, back)
    return datetime.fromtimestamp(now / 1000, UTC).date(), found


async def saved(engine: BatchEngine, since: Since | None, by: str | Sequence[str]) -> Savings:
    """The savings of some days."""
    days, split = days_of(since), by_of(by)
    await engine.pushed()
    back = min(days.back(datetime.now(UTC).date()), DAYS)
    today, found = await read(engine, tallies.BALANCES, back)
    if (more := min(days.back(today), DAYS)) > back + 1:  # the store's clock is days ahead of this one
        today, found = await read(engine, tallies.BALANCES, more)
    first = days.first(today)
    if first > today + timedelta(days=1):  # where today began before it did in UTC
        raise UsageError(
            f"since={first.isoformat()} is in the future: give a day up to {today.isoformat()}, today (UTC)"
        )
    counted = [one for one in found if _day(one.at) >= first]
    rows = await _rows(engine, counted, split)
    total = sum([_total(some) async for some in _in_turns(engine, counted)], Balance())
    return Savings(first, today, total, split, tuple(rows))


async def _in_turns(engine: BatchEngine, several: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Some of them at a time: a year has fifty thousand, and an event loop has other tasks."""
    for at in range(0, len(several), AT_ONCE):
        await engine.mode.give_way()
        yield several[at : at + AT_ONCE]


async def _rows(engine: BatchEngine, found: Sequence[Tallied], by: tuple[By, ...]) -> list[Row]:
    groups: dict[tuple[str, ...], list[Tallied]] = {}
    async for some in _in_turns(engine, found if by else ()):
        for one in some:
            said = {**_labels(engine.codec, one.label), "day": _day(one.at).isoformat()}
            groups.setdefault(tuple(said[name] for name in by), []).append(one)
    rows, order = [], _order(by)
    async for few in _in_turns(engine, list(groups.items())):
        rows += [(order(row), row) for row in (Row(labels, _total(group)) for labels, group in few)]
    return [row for _, row in sorted(rows, key=itemgetter(0))]


def _order(by: tuple[By, ...]) -> Callable[[Row], Any]:
    """By day, else what saved most money, tokens and calls first."""
    if by[:1] == ("day",):
        return lambda row: row.labels

    def most(row: Row) -> Any:
        saved = row.balance.saved
        return -saved.nanodollars, -saved.tokens, -saved.calls, row.labels

    return most


def _total(found: Iterable[Tallied]) -> Balance:
    return balance_of(tallies.summed(one.counts for one in found))


def _day(bucket: int) -> date:
    return EPOCH + timedelta(days=bucket)


def _labels(codec: Codec, label: bytes) -> dict[str, str]:
    """The model, scope and tenant in a label."""
    names = ("model", "scope", "tenant")
    if label == tallies.OTHER:
        return dict.fromkeys(names, OTHER)
    text = text_of(codec, label)
    parts = text.split("\0") if text is not None else []
    return dict(zip(names, parts, strict=True)) if len(parts) == len(names) else dict.fromkeys(names, ENCRYPTED)


ENCRYPTED = "(encrypted)"  # a label whose key is not here


def text_of(codec: Codec, label: bytes) -> str | None:
    """A label's text; None if it is encrypted with a key that is not here."""
    if label[:1] != bytes([MARK]):
        return label.decode("utf-8", "replace")
    try:
        return opened(codec, label)
    except Corrupt:
        return None


async def active(engine: BatchEngine, days: int) -> Activity:
    """What happened in the last days, today included."""
    if type(days) is not int or days < 1:
        raise UsageError(f"days={shown(days)}: give a number of days, at least 1")
    days = min(days, DAYS)
    await engine.pushed()
    passed, unstored = [await _reasons(engine, table, days) for table in (tallies.PASSED, tallies.UNSTORED)]
    _, hot = await read(engine, tallies.HOTTEST, days)
    hits: dict[str, int] = {}
    for one in hot:
        key = one.label.decode("ascii", "replace")
        hits[key] = hits.get(key, 0) + one.counts.get(tallies.COUNT, 0)
    hottest = sorted(hits.items(), key=lambda pair: (-pair[1], pair[0]))[:HOTTEST]
    return Activity(await _hours(engine, days), passed, unstored, tuple(hottest))


async def _reasons(engine: BatchEngine, table: str, days: int) -> Mapping[str, int]:
    """How often each reason, most first."""
    _, found = await read(engine, table, days)
    counts: dict[str, int] = {}
    for one in found:
        reason = OTHER if one.label == tallies.OTHER else text_of(engine.codec, one.label)
        reason = ENCRYPTED if reason is None else reason
        counts[reason] = counts.get(reason, 0) + one.counts.get(tallies.COUNT, 0)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


async def _hours(engine: BatchEngine, days: int) -> tuple[Hour, ...]:
    today, balances = await read(engine, tallies.HOURS, 24 * days)
    _, latencies = await read(engine, tallies.LATENCIES, 24 * days)
    first = ((today - EPOCH).days - days + 1) * (DAY // HOUR)
    took = {(one.at, one.label): _latency(one.counts) for one in latencies}
    sums = {one.at: balance_of(one.counts) for one in balances}
    return tuple(
        Hour(
            datetime.fromtimestamp(at * HOUR / 1000, UTC),
            sums.get(at, Balance()),
            took.get((at, HIT), Latency()),
            took.get((at, CALL), Latency()),
        )
        for at in sorted({*sums, *(at for at, _ in took)})
        if at >= first
    )


def _latency(counts: Mapping[str, int]) -> Latency:
    return Latency(tuple(counts.get(str(at), 0) for at in range(len(EDGES) + 1)))
