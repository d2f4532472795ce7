"""Batches at the same time, callers that leave, old vectors, and an unreachable store."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache, Policy
from askonce.testing import Step
from askonce.testing.trial import Clock
from tests.crowd import eventually
from tests.http.desk import MODEL, URL, Desk, embed, right


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def client(cache, desk):
    with cache.http_client(inner=desk) as client:
        yield client


@pytest.mark.concurrency
@pytest.mark.parametrize("apart", [False, True], ids=["one cache", "two caches"])
def test_batches_that_overlap_in_any_order_pay_each_input_once_and_never_wait_for_each_other(tmp_path, desk, apart):
    url = f"sqlite:///{tmp_path}/a.db"
    meet = threading.Barrier(2, timeout=0.3)

    def hold(inputs: Any) -> None:
        try:
            meet.wait()
        except threading.BrokenBarrierError:
            meet.reset()

    desk.hold = hold
    rng = random.Random(7)
    names = [f"input {number}" for number in range(12)]
    with Cache(url) as one, Cache(url) as other, ThreadPoolExecutor(6) as pool:
        clients = [one.http_client(inner=desk), (other if apart else one).http_client(inner=desk)]
        for turn in range(8):
            said = [rng.sample([f"{turn} {name}" for name in names], 8) for _ in range(6)]
            asked = [pool.submit(embed, clients[at % 2], batch) for at, batch in enumerate(said)]
            for batch, got in zip(said, asked, strict=True):
                right(got.result(60), batch)
    assert set(desk.paid.values()) == {1}


async def test_tasks_that_overlap_pay_each_input_once():
    desk = Desk()
    plain = desk.answer

    async def slow(request: Any) -> Any:
        await asyncio.sleep(0.01)
        return plain(request)

    desk.answer = slow
    rng = random.Random(5)
    async with AsyncCache("memory://") as cache, cache.http_client(inner=desk) as client:

        async def ask(inputs: list[str]) -> None:
            right((await client.post(URL, json={"model": MODEL, "input": inputs})).json(), inputs)

        await asyncio.gather(*(ask(rng.choices("abcdefghijkl", k=6)) for _ in range(30)))
        assert cache.stats()["flights"] == 0
    assert set(desk.paid.values()) == {1}


async def test_a_batch_whose_caller_left_is_finished_and_stored(provider):
    provider.script('["a","b"]', Step(delay=0.3))
    async with AsyncCache("memory://") as cache, cache.http_client() as client:
        url, request = f"{provider.openai_url}/embeddings", {"model": MODEL, "input": ["a", "b"]}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.post(url, json=request), 0.1)
        right((await client.post(url, json=request)).json(), ["a", "b"])
    assert len(provider.requests) == 1


async def test_a_batch_is_closed_only_when_nobody_waits_for_any_of_its_inputs():
    desk = Desk()
    gate = asyncio.Event()
    plain = desk.answer

    async def slow(request: Any) -> Any:
        await gate.wait()
        return plain(request)

    desk.answer = slow
    closing = Policy(on_abandon="close")
    async with AsyncCache("memory://", policy=closing) as cache, cache.http_client(inner=desk) as client:

        def ask(*inputs: str) -> asyncio.Task[Any]:
            return asyncio.create_task(client.post(URL, json={"model": MODEL, "input": inputs}))

        leader, follower = ask("a", "b"), ask("b")
        await asyncio.sleep(0.05)
        leader.cancel()
        await asyncio.sleep(0.05)
        gate.set()
        right((await follower).json(), ["b"])
        assert desk.batches == [["a", "b"]]
        gate.clear()
        alone = ask("c", "d")
        await asyncio.sleep(0.05)
        alone.cancel()
        await asyncio.sleep(0.05)
        assert cache.stats()["flights"] == 0


def test_a_store_out_of_reach_costs_nothing_but_the_cache(desk):
    with Cache("redis://127.0.0.1:1/0") as cache, cache.http_client(inner=desk) as client:
        right(embed(client, ["a", "b", "a"]), ["a", "b", "a"])
        with cache.watch() as seen:
            right(embed(client, ["a", "b"]), ["a", "b"])
        assert all(status.detail.startswith("store-") for status in seen)


def test_old_vectors_stand_in_for_an_upstream_in_trouble(desk):
    clock, short = Clock(), Policy(ttl=60, grace=0, stale_if_error=600)
    with Cache("memory://", policy=short, clock=clock) as cache, cache.http_client(inner=desk) as client:
        embed(client, ["a", "b"])
        clock.tick(61_000)
        desk.answer = lambda request: httpx2.Response(503, json={"error": {"message": "down"}})
        right(embed(client, ["b", "a"]), ["b", "a"])
        assert client.post(URL, json={"model": MODEL, "input": ["a", "new"]}).status_code == 503


def test_only_if_cached_answers_for_all_or_for_none(cache, client, desk):
    embed(client, ["a", "b"])
    said = {"cache-control": "only-if-cached"}
    assert client.post(URL, json={"model": MODEL, "input": ["b", "a"]}, headers=said).status_code == 200
    assert client.post(URL, json={"model": MODEL, "input": ["a", "c"]}, headers=said).status_code == 504
    assert len(desk.batches) == 1


AGING = Policy(ttl=60, grace=600, jitter=0)


def test_stale_vectors_are_refreshed_behind_in_one_call(desk):
    clock = Clock()
    with Cache("memory://", policy=AGING, clock=clock) as cache:
        with cache.http_client(inner=desk) as client:
            embed(client, ["a", "b", "c"])
            clock.tick(61_000)
            right(embed(client, ["c", "b", "a"]), ["c", "b", "a"])
            eventually(lambda: len(desk.batches) == 2, "the refresh is made")
            eventually(lambda: cache.stats()["flights"] == 0, "the refresh has landed")
        assert desk.batches[1] == ["c", "b", "a"]
        assert cache.stats()["stored"] == 6


@pytest.mark.parametrize("first", ["refresh", "call"])
def test_a_refresh_behind_a_batch_and_the_call_for_its_missing_inputs_do_not_mix(desk, first):
    """As many inputs in the one as in the other, under way at once: an answer taken for the other's would fit."""
    refreshed, called = threading.Event(), threading.Event()

    def hold(inputs: Any) -> None:
        if "new" in inputs:
            called.set()
            assert first == "call" or refreshed.wait(60)
        elif len(desk.batches) > 1:
            assert called.wait(60)
            refreshed.set()

    desk.hold, clock = hold, Clock()
    with Cache("memory://", policy=AGING, clock=clock) as cache, cache.http_client(inner=desk) as http:
        embed(http, ["a", "b"])
        clock.tick(61_000)
        for inputs in (["b", "new", "a", "newer"], ["newer", "a", "new", "b"]):
            right(embed(http, inputs), inputs)
        eventually(lambda: cache.stats()["flights"] == 0, "the refresh has landed")
        right(embed(http, ["a", "b", "new", "newer"]), ["a", "b", "new", "newer"])
    assert sorted(map(sorted, desk.batches))[:3] == [["a", "b"], ["a", "b"], ["new", "newer"]]
