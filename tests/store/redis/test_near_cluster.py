"""A near cache over a Cluster: one part for each primary, and a slot that moves takes its answers along."""

from __future__ import annotations

import time
from typing import Any

import pytest

from askonce import Cache
from askonce.store.redis.near import LIMIT
from askonce.testing.clusters import Cluster, flags
from tests.crowd import eventually

pytestmark = pytest.mark.servers
REQUESTS = [{"n": number} for number in range(24)]


def near(cache: Cache, request: Any) -> bool:
    return cache.fetch(request, lambda: "new").status.detail == "near"


def test_every_primary_tells_of_its_own_partitions_and_one_that_loses_a_slot_serves_nothing_old(
    cluster: Cluster,
) -> None:
    with (
        Cache(cluster.url, near="16MB", prefix="near", socket_timeout=10.0) as cache,
        Cache(cluster.url, prefix="near", socket_timeout=10.0) as other,
    ):
        for request in REQUESTS:
            cache.fetch(request, lambda: "old")
        eventually(lambda: not [one for one in REQUESTS if not near(cache, one)], "near hits at every primary")
        store: Any = cache._base.engine().store
        parts = {id(part) for part in store.near.parts}
        assert len(parts) == len(cluster.first)
        key = cache._base.key_of(REQUESTS[0], cache._settings({}))
        slot = int(store.names.slots()[key.digest[0] % 64])
        owner = cluster.owner(slot)
        target = next(server for server in cluster.servers if "master" in flags(server) and server is not owner)
        cluster.move(slot, target)
        try:
            other.invalidate(request=REQUESTS[0])
            acknowledged = time.monotonic()
            while (began := time.monotonic()) and cache.fetch(REQUESTS[0], lambda: "new").value == "old":
                assert began - acknowledged < LIMIT
            eventually(lambda: near(cache, REQUESTS[0]), "a near hit at the new primary")
            other.invalidate(everything=True)
            acknowledged = time.monotonic()
            for request in REQUESTS[1:]:
                while (began := time.monotonic()) and cache.fetch(request, lambda: "new").value == "old":
                    assert began - acknowledged < LIMIT
        finally:
            cluster.move(slot, owner)
