"""Tallies: counters in the store, added up over all processes, and how they are bounded.

A tally is some counters under a label, in a bucket of time. Processes do not add to it one by one: each gathers for
about a second, and sends a Push. The store's clock decides to which bucket a push belongs. A push has a number, which
the store remembers for its sender: one that comes twice, because the reply to the first was lost, counts once.

A bucket holds a bounded number of labels. In most tables, the labels after that are counted as OTHER. The table of hot
keys replaces the coldest key instead: the new one takes over its count and adds its own (the rule of Space-Saving). So
a count may be too high by that of a cold key, and a hot key is never missed. Buckets end with their retention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.spent import KINDS, NOTHING, SPENT, Balance, Spent

HOUR = 3_600_000  # ms
DAY = 24 * HOUR
OTHER = b"\xff"  # the label of what came after the others: no text in UTF-8, and no envelope
SENDER_LIFE = DAY  # ms that the number of a sender's last push is remembered
COUNT = "n"  # the only counter of most tables
MOST = 2**62  # of a counter, either way: two of them still fit into the 64 bits of a store

BALANCES, HOURS, LATENCIES, PASSED, UNSTORED, HOTTEST = "d", "h", "l", "p", "u", "k"

# Of the ranges of latencies, ms: three for each factor of ten, to know a quantile to within a factor of two and a half.
EDGES = tuple(float(digit) * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5))


class Table(NamedTuple):
    """One kind of tally: `span` of a bucket, ms; the most labels in it; how many buckets are kept.

    `replaces`: a new label replaces the one with the lowest count, and is not counted as OTHER.
    """

    span: int
    most: int
    kept: int
    replaces: bool = False


TABLES: Mapping[str, Table] = {
    BALANCES: Table(DAY, 128, 400),
    HOURS: Table(HOUR, 1, 35 * 24),
    LATENCIES: Table(HOUR, 2, 35 * 24),
    PASSED: Table(DAY, 100, 35),
    UNSTORED: Table(DAY, 100, 35),
    HOTTEST: Table(DAY, 200, 35, replaces=True),
}


class Tally(NamedTuple):
    """Counters to add under a label of a table."""

    table: str
    label: bytes
    counts: Mapping[str, int]


class Push(NamedTuple):
    """What one process gathered under a prefix. `sender` names it, 16 random bytes; it numbers its pushes from 1."""

    prefix: str
    sender: bytes
    number: int
    tallies: tuple[Tally, ...]


class Tallied(NamedTuple):
    """A tally as it stands in the store. `at`: the number of its bucket: ms since 1970, divided by the span."""

    at: int
    label: bytes
    counts: Mapping[str, int]


Bucket = dict[bytes, dict[str, int]]  # by label


def add(bucket: Bucket, tally: Tally) -> None:
    """Add a tally to a bucket. This is the rule of every store: the scripts of Redis are held to it by a law."""
    label, table = tally.label, TABLES[tally.table]
    if label not in bucket and len(bucket) >= table.most:
        if table.replaces:
            bucket[label] = bucket.pop(coldest(bucket))
        else:
            label = OTHER
    counts = bucket.setdefault(label, {})
    for name, count in tally.counts.items():
        counts[name] = bounded(counts.get(name, 0) + count)


def bounded(count: int) -> int:
    """A counter stops at MOST: one nonsensical number must not stop the others from being counted."""
    return max(-MOST, min(count, MOST))


def coldest(bucket: Bucket) -> bytes:
    """The label with the lowest count, the first by name of several."""
    return min(bucket, key=lambda label: (bucket[label].get(COUNT, 0), label))


def oldest(table: str, now: int) -> int:
    """The number of the oldest bucket that is kept at `now` (ms)."""
    return now // TABLES[table].span - TABLES[table].kept + 1


def first(table: str, now: int, back: int) -> int:
    """The number of the first of the last `back` buckets, of those that are kept at `now` (ms)."""
    return max(now // TABLES[table].span - back + 1, oldest(table, now))


# --- balances as counters -----------------------------------------------------------------------------------------

_NAMES = {kind: {name: f"{kind[0]}{short}" for name, short in zip(SPENT, "niocutx", strict=True)} for kind in KINDS}
_UNANSWERED = "un"


def counts_of(balance: Balance) -> dict[str, int]:
    """A balance as counters, without those that are 0."""
    counts = {
        short: count
        for kind, names in _NAMES.items()
        if (spent := getattr(balance, kind)) is not NOTHING  # most are: a booking is of one kind
        for name, short in names.items()
        if (count := getattr(spent, name))
    }
    return counts | ({_UNANSWERED: balance.unanswered} if balance.unanswered else {})


def balance_of(counts: Mapping[str, int]) -> Balance:
    """The reverse of counts_of; unknown counters, of a later version, are ignored."""
    spent = {kind: Spent(*(counts.get(short, 0) for short in _NAMES[kind].values())) for kind in KINDS}
    return Balance(**spent, unanswered=counts.get(_UNANSWERED, 0))


def summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of counters, by name."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = bounded(sums.get(name, 0) + count)
    return sums
