"""Caches on a Cluster: how many connections they need, and what callers see of a primary that is replaced."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from askonce import AsyncCache, Cache
from askonce.cache.stores import open_store
from askonce.core.tape import FAILED, Ending
from askonce.engine.question import NOTHING
from askonce.runtime.drive import drive
from askonce.store import Held
from askonce.testing.clusters import Cluster, flags, slots
from askonce.testing.servers import Redis8Server, Server, ValkeyServer, until
from askonce.testing.trial import asking, must_lead
from tests.crowd import eventually
from tests.fixtures import started

pytestmark = pytest.mark.servers
PREFIX = "in-use"
HEARTBEAT = 5_000  # ms, as the cache has it


def asked(number: int) -> dict[str, Any]:
    return {"q": number, "salt": os.getpid()}


def patient(cluster: Cluster) -> str:
    """A URL with more patience than a busy machine needs."""
    return f"{cluster.url}?socket_timeout=10"


def clients(cluster: Cluster) -> list[int]:
    """Connections to each primary, besides the one that asks."""
    return [len(server.command("CLIENT", "LIST").splitlines()) - 1 - links(server) for server in cluster.first]


def links(server: Server) -> int:
    """Connections of replicas."""
    return sum(b"flags=S" in line for line in server.command("CLIENT", "LIST").splitlines())


class Elsewhere:
    """Another process's leases, held by hand and renewed."""

    def __init__(self, cluster: Cluster, cache: Any, numbers: range) -> None:
        self.store: Any = open_store(cluster.url, prefix=PREFIX, socket_timeout=10.0)
        self.keys = [cache._base.key_of(asked(number), NOTHING) for number in numbers]
        claims = [drive(self.store.claim(key, asking(heartbeat=HEARTBEAT))) for key in self.keys]
        self.held = [
            Held(key, grant.id, grant.order) for key, grant in zip(self.keys, map(must_lead, claims), strict=True)
        ]
        self._link = self.store.link()
        self._link.renew(self.held, HEARTBEAT)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew)
        self._thread.start()

    def _renew(self) -> None:
        while not self._over.wait(0.5):
            self._link.renew(self.held, HEARTBEAT)

    def give_back(self) -> None:
        self._over.set()
        self._thread.join()
        for key, flight, order in self.held:
            drive(self.store.release(key, flight, order, Ending(FAILED)))
        self._link.close()
        drive(self.store.close())


async def _waited(cluster: Cluster, waiters: int, keys: int) -> list[int]:
    """The connections to each primary while so many callers wait; all of them are answered afterwards."""
    async with AsyncCache(patient(cluster), prefix=PREFIX) as cache:
        elsewhere = Elsewhere(cluster, cache, range(keys))
        before = clients(cluster)

        async def call() -> str:
            return "answer"

        tasks = [asyncio.create_task(cache.fetch(asked(at % keys), call)) for at in range(waiters)]
        await asyncio.to_thread(eventually, lambda: cache.stats()["waiting"] == waiters, "all wait", 30.0)
        most = [now - then for now, then in zip(clients(cluster), before, strict=True)]
        await asyncio.to_thread(elsewhere.give_back)
        outcomes = await asyncio.gather(*tasks)
        assert {outcome.value for outcome in outcomes} == {"answer"}
        assert cache.stats()["called"] == keys
    return most


@pytest.mark.parametrize(("waiters", "keys"), [(300, 75), pytest.param(2_000, 500, marks=pytest.mark.slow)])
async def test_any_number_of_waiters_needs_two_connections_to_each_primary(cluster: Cluster, waiters, keys):
    assert max(await _waited(cluster, waiters, keys)) <= 2


def test_threads_need_one_connection_more_each_at_most(cluster: Cluster):
    with Cache(patient(cluster), prefix=PREFIX) as cache:
        elsewhere = Elsewhere(cluster, cache, range(20))
        before = clients(cluster)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda at=at: answers.append(cache.fetch(asked(at % 20), lambda: "answer").value))
            for at in range(60)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: cache.stats()["waiting"] == 60, "all wait")
        assert max(now - then for now, then in zip(clients(cluster), before, strict=True)) <= 2 + 60
        elsewhere.give_back()
        for thread in threads:
            thread.join()
        assert answers == ["answer"] * 60


@pytest.fixture(scope="module", params=[ValkeyServer, Redis8Server])
def replicated(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    yield from started(Cluster(request.param, replicas=1))


class Asking:
    """Threads that ask questions of every primary all the time."""

    def __init__(self, url: str) -> None:
        self.cache = Cache(url, prefix=PREFIX)
        self.seen: list[tuple[float, int, str]] = []  # when it began, the slot, the status
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(4)]
        for thread in self._threads:
            thread.start()

    def _run(self, first: int) -> None:
        number = first
        spread = open_store("redis+cluster://unused", prefix=PREFIX).names.slots()  # type: ignore[attr-defined]
        while not self._over.wait(0.002):
            number += 4
            began = time.monotonic()
            try:
                outcome = self.cache.fetch(asked(number % 200), partial(int, number % 200))
            except Exception as error:
                self.wrong.append(repr(error))
                continue
            if outcome.value != number % 200:
                self.wrong.append(f"{number % 200}: {outcome.value}")
            slot = spread[bytes.fromhex(outcome.key)[0] % len(spread)]
            self.seen.append((began, slot, str(outcome.status)))

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.cache.close()


def missed(asking_: Asking, since: float, mine: set[int]) -> tuple[list[float], list[str]]:
    """When lookups in some slots had trouble since then, and the troubles of all other slots."""
    bad = [(began, slot, status) for began, slot, status in asking_.seen if began > since and "detail=store" in status]
    return [began for began, slot, _ in bad if slot in mine], [status for _, slot, status in bad if slot not in mine]


@pytest.mark.slow
class TestAPrimaryThatIsReplaced:
    def test_killed_its_keys_are_served_again_a_second_after_the_failover_and_the_others_all_the_time(
        self, replicated: Cluster
    ):
        asking_ = Asking(replicated.url)
        time.sleep(1.0)
        victim = next(server for server in replicated.servers if "master" in flags(server))
        mine, heir = slots(victim), replicated.replica_of(victim)
        began = time.monotonic()
        victim.stop()
        until(lambda: "master" in flags(heir))
        over = time.monotonic()
        time.sleep(2.0)
        victim.start()
        replicated.settle()
        time.sleep(0.5)
        asking_.end()
        troubled, others = missed(asking_, began, mine)
        assert not asking_.wrong
        assert not others
        assert troubled
        assert max(troubled) < over + 1.0
        assert "slave" in flags(victim), "it came back as a replica, and nothing of it is used"

    def test_in_order_nobody_sees_anything_but_a_pause(self, replicated: Cluster):
        asking_ = Asking(replicated.url)
        time.sleep(1.0)
        began = time.monotonic()
        replicated.failover(next(server for server in replicated.servers if "master" in flags(server)))
        time.sleep(1.5)
        asking_.end()
        assert not asking_.wrong
        assert not missed(asking_, began + 1.0, set())[1]
