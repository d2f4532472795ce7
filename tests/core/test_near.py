"""The table of a near cache: bounded in bytes by a true account, and never found what was voided."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core.keys import Key
from askonce.core.lease import Generations
from askonce.core.model import FIELDS, Dates, Snapshot, pack_fields, read_entry, seal
from askonce.core.near import FIELD, OVERHEAD, Kept, Part, Seen, Standing, Table
from tests.profiles import examples

EPOCH = b"epoch001"
LIMIT = 2**20


def key(number: int) -> Key:
    return Key(number.to_bytes(32, "little"), "v")


def name(number: int) -> bytes:
    return b"name-of-%d" % number


def kept(number: int, size: int = 100, fields: tuple[int, ...] = (), clock: int = 3) -> Kept:
    extensions = {FIELDS: pack_fields(fields)} if fields else {}
    one = key(number)
    sealed = seal("v", one.digest, b"f" * 16, number, Snapshot(EPOCH, clock), 1000, extensions, bytes(size))
    entry = sealed.dated(Dates(1, 2, 3, 4))
    return Kept(entry, read_entry(entry, one.digest, "v"), fields)


def put(table: Table, part: Part, number: int, size: int = 100) -> None:
    table.fill(table.open(key(number), name(number), part, size), kept(number, size))


def found(table: Table, number: int) -> bool:
    slot = table.slots.get(key(number))
    return slot is not None and slot.kept is not None


# --- voiding -----------------------------------------------------------------------------------------------------

VOIDS = {
    "its own process writes it": lambda table, part: table.void(key(1)),
    "the server says that it changed": lambda table, part: table.told(name(1)),
    "the connection is lost": lambda table, part: table.lose(part),
    "its partition is another server's": lambda table, part: table.lose(part, {1}),
    "the connection is over": lambda table, part: table.forget(part),
}


@pytest.mark.parametrize("void", VOIDS.values(), ids=VOIDS)
def test_a_read_that_was_voided_on_its_way_is_never_found(void):
    for order in permutations(("void", "fill")):
        table, part = Table(LIMIT), Part(64)
        slot = table.open(key(1), name(1), part, 100)
        for step in order:
            if step == "void":
                void(table, part)
            else:
                table.fill(slot, kept(1))
        assert not found(table, 1)
        put(table, part, 1)
        assert found(table, 1), "a later read is kept"


def test_of_two_reads_under_way_only_the_later_one_is_found():
    for first in (0, 1):
        table, part = Table(LIMIT), Part(64)
        slots = [table.open(key(1), name(1), part, 100) for _ in range(2)]
        for at in (first, 1 - first):
            table.fill(slots[at], kept(1))
        assert table.slots[key(1)] is slots[1]
        table.told(name(1))
        assert not found(table, 1)


def test_what_another_part_was_told_stays():
    table, one, other = Table(LIMIT), Part(64), Part(64)
    put(table, one, 1)
    put(table, other, 2)
    table.lose(one)
    assert (found(table, 1), found(table, 2)) == (False, True)


def test_generations_that_moved_during_their_read_are_not_known():
    part = Part(64)
    place = part.open(5)
    part.move()
    place.standing = Standing(Generations(EPOCH, 1), frozenset())
    assert part.standing(5) is None


# --- validity ----------------------------------------------------------------------------------------------------


@given(
    own=st.sets(st.integers(1, 4)),
    asked=st.sets(st.integers(1, 4)),
    known=st.sets(st.integers(1, 4)),
    moved=st.dictionaries(st.integers(1, 4), st.integers(1, 6)),
    clock=st.integers(1, 6),
    floor=st.integers(0, 4),
    epoch=st.sampled_from((EPOCH, b"another1")),
)
def test_an_answer_stands_only_if_no_field_of_its_own_or_of_its_caller_moved(
    own, asked, known, moved, clock, floor, epoch
):
    moved = {field: min(when, clock) for field, when in moved.items()}
    read = {field: when for field, when in moved.items() if field in known}
    standing = Standing(Generations(epoch, clock, floor, read), frozenset(known))
    one = kept(1, fields=tuple(own))
    stands = one.stands(standing, tuple(asked))
    truly = epoch == EPOCH and floor <= 3 and all(moved.get(field, 0) <= 3 for field in own | asked)
    if clock == 3:
        assert stands == (epoch == EPOCH and floor <= 3)
    else:
        assert stands == (truly and own | asked <= known)
    assert one.stands(standing, tuple(asked)) == stands, "what was found once is found again"
    later = Standing(standing.generations._replace(clock=9, moved=dict.fromkeys(range(1, 5), 9)), frozenset(range(5)))
    assert not one.stands(later, tuple(asked)) or not own | asked, "and not under later generations"


# --- bytes -------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 50_000), st.sampled_from(("put", "void", "open")))))
def test_the_account_is_exact_and_within_the_bound_after_every_step(steps):
    table, part = Table(LIMIT), Part(64)
    for number, size, what in steps:
        if what == "put":
            put(table, part, number, size)
        elif what == "open":
            table.open(key(number), name(number), part, size)
        else:
            table.void(key(number))
        assert table.total() <= table.limit
    table.forget(part)
    assert table.total() == 0
    assert not table.slots


def test_the_bound_holds_for_real_memory():
    gc.collect()
    tracemalloc.start()
    try:
        limit = 4 * 2**20
        before = tracemalloc.get_traced_memory()[0]
        table, part = Table(limit), Part(64)
        for number in range(6_000):
            one = Key(number.to_bytes(32, "little"), "v")
            table.seen.again(one)
            put(table, part, number, number % 3_000)
        for partition in range(64):
            part.open(partition).standing = Standing(Generations(EPOCH, 1), frozenset(range(100)))
        table.know(part)
        put(table, part, 9_000)
        gc.collect()
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.4 * limit < took <= limit, f"{took} of {limit}"
    assert table.total() >= took, "what it says is no less than what it takes"
    assert table.total() <= limit


def test_a_larger_entry_than_a_sixteenth_of_the_bound_is_not_kept():
    table, part = Table(LIMIT), Part(64)
    put(table, part, 1, LIMIT // 16)
    put(table, part, 2, table.largest - 200)
    assert (found(table, 1), found(table, 2)) == (False, True)


def test_what_was_looked_at_outlives_what_was_not():
    table, part = Table(LIMIT), Part(64)
    room = LIMIT // (1000 + OVERHEAD)
    for number in range(room // 2):
        put(table, part, number, 1000)
    for number in range(10):
        table.slots[key(number)].visited = True
    for number in range(1000, 1000 + room):
        put(table, part, number, 1000)
    assert all(found(table, number) for number in range(10))
    assert not any(found(table, number) for number in range(10, 100))
    assert table.evicted


def test_a_key_is_seen_again_within_some_thousands_of_others_and_no_memory_grows():
    seen = Seen(100)
    assert not seen.again(key(1))
    assert seen.again(key(1))
    for number in range(2, 150):
        seen.again(key(number))
    assert seen.again(key(1)) == (hash(key(1)) in seen._young or hash(key(1)) in seen._old)
    for number in range(1000, 5000):
        seen.again(key(number))
    assert seen.total() <= 2 * 100 * 128
    assert not seen.again(key(2))


def test_known_fields_count():
    table, part = Table(LIMIT), Part(64)
    part.open(1).standing = Standing(Generations(EPOCH, 1), frozenset(range(10)))
    table.know(part)
    assert table.total() == 10 * FIELD
