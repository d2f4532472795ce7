"""A near cache over a Sentinel service: a primary that is replaced is not asked any more, nor believed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from askonce import Cache
from askonce.errors import StoreUnavailable
from askonce.store.redis.near import LIMIT
from askonce.testing.sentinels import SentinelGroup
from tests.crowd import eventually
from tests.fixtures import started

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def invalidated(cache: Cache) -> bool:
    try:
        cache.invalidate(everything=True)
    except StoreUnavailable:  # PartialInvalidation too
        return False
    return True


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    yield from started(SentinelGroup())


def test_after_a_failover_the_next_primary_tells_and_nothing_old_is_served(group: SentinelGroup) -> None:
    with (
        Cache(group.url, near="16MB", socket_timeout=5.0) as cache,
        Cache(group.url, socket_timeout=5.0) as other,
    ):
        for turn in range(2):
            answer = f"answer {turn}"

            def near(answer: str = answer) -> bool:
                found = cache.fetch({"n": 1}, lambda: answer)
                return found.status.detail == "near" and found.value == answer

            eventually(near, "a near hit", 20)
            group.failover()
            eventually(lambda: invalidated(other), "an acknowledged invalidation", 20)
            acknowledged = time.monotonic()
            while (began := time.monotonic()) and cache.fetch({"n": 1}, lambda: "later").value == answer:
                assert began - acknowledged < LIMIT
            cache.invalidate(everything=True)
