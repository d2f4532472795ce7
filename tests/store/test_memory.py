"""The memory store's own: names, bounds, forks, notices. The laws cover what every store must do."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core.lease import Follow, Hit, Lead
from askonce.core.model import Lifetime, read_entry, read_head
from askonce.core.tape import ENDED, FAILED, SAID, SHARED, STORED, WANTED, Ending, Notice, read_ending
from askonce.errors import ConfigError
from askonce.runtime.drive import drive
from askonce.store import Held
from askonce.store.memory.data import Kept
from askonce.store.memory.store import MemoryStore
from tests.store.keeping import LIFE, Clock, ask, key, lead, put, sealed, visit


def test_what_is_filled_is_looked_up_whole_and_claimed_as_a_hit():
    store = MemoryStore.from_url("memory://")
    grant = put(store, key(1), 1)
    look = drive(store.look(key(1), ()))
    assert look.entry is not None
    assert read_entry(look.entry, key(1).digest, "v").order == grant.order
    assert look.generations.epoch == grant.snapshot.epoch
    assert isinstance(drive(store.claim(key(1), ask(2))), Hit)


def test_a_name_is_shared_within_the_process_and_no_name_is_private():
    put(one := MemoryStore.from_url("memory://shared"), key(1), 1)
    other = MemoryStore.from_url("memory://shared")
    assert one.address == other.address
    assert drive(other.entry(key(1))) is not None
    private, another = MemoryStore.from_url("memory://"), MemoryStore.from_url("memory://")
    assert private.address != another.address
    put(private, key(1), 1)
    assert drive(another.entry(key(1))) is None


def test_prefixes_share_a_memory_and_not_its_generations():
    one = MemoryStore.from_url("memory://prefixes", prefix="one")
    two = MemoryStore.from_url("memory://prefixes", prefix="two")
    put(one, key(1), 1)
    put(two, key(2), 2)
    drive(one.invalidate((), everything=True))
    assert isinstance(drive(one.claim(key(1), ask(3))), Lead)
    assert isinstance(drive(two.claim(key(2), ask(4))), Hit)


def test_a_link_renews_the_leases_of_every_prefix_by_their_own_generations():
    one = MemoryStore.from_url("memory://renewals", prefix="one")
    two = MemoryStore.from_url("memory://renewals", prefix="two")
    first, second = lead(one, key(1), 1), lead(two, key(2), 2)
    drive(two.invalidate((), everything=True))
    held = [Held(key(1), first.id, first.order), Held(key(2), second.id, second.order)]
    assert one.link().renew(held, 5000) == ["ok", "lost"]


def test_a_memory_stays_within_its_bytes_and_drops_what_was_not_used_for_longest():
    store = MemoryStore.from_url("memory://", max_bytes=10_000)
    for number in range(1, 4):
        put(store, key(number), number, b"x" * 2_000)
    visit(store, key(1))
    for number in range(4, 20):
        put(store, key(number), number, b"x" * 2_000)
        visit(store, key(1))
    assert store._memory.size <= 10_000
    assert drive(store.entry(key(1))) is not None
    assert drive(store.entry(key(2))) is None
    assert drive(store.entry(key(19))) is not None


def test_what_is_expired_is_dropped_before_what_is_old():
    clock = Clock()
    store = MemoryStore.from_url("memory://", max_bytes=10_000, clock=clock)
    put(store, key(1), 1, b"x" * 2_000)
    brief = lead(store, key(2), 2)
    drive(store.fill(key(2), brief.id, brief.order, sealed(key(2), brief, b"x" * 2_000), Lifetime(10, 0, 0, 10)))
    clock.forward(60_000)
    for number in range(3, 6):
        put(store, key(number), number, b"x" * 2_000)
    assert drive(store.entry(key(1))) is not None
    assert drive(store.entry(key(2))) is None


def test_an_answer_larger_than_the_memory_is_not_kept_and_reaches_those_who_waited():
    store = MemoryStore.from_url("memory://", max_bytes=10_000)
    grant = lead(store, key(1), 1)
    drive(store.claim(key(1), ask(2)))
    large = sealed(key(1), grant, b"x" * 9_900)
    assert drive(store.fill(key(1), grant.id, grant.order, large, LIFE)) == "unkept"
    assert drive(store.entry(key(1))) is None


def test_those_who_wait_are_told_how_a_flight_ended():
    store = MemoryStore.from_url("memory://")
    link = store.link()
    grant = lead(store, key(1), 1)
    link.subscribe(key(1))
    assert link.poll(0) == ([], [key(1)])
    said = drive(store.claim(key(1), ask(2)))
    assert isinstance(said, Follow)
    assert said[:2] == (grant.id, grant.order)
    assert 0 < said.remaining <= 5000
    ending = Ending(SHARED, "tool-calls", b"body")
    drive(store.release(key(1), grant.id, grant.order, ending))
    notices = [Notice(WANTED, grant.id, grant.order), Notice(ENDED, grant.id, grant.order, SHARED)]
    assert link.poll(0) == ([(key(1), notice) for notice in notices], [])
    assert read_ending(drive(store.tape(key(1), grant.id, grant.order)) or b"") == ending


def test_a_stored_answer_is_told_to_those_who_wait_and_not_otherwise():
    store = MemoryStore.from_url("memory://")
    link = store.link()
    link.subscribe(key(1))
    link.subscribe(key(2))
    put(store, key(1), 1)
    grant = lead(store, key(2), 2)
    drive(store.claim(key(2), ask(3)))
    drive(store.fill(key(2), grant.id, grant.order, sealed(key(2), grant), LIFE))
    notices = [Notice(WANTED, grant.id, grant.order), Notice(ENDED, grant.id, grant.order, STORED)]
    assert link.poll(0)[0] == [(key(2), notice) for notice in notices]


def test_a_claim_whose_reply_was_lost_is_released_by_its_id_alone():
    store = MemoryStore.from_url("memory://")
    grant = lead(store, key(1), 1)
    drive(store.release(key(1), grant.id, 0, Ending(FAILED)))
    assert isinstance(drive(store.claim(key(1), ask(2))), Lead)


def test_a_poll_returns_when_it_is_woken():
    link = MemoryStore.from_url("memory://").link()
    threading.Timer(0.02, link.wake).start()
    assert link.poll(30) == ([], [])


def test_forgetting_a_question_takes_all_its_forms_and_the_right_to_fill():
    store = MemoryStore.from_url("memory://")
    put(store, key(1, "j"), 1)
    grant = lead(store, key(1, "s"), 2)
    drive(store.forget(key(1)))
    assert drive(store.entry(key(1, "j"))) is None
    assert drive(store.fill(key(1, "s"), grant.id, grant.order, sealed(key(1, "s"), grant), LIFE)) == "lost"
    assert drive(store.tape(key(1, "s"), grant.id, grant.order)) is not None


def test_hits_are_counted_for_about_a_window_and_leave_nothing():
    clock = Clock()
    store = MemoryStore.from_url("memory://", clock=clock)
    assert drive(store.count(key(1), 3, 60_000)) == 3
    clock.forward(30_000)
    assert drive(store.count(key(1), 2, 60_000)) == 5
    clock.forward(30_000)
    assert drive(store.count(key(1), 1, 60_000)) == 3
    clock.forward(60_000)
    assert drive(store.count(key(2), 1, 60_000)) == 1
    assert len(store._memory.hits) == 1


def test_a_walk_meets_every_entry_of_a_prefix_and_what_was_seen_is_discarded_unless_replaced():
    clock = Clock()
    one = MemoryStore.from_url("memory://walked", prefix="one", clock=clock)
    two = MemoryStore.from_url("memory://walked", prefix="two", clock=clock)
    for number in range(1, 31):
        put(one if number % 3 else two, key(number), number)
    cursor, met = b"", []
    while True:
        cursor, seen = drive(one.scan(cursor, 7))
        met += seen
        if not cursor:
            break
    assert [read_head(one.header).digest for one in met] == [key(n).digest for n in range(1, 31) if n % 3]
    drive(one.invalidate((), everything=True))
    clock.forward(1)
    put(one, key(1), 99)
    assert drive(one.discard(met)) == 19


@settings(max_examples=30)
@given(st.integers(1, 7), st.lists(st.tuples(st.sampled_from("dra"), st.integers(1, 40)), max_size=60))
def test_a_walk_meets_whatever_stays_while_others_are_deleted_and_added(count, changes):
    store, left = MemoryStore.from_url("memory://"), list(changes)
    for number in range(1, 31):
        put(store, key(number), number)
    stay, cursor, met = set(range(1, 31)), b"", []
    while True:
        cursor, seen = drive(store.scan(cursor, count))
        met += [read_head(one.header).digest for one in seen]
        if not cursor:
            break
        for change, number in [left.pop() for _ in left[:3]]:
            stay -= {number}
            drive(store.forget(key(number)))
            if change != "d":
                put(store, key(number), number)
    assert {key(number).digest for number in stay} <= set(met)
    if not changes:
        assert len(met) == 30


async def test_a_walk_lets_other_tasks_run():
    store, turns = MemoryStore.from_url("memory://", asynchronous=True), []
    for number in range(1, 31):
        store._memory.entries[key(number).name] = Kept(b"", 2**62, 0)

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    others, cursor, steps = asyncio.create_task(other()), b"", 0
    while steps == 0 or cursor:
        cursor, _ = await store.scan(cursor, 5)
        steps += 1
    others.cancel()
    assert len(turns) >= steps > 5


def test_a_prefix_no_longer_used_is_razed_and_its_neighbour_stays():
    one = MemoryStore.from_url("memory://razed", prefix="one")
    two = MemoryStore.from_url("memory://razed", prefix="two")
    for number in range(1, 11):
        put(one, key(number), number)
    drive(one.count(key(1), 1, 60_000))
    drive(one.append(key(1), b"f" * 16, 7, 0, b"log"))
    lead(one, key(11), 11)
    put(two, key(12), 12)
    gone = 0
    while step := drive(one.raze(4)):
        gone += step
    assert gone == 10 + 1 + 1 + 1 + 1  # entries, a counter, a log, a lease, the generation
    assert drive(one.standing())[0].epoch == b""
    assert isinstance(drive(two.claim(key(12), ask(13))), Hit)


def test_a_log_is_appended_to_and_read_from_anywhere():
    clock = Clock()
    store = MemoryStore.from_url("memory://", clock=clock)
    link = store.link()
    link.subscribe(key(1))
    link.poll(0)

    def append(offset: int, data: bytes) -> int:
        length: int = drive(store.append(key(1), b"f" * 16, 7, offset, data))
        return length

    assert [append(5, b"too far"), append(0, b"Hello, "), append(0, b"Hello, world"), append(7, b"world")] == [
        0,
        7,
        12,
        12,
    ]
    notices = [
        Notice(SAID, b"f" * 16, 7, at.to_bytes(8, "big") + data) for at, data in ((0, b"Hello, "), (7, b"world"))
    ]
    assert link.poll(0)[0] == [(key(1), notice) for notice in notices]
    assert [drive(store.tape(key(1), b"f" * 16, 7, start)) for start in (0, 7, 12)] == [b"Hello, world", b"world", b""]
    clock.forward(15 * 60_000)
    assert drive(store.tape(key(1), b"f" * 16, 7)) is None


@pytest.mark.waits
def test_a_forked_child_has_a_copy_of_its_own_even_of_a_memory_in_use():
    store = MemoryStore.from_url("memory://forked")
    put(store, key(1), 1)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            drive(store.count(key(9), 1, 60_000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                store.after_fork()
                found = drive(store.entry(key(1))) is not None
                put(store, key(2), 2)
                os._exit(0 if found else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    assert drive(store.entry(key(2))) is None


@pytest.mark.parametrize("url", ["memory:///path", "memory://name?max_bytes=1", "memory://name/more"])
def test_a_url_that_cannot_be_meant_names_what_to_write(url: str):
    with pytest.raises(ConfigError, match="write memory://"):
        MemoryStore.from_url(url)


def test_options_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match="speed"):
        MemoryStore.from_url("memory://", speed=3)
    with pytest.raises(ConfigError, match="max_bytes"):
        MemoryStore.from_url("memory://", max_bytes=0)
