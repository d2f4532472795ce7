"""What a process remembers of requests has one bound, however many tenants, plans, clients and caches it has."""

from __future__ import annotations

import gc
import tracemalloc

import httpx
import pytest

from askonce import Cache, Policy
from askonce.core import memo
from askonce.core.memo import Memo

pytestmark = pytest.mark.waits

BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 7_000}]}


def grown(cache, work):
    """Bytes that are held after `work` and were not before, without the notes that wait: they have a bound of their own."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        cache._base.engine().background.notes.forget()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ttl", [0, 60])
def test_twenty_tenants_with_a_hundred_questions_each_are_kept_in_mind_within_the_budget(ttl, monkeypatch):
    monkeypatch.setattr(memo, "BUDGET", 4 * 2**20)  # four times as much is asked
    with Cache("memory://", policy=Policy(ttl=ttl), max_bytes=2**20) as cache:

        def work():
            for tenant in range(20):
                for number in range(100):
                    cache.fetch({**BODY, "seed": number}, lambda: {"said": 1}, tenant=f"t{tenant}", control="no-store")

        held, _ = grown(cache, work)
    assert held <= (memo.BUDGET * 1.3 if ttl else 2 * 2**20)


def test_clients_share_the_budget_with_everything_else(monkeypatch):
    monkeypatch.setattr(memo, "BUDGET", 2 * 2**20)  # three times as much is asked, and no client asks for half of it
    answer = {"object": "chat.completion", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    inner = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    with Cache("memory://", max_bytes=2**20) as cache:

        def asked(client, number):
            body, headers = {**BODY, "seed": number}, {"authorization": "Bearer k"}
            client.post("https://h/v1/chat/completions", json=body, headers=headers)

        def work():
            clients = [cache.http_client(module=httpx, inner=inner) for _ in range(8)]
            for client in clients:
                for number in range(100):
                    asked(client, number)
            return clients

        with cache.http_client(module=httpx, inner=inner) as first:
            asked(first, 0)  # what it imports is kept for good
        held, clients = grown(cache, work)
        assert held <= memo.BUDGET * 1.5
        for client in clients:
            client.close()


def test_a_memo_that_is_dropped_is_gone_and_one_that_is_full_starts_over():
    one: Memo[int, int] = Memo(3)
    for number in range(4):
        one.keep(number, number, 10)
    assert one == {3: 3}
    gc.collect()  # the caches of other tests, whose memos go with them
    before = len(memo._memos)
    del one
    gc.collect()
    assert len(memo._memos) == before - 1


def test_when_the_budget_is_spent_all_memos_are_emptied(monkeypatch):
    monkeypatch.setattr(memo, "BUDGET", 10_000)
    monkeypatch.setattr(memo, "_spent", 0)
    first, second = Memo[int, int](100), Memo[int, int](100)
    for number in range(4):
        first.keep(number, number, 1_000)
    second.keep(1, 1, 1_000)
    assert len(first) == 4
    second.keep(2, 2, 1_000)
    assert (dict(first), dict(second)) == ({}, {2: 2})
