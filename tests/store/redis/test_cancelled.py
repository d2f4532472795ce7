"""Operations cancelled at any moment, through a network that delays: no reply reaches another caller.

One server, and a Cluster whose every node is behind a proxy of its own. An operation reads an entry whose body names
its key, so a reply that was shifted by one is seen. The small form runs with every test; the large one has 100,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis.asyncio.cluster as tasks

from askonce.cache.stores import open_store
from askonce.core.keys import Key
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.testing.clusters import Cluster
from askonce.testing.proxy import Proxy
from askonce.testing.servers import Server
from askonce.testing.trial import LIFE, asking, must_lead, sealed

pytestmark = pytest.mark.servers
KEYS = 200
TOGETHER = 250
DELAY = 0.001  # s, each way
MANY = 100_000


class Place:
    """Where the operations go: how to open a store there, through proxies and directly, and all its servers."""

    def __init__(self, proxied: dict[str, Any], direct: str, servers: list[Server], proxies: list[Proxy]) -> None:
        self.proxied, self.direct, self.servers, self.proxies = proxied, direct, servers, proxies

    def connections(self) -> int:
        return sum(len(proxy.pipes) for proxy in self.proxies)


@pytest.fixture(params=["one server", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "one server":
            server: Server = request.getfixturevalue("valkey")
            proxy = stack.enter_context(Proxy(server))
            proxy.delay = DELAY
            yield Place({"url": proxy.url}, server.url, [server], [proxy])
            return
        cluster: Cluster = request.getfixturevalue("cluster")
        proxies = {server.port: stack.enter_context(Proxy(server)) for server in cluster.first}
        for proxy in proxies.values():
            proxy.delay = DELAY
        client = tasks.RedisCluster(
            startup_nodes=[tasks.ClusterNode("127.0.0.1", server.port) for server in cluster.first],
            address_remap=lambda at: (at[0], proxies[at[1]].port),
            socket_timeout=5.0,
        )
        yield Place({"url": cluster.url, "client": client}, cluster.url, cluster.first, list(proxies.values()))


def filled(place: Place) -> list[Key]:
    store: Any = open_store(place.direct, prefix="cancelled")
    keys = [Key(bytes([at]) * 2 + random.randbytes(30), "v") for at in range(KEYS)]
    for at, key in enumerate(keys):
        grant = must_lead(drive(store.claim(key, asking())))
        drive(store.fill(key, grant.id, grant.order, sealed(key, grant, body=b'"%d"' % at), LIFE))
    drive(store.close())
    return keys


class Count:
    """What came of the operations."""

    def __init__(self) -> None:
        self.right = self.wrong = self.cancelled = self.troubled = 0


async def operation(store: Any, keys: list[Key], count: Count, draw: random.Random) -> None:
    at = draw.randrange(KEYS)
    what = draw.randrange(3)
    if what == 0:
        found = await store.entry(keys[at])
    elif what == 1:
        found = (await store.look(keys[at], (1, 2))).entry
    else:
        said = await store.claim(keys[at], asking())  # a script, whose reply has another form
        found = None if said.order == 0 else b'"%d"' % at
    right = found is not None and found.endswith(b'"%d"' % at)
    count.right, count.wrong = count.right + right, count.wrong + (not right)


async def storm(store: Any, keys: list[Key], operations: int) -> Count:
    count, draw = Count(), random.Random(7)
    loop = asyncio.get_running_loop()
    for _ in range(operations // TOGETHER):
        some = [asyncio.create_task(operation(store, keys, count, draw)) for _ in range(TOGETHER)]
        for task in some:
            if draw.random() < 0.7:
                loop.call_later(draw.random() * 6 * DELAY, task.cancel)
        for task in some:
            try:
                await task
            except asyncio.CancelledError:
                count.cancelled += 1
            except StoreTrouble:
                count.troubled += 1
    return count


async def cancelled(place: Place, operations: int) -> Count:
    keys = filled(place)
    store: Any = open_store(**place.proxied, prefix="cancelled", asynchronous=True)
    if "client" not in place.proxied:
        await store.close()
        store = open_store(place.proxied["url"], prefix="cancelled", asynchronous=True, socket_timeout=5.0)
    with contextlib.suppress(StoreTrouble):
        await store.look(keys[0], ())
    count = await storm(store, keys, operations)
    assert count.wrong == 0
    assert count.cancelled > operations // 10
    assert count.right > operations // 10
    assert count.troubled < operations // 20
    assert place.connections() <= len(place.servers), "one for the loop to each primary"
    for at, key in enumerate(keys):
        assert (await store.entry(key)).endswith(b'"%d"' % at)
    await store.close()
    for _ in range(100):
        if not place.connections():
            break
        await asyncio.sleep(0.02)
    assert place.connections() == 0
    return count


async def test_a_thousand_operations_cancelled_at_random_shift_no_reply_and_leave_no_connection(place: Place):
    await cancelled(place, 4 * TOGETHER)


@pytest.mark.slow
async def test_100_000_operations_cancelled_at_random_shift_no_reply_and_leave_no_connection(place: Place, capsys):
    count = await cancelled(place, MANY)
    with capsys.disabled():
        print(
            f"\n{MANY} operations: {count.right} right, {count.wrong} wrong, {count.cancelled} cancelled,"
            f" {count.troubled} in trouble, 0 connections left"
        )
