"""The pool of connections: who gets one that is given back, and that nobody who waits is forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from askonce.runtime.drive import drive
from askonce.runtime.wakeup import Wakeup
from askonce.store.redis import pool as pools
from askonce.store.redis.address import RedisAddress, from_url
from askonce.store.redis.connection import Connection
from askonce.store.redis.pool import Pool
from askonce.store.redis.wire import SyncWire
from askonce.testing.servers import Server
from tests.store.puppet import get, until

pytestmark = [pytest.mark.servers, pytest.mark.concurrency]
HANG = 30.0  # s that only a test that fails waits


def patient(valkey: Server) -> RedisAddress:
    """An address whose callers wait for as long as a busy machine may take."""
    return from_url(valkey.url, {"socket_timeout": HANG, "socket_connect_timeout": HANG})


@pytest.fixture
def pool(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setattr(pools, "MOST", 1)
    monkeypatch.setattr(pools, "LOOK", HANG)  # so that nobody gets anything without being woken
    made = Pool(patient(valkey))
    yield made
    made.close()


def taken(pool: Pool) -> Connection:
    found = pool.wait(time.monotonic())
    assert pool.take(time.monotonic()) is None
    return found


@pytest.mark.parametrize("waiting", [1, 2, 24])
def test_a_lookup_that_gave_its_connection_back_has_it_for_its_next_exchange(
    pool: Pool, threads, monkeypatch, waiting: int
):
    monkeypatch.setattr(pools, "OVERTAKEN", HANG)
    mine, order = taken(pool), []

    def wait(number: int) -> None:
        found = pool.wait(time.monotonic())
        order.append(number)
        pool.give(found)

    futures = []
    for number in range(waiting):
        futures.append(threads.start(lambda number=number: wait(number)))
        until(lambda number=number: len(pool._waiting) == number + 1)
    first = pool._waiting[0]
    real, first.wakeup = first.wakeup, Wakeup()  # it is woken later, as where the interpreter runs this thread on
    for _ in range(3):
        pool.give(mine)
        assert pool.take(time.monotonic()) is mine
    first.wakeup = real
    pool.give(mine)
    for future in futures:
        future.result(HANG)
    assert sorted(order) == list(range(waiting))


def test_a_thread_that_was_overtaken_for_long_is_handed_the_next_connection(pool: Pool, threads, monkeypatch):
    monkeypatch.setattr(pools, "OVERTAKEN", 0.0)
    mine = taken(pool)
    future = threads.start(lambda: pool.wait(time.monotonic()))
    until(lambda: len(pool._waiting) == 1)
    pool.give(mine)
    assert pool.take(time.monotonic()) is None
    assert future.result(HANG) is mine
    pool.give(mine)


@pytest.mark.parametrize("overtaken", [0.0, 0.01])
@pytest.mark.parametrize("most", [1, 3])
def test_nobody_who_waits_is_forgotten(pool: Pool, valkey: Server, threads, monkeypatch, most: int, overtaken: float):
    monkeypatch.setattr(pools, "MOST", most)
    monkeypatch.setattr(pools, "OVERTAKEN", overtaken)
    wire = SyncWire(patient(valkey))

    def lookups() -> int:
        return sum(len(drive(wire.ask(get("n1"), 1))) for _ in range(20))

    assert [future.result(HANG) for future in [threads.start(lookups) for _ in range(8)]] == [20] * 8
    drive(wire.close())


def test_of_two_connections_given_back_at_once_each_goes_to_one_who_waits(pool: Pool, threads, monkeypatch):
    monkeypatch.setattr(pools, "MOST", 2)
    monkeypatch.setattr(pools, "OVERTAKEN", HANG)
    both = [pool.wait(time.monotonic()), pool.wait(time.monotonic())]
    futures = []
    for number in range(2):
        futures.append(threads.start(lambda: pool.wait(time.monotonic())))
        until(lambda number=number: len(pool._waiting) == number + 1)
    first = pool._waiting[0]
    real, first.wakeup = first.wakeup, Wakeup()  # it runs only when both are back, and only it was woken
    for connection in both:
        pool.give(connection)
    real.set()
    assert {future.result(HANG / 2) for future in futures} == set(both)
    for connection in both:
        pool.give(connection)
