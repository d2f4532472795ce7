"""A Ledger: one open transaction of a store that can hold a lock for a whole decision (memory, SQLite).

The verbs of the contract are written once here, over what a ledger reads and writes. Each verb reads the slot, lets
core.lease decide, and writes what has changed. The ledger's owner takes the lock before and commits after. So all
that a verb writes, notices to waiters included, is seen together or not at all.

Notices and tapes are written only if a caller may be waiting. A follower leaves `want` on the lease it was told to
follow. A lease that is gone may have taken its `want` with it, so its flight always says how it ended. The first
waiter is announced: a leader that streams then starts its log.
"""

# ruff: noqa: D102 - the contract documents what a verb does

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from askonce.core import lease as rules
from askonce.core.eviction import cost, worth
from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Follow, Generations, Lease, Slot
from askonce.core.model import (
    FORMS,
    Corrupt,
    Dates,
    Head,
    Lifetime,
    Sealed,
    entry_fields,
    foreign,
    packed_extensions,
    read_head,
)
from askonce.core.spelling import meant
from askonce.core.tape import ENDED, SAID, SHARED, STORED, WANTED, Ending, Notice, end_frame
from askonce.core.wording import shown
from askonce.errors import ConfigError
from askonce.store import Held, Running, StoreTrouble


class Ledger(Protocol):
    """What a transaction reads and writes. `now` and `now_us` are the store's clock, read under the lock."""

    now_us: int

    @property
    def now(self) -> int: ...

    def adopt(self, key: Key) -> None:
        """Continue under the prefix of this key's entry: the background thread counts and slides for all prefixes."""
        ...

    def slot(self, key: Key) -> Slot: ...

    def put_lease(self, key: Key, lease: Lease | None) -> None: ...

    def put_generations(self, generations: Generations) -> None: ...

    def put_entry(self, key: Key, sealed: Sealed, dates: Dates) -> bool:
        """Store an entry, after making room for it; False if it is too large."""
        ...

    def put_dates(self, key: Key, dates: Dates) -> None: ...

    def put_tape(self, key: Key, flight: bytes, order: int, log: bytes) -> None:
        """Write a whole log. A log that exists, written while its flight ran, stays."""
        ...

    def say(self, key: Key, notice: Notice) -> None: ...


MOST = 2**63 - 1  # bytes: as many as SQLite counts


def bytes_option(value: object, least: int) -> int:
    """The option max_bytes, which must be a number of bytes; ConfigError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST:
        return value
    raise ConfigError(f"max_bytes is {shown(value)}: write a number of bytes, at least {least}, such as 256 * 2**20")


def check_clock(value: object) -> None:
    """ConfigError if the option clock is given, and is no function."""
    if value is not None and not callable(value):
        raise ConfigError(f"clock={shown(value)}: give a function that returns microseconds since 1970")


def unknown_options(scheme: str, unknown: Iterable[str], known: Sequence[str]) -> str:
    """What is wrong with options that a store does not have."""
    right = [meant(name, known) for name in unknown]
    write = " and ".join(filter(None, right)) or " or ".join([", ".join(known[:-1]), known[-1]])
    return f"{scheme}:// has no option {', '.join(unknown)}: write {write}"


def realm(prefix: str) -> int:
    """The number under which a prefix keeps its generations: several prefixes may share a file or a memory."""
    return int.from_bytes(blake2b(prefix.encode(), digest_size=8).digest(), "big", signed=True)


def tape_name(key: Key, flight: bytes, order: int) -> bytes:
    """The name of a flight's tape."""
    return key.name + flight + order.to_bytes(8, "big")


def key_of(name: bytes) -> Key:
    """The reverse of name_of."""
    form: Any = name[32:].decode()
    return Key(name[:32], form)


def header(data: bytes | None, key: Key) -> tuple[Head | None, tuple[int, ...]]:
    """The head and fields of this key's entry; (None, ()) if there is none, or none that a reader would serve."""
    if data is None:
        return None, ()
    try:
        head = read_head(data)
        fields = entry_fields(data, head)
    except Corrupt:
        return None, ()
    if head.digest != key.digest or head.flags & 3 != FORMS.index(key.form) or foreign(head.flags):
        return None, ()
    return head, fields


def worth_of(data: bytes, size: int) -> int:
    """What a byte of an entry saves (core.eviction), by its header; the least for an entry that cannot be read.

    The store asks here when it stores an entry and when it reaches it, so an entry is worth the same both times.
    """
    try:
        return worth(cost(packed_extensions(data, read_head(data))), size)
    except Corrupt:
        return worth(0, size)


async def met(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, or its StoreTrouble."""
    try:
        return await work
    except StoreTrouble as trouble:
        return trouble


def _save(ledger: Ledger, key: Key, before: Slot, after: Slot) -> None:
    if after.lease is not before.lease:
        ledger.put_lease(key, after.lease)
    if after.generations is not before.generations:
        ledger.put_generations(after.generations)


def _ended(ledger: Ledger, key: Key, flight: bytes, order: int, ending: Ending) -> None:
    if ending.outcome != STORED:
        ledger.put_tape(key, flight, order, end_frame(ending))
    ledger.say(key, Notice(ENDED, flight, order, ending.outcome))


def claim(ledger: Ledger, key: Key, ask: Ask) -> Claim:
    """core.lease.claim, and its writes."""
    before = ledger.slot(key)
    said, after = rules.claim(before, ask, ledger.now_us)
    _save(ledger, key, before, after)
    if isinstance(said, Follow) and after.lease is not before.lease:
        ledger.say(key, Notice(WANTED, said.id, said.order))
    return said


def foreseen(ledger: Ledger, key: Key, ask: Ask) -> Claim | None:
    """The claim, if it would write nothing; else None. For a ledger that only reads."""
    before = ledger.slot(key)
    said, after = rules.claim(before, ask, ledger.now_us)
    return said if after == before else None


def fill(ledger: Ledger, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
    """core.lease.fill, and the flight's end for its followers."""
    before = ledger.slot(key)
    dates = life.dates(ledger.now)
    verdict, tape, after = rules.fill(before, flight, order, max(dates[1:]), ledger.now)
    held = before.lease if after.lease is not before.lease else None
    if verdict == "stored" and held is not None and not ledger.put_entry(key, sealed, dates):
        verdict, tape = "unkept", held.want
    _save(ledger, key, before, after)
    if tape:
        _ended(ledger, key, flight, order, Ending(SHARED, verdict, sealed.body))
    elif held is not None and held.want:
        _ended(ledger, key, flight, order, Ending(STORED))
    return verdict


def release(
    ledger: Ledger, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
) -> None:
    """core.lease.release, and the flight's end for its followers."""
    before = ledger.slot(key)
    told, after = rules.release(before, flight, order, failed, hint, ledger.now)
    _save(ledger, key, before, after)
    if told:
        _ended(ledger, key, flight, rules.ordered(before.lease, flight, order), ending)


def renew(ledger: Ledger, held: Sequence[Held], heartbeat: int) -> list[str]:
    """core.lease.renew for each lease, in one transaction."""
    return [_renew(ledger, one, heartbeat) for one in held]


def _renew(ledger: Ledger, held: Held, heartbeat: int) -> str:
    before = ledger.slot(held.key)
    said, after = rules.renew(before, held.id, held.order, heartbeat, ledger.now)
    _save(ledger, held.key, before, after)
    return said


def extend(ledger: Ledger, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
    """core.lease.extend, and its writes."""
    ledger.adopt(key)
    dates = rules.extend(ledger.slot(key), flight, order, hot_ttl, cap, ledger.now)
    if dates is not None:
        ledger.put_dates(key, dates)
    return dates is not None


def unsaid(length: int, offset: int, data: bytes) -> bytes:
    """The part of `data`, meant for `offset`, that a log of this length lacks; empty if it ends before `offset`."""
    return data[length - offset :] if offset <= length else b""


def said(flight: bytes, order: int, at: int, data: bytes = b"") -> Notice:
    """The notice of what was appended to a flight's log."""
    return Notice(SAID, flight, order, at.to_bytes(8, "big") + data)


def running(key: Key, lease: Lease, waiting: int | None = None) -> Running:
    """The flight that has a lease. `key`: the first half of its digest is enough."""
    since = lease.expire - rules.LEASE_LIFE
    return Running(key.digest[:16], key.form, lease.id, lease.order, since, lease.deadline, lease.want, waiting)


def counted(row: tuple[int, int, int] | None, hits: int, window: int, now: int) -> tuple[int, int, int]:
    """A counter after `hits` more: (number of the current half window, hits in it, hits in the one before)."""
    half = now // max(1, window // 2)
    last, running, before = row or (half, 0, 0)
    if last == half - 1:
        before, running = running, 0
    elif last != half:
        before, running = 0, 0
    return half, running + hits, before
