"""How a process begins: many threads at once on a warm store, and workers that start together on a busy machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from askonce import AsyncCache, Cache
from askonce.testing import ScriptedCall
from tests.fixtures import patient

pytestmark = pytest.mark.concurrency

QUESTIONS = [{"question": number} for number in range(20)]


@pytest.fixture
def warm(shared):
    """A store that has every answer."""
    with Cache(shared) as cache:
        for asked in QUESTIONS:
            cache.fetch(asked, lambda: "stored")
    return shared


def test_four_hundred_threads_that_start_on_a_warm_store_pay_for_nothing(warm, threads):
    cache, call = threads.cache(warm), ScriptedCall()
    barrier = threading.Barrier(400)

    def ask(number):
        barrier.wait(60)
        return [cache.fetch(asked, call.on(asked)).status for asked in QUESTIONS[number % 10 :][:5]]

    started = [threads.start(lambda number=number: ask(number)) for number in range(400)]
    statuses = [status for future in started for status in future.result(60)]
    assert {str(status.detail) for status in statuses} == {""}
    assert all(status.hit for status in statuses)
    assert call.calls == 0


def test_loops_that_start_one_after_another_on_a_warm_store_pay_for_nothing(warm):
    import asyncio

    call = ScriptedCall()

    async def main():
        async with AsyncCache(warm) as cache:
            return await asyncio.gather(*(cache.fetch(asked, call.aio_on(asked)) for asked in QUESTIONS))

    for _ in range(5):
        assert all(outcome.status.hit for outcome in asyncio.run(main()))
    assert call.calls == 0


# --- workers -----------------------------------------------------------------------------------------------------

WORKER = """
import collections, json, sys, threading, time
from askonce import Cache
url, threads, questions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
paid, details, barrier = [], collections.Counter(), threading.Barrier(threads)

def call():
    paid.append(1)
    time.sleep(0.3)
    return "paid"

def ask(number):
    barrier.wait(60)
    for asked in [*({"question": (number + at) % questions} for at in range(5)), {"question": "cold"}]:
        details[str(cache.fetch(asked, call).status.detail)] += 1

cache = Cache(url)
print("ready", flush=True)
sys.stdin.readline()
started = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
for thread in started: thread.start()
for thread in started: thread.join()
print(json.dumps([len(paid), details]))
cache.close()
"""


def start_together(url, workers, threads):
    """What each of so many processes paid, and the details of its lookups; none of them asked before all were there."""
    command = [sys.executable, "-c", WORKER, url, str(threads), str(len(QUESTIONS))]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate(timeout=60)[0]) for process in processes]


@pytest.mark.parametrize(
    "shared",
    # A store without a processor for 0.2 s is trouble, so this is asserted only on a quiet machine.
    ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)],
    indirect=True,
)
@pytest.mark.slow
@pytest.mark.parametrize(("workers", "size"), [(4, 100), (1, 400)])
def test_workers_that_start_together_each_with_a_pool_of_threads_pay_for_what_is_missing_once(warm, workers, size):
    found = start_together(warm, workers, size)
    details = {detail for _, told in found for detail in told}
    assert details == {""}, found
    assert sum(paid for paid, _ in found) == 1, found


@pytest.mark.servers
@pytest.mark.parametrize("mode", ["threads", "tasks"])
def test_the_first_connection_of_a_process_may_take_longer_than_a_lookup_otherwise_waits(valkey, mode):
    with Cache(patient(valkey)) as cache:
        cache.fetch("q", lambda: "stored")
    script = f"""
import asyncio, json, sys, time
import askonce.store.redis.connecting as connecting, askonce.store.redis.async_wire as wire
from askonce import AsyncCache, Cache
blocking, suspending = connecting.open_connection, wire.open_multiplexed
import askonce.store.redis.pool as pool
def slow_connection(address):
    time.sleep(0.5)
    return blocking(address)
async def slow_multiplexed(address):
    await asyncio.sleep(0.5)
    return await suspending(address)
pool.open_connection, wire.open_multiplexed = slow_connection, slow_multiplexed
async def ask():
    async with AsyncCache({patient(valkey)!r}) as cache:
        async def call():
            return "paid"
        return str((await cache.fetch("q", call)).status)
if {mode!r} == "tasks":
    print(asyncio.run(ask()))
else:
    with Cache({patient(valkey)!r}) as cache:
        print(cache.fetch("q", lambda: "paid").status)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("askonce; hit"), done.stdout + done.stderr
