"""Slots by hand: one key's state with literal times, for the tables of test_lease and test_lease_ends.

The clock starts small so that rows are easy to read: an entry is born at 1_000 ms, fresh until 2_000, servable during a
refresh until 3_000, on error until 4_000. A lease is granted at 1_500 with a heartbeat of 500.
"""

from __future__ import annotations

from typing import Any

from askonce.core.lease import NEVER, Ask, Generations, Lease, Limits, Slot, claim
from askonce.core.model import FIELDS, Dates, Head, Snapshot, pack_fields, read_head, seal

A, B, C = b"A" * 16, b"B" * 16, b"C" * 16
EPOCH = b"epoch001"
GENS = Generations(EPOCH, clock=7)
WIDE = Limits(ttl=1_000, grace=1_000, error=2_000)  # the limits of the entry
BEAT = 500
DATES = Dates(1_000, 2_000, 3_000, 4_000)


def entry(
    fill: bytes = A,
    order: int = 900,
    clock: int = 7,
    ttl: int = 1_000,
    dates: Dates = DATES,
    epoch: bytes = EPOCH,
    fields: tuple[int, ...] = (),
) -> Head:
    extensions = {FIELDS: pack_fields(fields)} if fields else {}
    return read_head(seal("v", b"d" * 32, fill, order, Snapshot(epoch, clock), ttl, extensions, b"body").dated(dates))


def lease(
    flight: bytes = B,
    order: int = 1_500_000,
    deadline: int = 2_000,
    clock: int = 7,
    fields: tuple[int, ...] = (),
    expire: int = 901_500,
) -> Lease:
    return Lease(flight, order, deadline, Snapshot(EPOCH, clock), fields, expire)


def slot(
    head: Head | None = None,
    held: Lease | None = None,
    generations: Generations = GENS,
    fields: tuple[int, ...] = (),
) -> Slot:
    return Slot(head, fields, held, generations)


def ask(
    flight: bytes = C,
    limits: Limits = WIDE,
    fields: tuple[int, ...] = (),
    after: int = 0,
    early: int = NEVER,
    heartbeat: int = BEAT,
) -> Ask:
    return Ask(flight, b"cand", fields, limits, after, early, heartbeat)


def claimed(state: Slot, now: int, question: Ask | None = None) -> Any:  # a Claim; the rows know which
    """What a claim at `now` ms says, its slot left aside."""
    return claim(state, question or ask(), now * 1000)[0]


def left(state: Slot, now: int, question: Ask | None = None) -> Any:  # the Lease, where there is one
    """The lease that a claim at `now` ms leaves behind."""
    return claim(state, question or ask(), now * 1000)[1].lease
