"""Lookups while the interpreter ends: in late threads, atexit functions, destructors, and a child's last moments.

Each goes upstream or hits, and none raises, hangs, or writes to stderr. The programs of a test run at once, because
Python's own start and end take most of the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from askonce import Cache
from askonce.cache.config import check_url
from tests.crowd import ROOT
from tests.fixtures import KINDS, place_of
from tests.took import Took

pytestmark = pytest.mark.concurrency

PROGRAM = """
import asyncio, atexit, builtins, multiprocessing, sys, threading, time
import askonce
from askonce import AsyncCache, Cache, Policy
from tests.took import Took

place, mode, used, how = sys.argv[1:]
STALE = Policy(ttl=0.05, grace=60.0, max_age=600.0)
AHEAD = mode == "tasks"

def answer():
    return "paid"

async def answered():
    return "paid"

async def items():
    yield "a"
    yield "b"

def ask(cache, question, **own):
    if AHEAD:
        async def asked():
            return await cache.fetch(question, answered, **own)
        return asyncio.run(asked()).value
    return cache.fetch(question, answer, **own).value

def stream(cache, question):
    if AHEAD:
        async def streamed():
            return [item async for item in await cache.fetch_stream(question, items)]
        return asyncio.run(streamed())
    return list(cache.fetch_stream(question, lambda: iter("ab")))

def many(cache):
    client = clients.get(id(cache)) or cache.http_client(module=httpx, inner=Upstream())
    clients[id(cache)] = client
    return client.post("https://api.openai.com/v1/chat/completions", json={"model": "m", "messages": []}).json()

clients = {}
if mode == "http":
    import httpx
    class Upstream(httpx.BaseTransport):
        def handle_request(self, request):
            return httpx.Response(200, json={"paid": True})

def lookups(cache):
    if mode == "http":
        assert many(cache) == {"paid": True}
        return
    assert ask(cache, "new") == "paid"
    assert ask(cache, "new") == "paid"
    assert ask(cache, "old") == "paid"
    assert ask(cache, "stale", policy=STALE) == "paid"
    assert stream(cache, "stream") == ["a", "b"]

make = AsyncCache if AHEAD else Cache
early = None if used == "never" else make(place)
if AHEAD:
    asyncio.run(answered())  # asyncio cannot begin when Python ends
if used == "used":
    lookups(early)
    time.sleep(0.1)
elif mode == "http" and early:
    many(early)

def late():
    took = Took()
    lookups(early or make(place))
    assert took.seconds < 2.0
    sys.stdout.write("late\\n")
    sys.stdout.flush()

def after_main():
    threading.main_thread().join()
    late()

class Last:
    def __del__(self):
        late()

def child():
    from multiprocessing import util
    util.Finalize(None, late, exitpriority=10)
    util.Finalize(None, late, exitpriority=0)

if how == "atexit":
    atexit.register(late)
elif how == "closed":
    atexit.register(late)
    atexit.register((lambda: asyncio.run(early.aclose())) if AHEAD else early.close)
elif how == "thread":
    threading.Thread(target=after_main).start()
elif how == "daemon":
    over = threading.Event()
    threading.Thread(target=lambda: (after_main(), over.set()), daemon=True).start()
    atexit.register(over.wait, 5.0)
elif how == "destructor":
    last = Last()
elif how == "cycle":
    last = Last()
    last.me = builtins.last = last
elif how == "child":
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
elif how == "generator":
    async def leaves():
        try:
            yield 1
            yield 2
        finally:
            for question, policy in (("new", None), ("old", None), ("stale", STALE)):
                assert (await early.fetch(question, answered, policy=policy)).value == "paid"
            sys.stdout.write("late\\n")
    async def main():
        builtins.left = leaves()
        async for _ in builtins.left:
            break
    asyncio.run(main())
"""

GIVEN_UP = "a refresh was dropped (exit): its call may be paid, and its answer is not stored\n"
HOWS = ("atexit", "closed", "thread", "daemon", "destructor", "cycle", "child", "generator")
Case = tuple[str, str, str]  # mode, earlier use of the cache, moment


def sensible(case: Case) -> bool:
    """Whether there is such a case: what has no cache cannot close it, and a generator of tasks needs tasks."""
    mode, used, how = case
    if how == "generator":
        return mode == "tasks" and used == "used"
    if mode == "tasks" and used == "never":
        return how not in {"destructor", "cycle", "closed"}  # what runs tasks is imported with the first AsyncCache
    return used != "never" or (mode != "http" and how != "closed")


CASES = [
    case
    for mode in ("threads", "tasks", "http")
    for used in ("used", "fresh", "never")
    for how in HOWS
    if sensible(case := (mode, used, how))
]


def started(place: str, case: Case, python: str = sys.executable) -> subprocess.Popen[str]:
    """A program that does its last lookups when it ends, on its way."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ASKONCE_URL": "memory://"}
    program = [python, "-W", "error", "-c", PROGRAM, place, *case]
    return subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def ends_well(place: str, cases: Sequence[Case]) -> Iterator[str]:
    """What is wrong with the ends of these programs."""
    running = [(case, started(place, case)) for case in cases]
    for case, process in running:
        try:
            out, err = process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += "it hung"
        wanted = "late\n" * (2 if case[2] == "child" else 1)
        if (process.returncode, out, err.replace(GIVEN_UP, "")) != (0, wanted, ""):
            yield f"{case}: {process.returncode} {out!r}\n{err}"


QUICK = {
    "memory": [("threads", "used", "closed"), ("tasks", "fresh", "thread")],
    "sqlite": [
        ("threads", "used", "cycle"),
        ("tasks", "used", "destructor"),
        ("tasks", "used", "generator"),
        ("http", "used", "closed"),
    ],
    "valkey": [("threads", "never", "atexit"), ("threads", "used", "child"), ("tasks", "used", "daemon")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lookup_while_the_interpreter_ends_neither_raises_nor_hangs(kind, request, tmp_path):
    assert list(ends_well(place_of(kind, request, tmp_path), QUICK[kind])) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_lookup_while_the_interpreter_ends_neither_raises_nor_hangs(kind, how, request, tmp_path):
    place = place_of(kind, request, tmp_path)
    for by_name in (place, place.replace("127.0.0.1", "localhost")):
        assert list(ends_well(by_name, [case for case in CASES if case[2] == how])) == []


def test_the_url_of_a_cache_is_accepted_where_python_imports_nothing_any_more(monkeypatch):
    monkeypatch.setitem(sys.modules, "urllib.parse", None)  # what nothing had imported before
    assert check_url("memory://late") == "memory://late"


DROPPED = """
import atexit, sys
held = []
atexit.register(held.clear)  # before any other of this process, so that it runs last
from askonce import Cache
from askonce.runtime.drive import drive
from askonce.store.redis.waker import Waker
held.append(Waker())
cache = Cache(sys.argv[1])
cache.fetch("question", lambda: "paid")
store = cache._base._engine.store.blocking()  # as the background thread's
drive(store.standing())
held.append(store)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_after_the_functions_of_atexit_closes_what_it_has(kind, request, tmp_path):
    command = [sys.executable, "-W", "error", "-c", DROPPED, place_of(kind, request, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import asyncio, sys, threading, time
from askonce import AsyncCache, Cache, Policy

place, how = sys.argv[1:]
STALE = Policy(ttl=0.05, grace=60.0, max_age=600.0)

def hang():
    print("under way\\n", end="", flush=True)
    time.sleep(30)

async def hung():
    print("under way\\n", end="", flush=True)
    await asyncio.sleep(30)

async def answered():
    return 1

async def left():
    async with AsyncCache(place) as cache:
        await cache.fetch("question", hung)

async def closed():
    cache = AsyncCache(place)
    try:
        await asyncio.gather(*[cache.fetch(f"question {number % 2}", hung) for number in range(4)])
    finally:
        await cache.aclose()

async def refreshed():
    cache = AsyncCache(place)
    await cache.fetch("question", answered, policy=STALE)
    await asyncio.sleep(0.1)
    await cache.fetch("question", hung, policy=STALE)
    await asyncio.sleep(30)

if how in ("left", "closed", "refreshed"):
    asyncio.run(globals()[how]())
elif how == "thread's refresh":
    with Cache(place) as cache:
        cache.fetch("question", lambda: 1, policy=STALE)
        time.sleep(0.1)
        cache.fetch("question", hang, policy=STALE)
        time.sleep(30)
elif how == "other threads":
    cache = Cache(place)
    try:
        for number in range(3):
            threading.Thread(target=cache.fetch, args=(f"question {number}", hang), daemon=True).start()
        time.sleep(30)
    finally:
        cache.close()
else:
    cache = Cache(place)
    cache.fetch("question", lambda: 1, policy=STALE)
    time.sleep(0.1)
    cache.fetch("question", hang, policy=STALE)
    time.sleep(30)
"""
CTRL_C = ("left", "closed", "refreshed", "thread's refresh", "other threads", "no close")


def interrupted(place: str, how: str) -> float:
    """How long a program takes to end after a Ctrl-C while a call of its is under way, s."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    program = [sys.executable, "-c", INTERRUPTED, place, how]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "under way\n"
        time.sleep(0.05)
        took = Took()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        assert "KeyboardInterrupt" in err
        return took.seconds


@pytest.mark.parametrize("how", ["closed", "refreshed", "thread's refresh"])
def test_ctrl_c_ends_a_program_with_a_call_under_way_at_once(how):
    assert interrupted("memory://", how) < 1.0, "0.1 s, and where it waits 2 or 5"


@pytest.mark.slow
@pytest.mark.parametrize("how", CTRL_C)
def test_ctrl_c_ends_a_program_at_once_whatever_the_store(place, how):
    assert interrupted(place, how) < 1.0


TWO_REFRESHES = """
import signal, sys, threading, time
from askonce import Cache, Policy

place, how = sys.argv[1:]
STALE = Policy(ttl=0.05, grace=60.0, max_age=600.0)
begun = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))

def hang():
    begun.set()
    threading.Event().wait(30)

caches = [Cache(place, prefix=prefix) for prefix in ("one", "two")]
for cache in caches:
    cache.fetch("question", lambda: 1, policy=STALE)
time.sleep(0.1)
for cache in caches:
    begun.clear()
    cache.fetch("question", hang, policy=STALE)
    begun.wait(5)
"""
INTERRUPTED_AT_ITS_END = f"""{TWO_REFRESHES}
def interrupted(seconds, sleep=time.sleep):
    if threading.current_thread() is threading.main_thread():
        time.sleep = sleep
        signal.raise_signal(signal.Signals[how])
    sleep(seconds)

time.sleep = interrupted  # the first that sleeps in the main thread is the end of Python, which waits for the refreshes
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_signal_that_ends_the_wait_at_the_end_of_python_lets_the_rest_be_given_up_and_reported(how, tmp_path):
    place = f"sqlite:///{tmp_path}/answers.db"
    command = [sys.executable, "-c", INTERRUPTED_AT_ITS_END, place, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, 2 * GIVEN_UP)


FAILS_AT_ITS_END = f"""{TWO_REFRESHES}
from askonce.engine.closing import Closing

def fails(closing, until, last=Closing.last, met=[]):
    if not met:
        met.append(closing)
        raise MemoryError("of the first cache")
    last(closing, until)

Closing.last = fails
"""


def test_a_cache_that_cannot_end_leaves_the_end_of_the_others_as_it_is(tmp_path):
    place = f"sqlite:///{tmp_path}/answers.db"
    command = [sys.executable, "-c", FAILS_AT_ITS_END, place, "SIGTERM"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert "MemoryError: of the first cache" in done.stderr
    assert (done.returncode, done.stderr.count(GIVEN_UP)) == (0, 2), done.stderr


LEFT = """
import atexit, sys, threading, time
held = []
from askonce import Cache

place, how = sys.argv[1:]
cache = Cache(place)
begun = threading.Event()

def hang():
    print("paid", flush=True)
    begun.set()
    threading.Event().wait(60)

def parts():
    print("paid", flush=True)
    yield "a"
    threading.Event().wait(60 if how == "half-read stream" else 0.3)
    yield "b"

if how == "daemon threads":
    for _ in range(3):  # one calls, the others follow
        threading.Thread(target=cache.fetch, args=("question", hang), daemon=True).start()
    begun.wait(10)
    while cache.stats()["waiting"] + cache._base._engine.board.flights()[0].callers < 3:
        time.sleep(0.01)
elif how == "stream and cache of a function":
    (lambda: next(Cache(place).fetch_stream("question", parts)))()
else:
    stream = cache.fetch_stream("question", parts)
    assert next(stream) == "a"
    if how == "dropped stream":
        held.append(stream)
        del stream
        atexit.register(held.clear)  # the last thing that happens
"""


@pytest.mark.parametrize(
    "how", ["daemon threads", "half-read stream", "dropped stream", "stream and cache of a function"]
)
@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
def test_what_ends_with_its_process_is_left_to_others_at_once(kind, how, request, tmp_path):
    place = place_of(kind, request, tmp_path)
    program = [sys.executable, "-c", LEFT, place, how]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "paid\n", "")
    with Cache(place) as cache, cache.watch() as seen:
        if how == "daemon threads":
            assert cache.fetch("question", lambda: "new").value == "new"
        else:
            assert list(cache.fetch_stream("question", lambda: iter("ab"))) == ["a", "b"]
        stored = how in {"dropped stream", "stream and cache of a function"}
        assert seen[0].hit == stored, "those had their 2 s"
        assert cache.stats().get("takeover", 0) == 0, "nobody waits for the end of a lease"
