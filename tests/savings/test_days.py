"""Savings at the end of a day, and with a clock that jumps: each thing is counted once, on some day, in every sum."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from askonce import Cache, Policy
from askonce.core.spent import Balance
from askonce.testing.trial import Clock
from tests.savings.test_accounts import ONE, PRICES, asked, chat, plain

DAY = 86_400_000  # ms
MIDNIGHT = 1_750_032_000_000_000  # us: the first moment of 2025-06-16, UTC
POLICY = Policy(ttl=3600.0, grace=0.0, stale_if_error=0.0, jitter=0.0)


def days(cache: Cache) -> dict[Any, Balance]:
    return {row.label: row.balance for row in cache.savings(by="day").rows}


def test_a_hit_after_midnight_is_of_the_next_day_and_the_call_of_the_day_before():
    clock = Clock(MIDNIGHT - 10_000_000)
    with Cache("memory://", policy=POLICY, prices=PRICES, clock=clock) as cache:
        for _ in range(2):
            cache.fetch(asked(), chat)
        before = days(cache)
        clock.tick(20_000)
        for _ in range(3):
            cache.fetch(asked(), chat)
        found = days(cache)
        today = cache.savings(since=1).total
    assert (plain(found["2025-06-15"].led), plain(found["2025-06-15"].hits)) == (ONE, ONE)
    assert found["2025-06-15"] == before["2025-06-15"]
    assert (found["2025-06-16"].led.calls, plain(found["2025-06-16"].hits)) == (0, ONE.times(3))
    assert today == found["2025-06-16"]


@given(st.lists(st.integers(-3 * DAY, 3 * DAY), max_size=8))
def test_whatever_the_clock_does_nothing_is_lost_and_nothing_counted_twice(jumps):
    clock, calls = Clock(MIDNIGHT), 0

    def answer() -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return chat()

    with Cache("memory://", policy=POLICY, prices=PRICES, clock=clock) as cache:
        for jump in (0, *jumps):
            clock.tick(jump)
            for _ in range(2):
                cache.fetch(asked(), answer)
        clock.now_us = max(clock.now_us, MIDNIGHT + 9 * DAY * 1000)
        total = cache.savings(since=100).total
        assert sum(days(cache).values(), Balance()) == total
    assert total.asked.calls == 2 * (len(jumps) + 1)
    assert total.paid.calls == calls
    assert plain(total.asked) == ONE.times(2 * (len(jumps) + 1))


@given(st.integers(-30, 30), st.integers(0, 5))
def test_the_days_since_a_date_are_those_of_the_stores_clock_whatever_the_clock_here_says(ahead, lasts):
    clock = Clock(time.time_ns() // 1000 + ahead * DAY * 1000)
    first = datetime.fromtimestamp(clock.now_us / 1e6, UTC).date()
    with Cache("memory://", policy=POLICY, prices=PRICES, clock=clock) as cache:
        for _ in range(lasts + 1):
            cache.fetch(asked(), chat)
            cache.savings()  # pushes
            clock.tick(DAY)
        clock.tick(-DAY)
        assert cache.savings(since=first).total.asked.calls == lasts + 1
