"""A refresh whose loop, interpreter or cache ends: it gets a moment more, or is put off, and that is reported.

For example one `asyncio.run` for each call, or a script that does not close: a refresh that is paid for and thrown away
at each stale hit would be paid for at every hit, for ever.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from askonce import AsyncCache, Cache, Policy
from askonce.runtime.exits import LAST
from askonce.testing import Receipts
from tests.crowd import ROOT, eventually, heartbeat
from tests.fixtures import KINDS, place_of
from tests.took import Took

pytestmark = pytest.mark.concurrency

STALE = Policy(ttl=0.1, grace=60.0, max_age=600.0)
ASKED = {"model": "m", "messages": []}
SQLITE, VALKEY = KINDS[1], KINDS[2]
SLOW = pytest.mark.slow


@pytest.fixture(params=[SQLITE, pytest.param("valkey", marks=[pytest.mark.servers, SLOW])])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store: in the quick tests of one kind, for what ends is not the store's."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def sooner() -> Iterator[None]:
    """Who has gone is noticed at the next heartbeat, within 0.6 s."""
    with heartbeat(2.0):
        yield


def without_ceremony(work: Any) -> Any:
    """What asyncio.run does, less the end: nothing is cancelled or waited for."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


class Upstream:
    """Answers with the number of its call, after `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.paid = 0

    async def __call__(self) -> int:
        self.paid += 1
        mine = self.paid
        await asyncio.sleep(self.seconds)
        return mine


def asked(cache: AsyncCache, call: Any, run: Callable[[Any], Any] = asyncio.run) -> Any:
    """One lookup, in an event loop of its own."""

    async def ask() -> Any:
        return await cache.fetch(ASKED, call, policy=STALE)

    return run(ask())


def stale(place: str, seconds: float) -> tuple[AsyncCache, Upstream]:
    """A cache whose answer is past its freshness, and its upstream."""
    cache, call = AsyncCache(place), Upstream()
    assert asked(cache, call).value == 1
    time.sleep(0.15)
    call.seconds = seconds
    return cache, call


def test_a_refresh_has_a_moment_more_when_its_loop_ends(place):
    cache, call = stale(place, 0.3)
    took = Took()
    assert asked(cache, call).value == 1
    assert took.wall > 0.2
    assert took.seconds < 2.0
    outcome = asked(cache, call)
    assert (outcome.value, outcome.status.hit) == (2, True)
    asyncio.run(cache.aclose())


def test_a_refresh_that_takes_too_long_for_its_loop_is_put_off_and_told(place, monkeypatch):
    monkeypatch.setattr("askonce.runtime.tasks.LAST", 1.0)
    cache, call = stale(place, 30.0)
    took = Took()
    for _ in range(4):
        outcome = asked(cache, call)
        assert (outcome.value, outcome.status.detail) == (1, "stale")
    assert took.seconds < 1.0 + 0.9, "one refresh is waited for, and not each"
    stats = cache.stats()
    assert call.paid == 2, "4 stale hits in a second pay for one refresh"
    assert (stats["backoff"], stats["dropped.cut-off"]) == (1, 1)
    asyncio.run(cache.aclose())


@pytest.mark.usefixtures("sooner")
def test_a_refresh_on_a_loop_that_is_closed_without_ceremony_is_put_off_and_told(place, capfd):
    cache, call = stale(place, 30.0)
    assert asked(cache, call, without_ceremony).value == 1
    lost = Took()
    eventually(lambda: cache.stats().get("backoff"), "it is put off")
    for _ in range(3):
        assert asked(cache, call, without_ceremony).value == 1
        gc.collect()
    tries = 1 + int(lost.wall)  # it is put off for a second, and a busy machine may take that long here
    assert 1 <= call.paid - 1 <= tries
    assert 1 <= cache.stats()["dropped.owner-gone"] <= tries
    asyncio.run(cache.aclose())
    gc.collect()
    assert "destroyed" not in capfd.readouterr().err


class Refused(Exception):
    """What a client raises for an answer that has a status."""

    status_code = 401


@pytest.mark.parametrize(
    ("brings", "calls"),
    [(RuntimeError("the client has been closed"), 1), ({1, 2}, 1), (ConnectionError(), 1), (Refused(), 4)],
    ids=["an error", "nothing that may be stored", "trouble", "a refusal of what it asks"],
)
def test_a_refresh_that_brings_nothing_is_put_off_unless_it_is_refused(brings, calls):
    with Cache("memory://") as cache:
        cache.fetch(ASKED, lambda: 1, policy=STALE)
        time.sleep(0.15)
        made: list[int] = []

        def call() -> Any:
            made.append(1)
            if isinstance(brings, Exception):
                raise brings
            return brings

        for _ in range(4):
            assert cache.fetch(ASKED, call, policy=STALE).value == 1
            eventually(lambda: cache.stats()["flights"] == 0, "the refresh is over")
        assert len(made) == calls
        assert cache.stats().get("backoff", 0) == (calls == 1)


SCRIPT = """
import sys, time
from askonce import Cache, Policy
from askonce.testing import Receipts
place, paid, seconds, how = sys.argv[1], Receipts(sys.argv[2]), float(sys.argv[3]), sys.argv[4]

def call():
    paid.write("call")
    mine = len(paid.rows())
    time.sleep(seconds)
    return mine

cache = Cache(place)

def ask():
    outcome = cache.fetch({asked!r}, call, policy=Policy(ttl=0.1, grace=60.0, max_age=600.0))
    print(outcome.value, outcome.status.detail, flush=True)

if how == "child":
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    child.join()
elif how == "thread":
    import threading
    threading.Thread(target=ask).start()
else:
    ask()
"""


def script(place: str, paid: Path, seconds: float, how: str) -> tuple[int, str]:
    """One run of a short script that does not close: what it was answered."""
    program = [sys.executable, "-W", "error", "-c", SCRIPT.format(asked=ASKED), place, str(paid), str(seconds), how]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert "Traceback" not in done.stderr, done.stderr
    value, _, detail = done.stdout.strip().partition(" ")
    return int(value), detail


def first_answer(place: str, paid: Path) -> None:
    """What a run before has paid for, past its freshness by now."""
    with Cache(place) as cache:
        cache.fetch(ASKED, lambda: 1, policy=STALE)
    Receipts(paid).write("call")
    time.sleep(0.15)


@pytest.mark.parametrize("how", [pytest.param("main", marks=SLOW), pytest.param("thread", marks=SLOW), "child"])
def test_a_refresh_has_a_moment_more_when_its_interpreter_ends(place, tmp_path, how):
    paid = tmp_path / "paid"
    first_answer(place, paid)
    assert script(place, paid, 0.5, how) == (1, "stale")
    with Cache(place) as cache:
        assert cache.fetch(ASKED, lambda: "paid again", policy=STALE).value == 2, "what it paid for was stored"


@pytest.mark.parametrize("how", ["main", pytest.param("thread", marks=SLOW), pytest.param("child", marks=SLOW)])
def test_a_refresh_that_takes_too_long_for_its_interpreter_is_put_off(place, tmp_path, how):
    paid = tmp_path / "paid"
    first_answer(place, paid)
    took = Took()
    assert script(place, paid, 20.0, how) == (1, "stale")
    assert took.seconds < 2.0 + 3.0
    with Cache(place) as cache:
        outcome = cache.fetch(ASKED, lambda: "paid at once", policy=STALE)
        assert (outcome.value, outcome.status.detail) == (1, "stale")
        again = "refresh" in cache.stats()
    # It is put off for a second, from LAST after the call, and a busy machine may take that long until here.
    assert not again or time.time() - paid.stat().st_mtime > LAST + 0.9, "the next stale hit tries nothing"
    assert len(Receipts(paid).rows()) == 2


@pytest.mark.usefixtures("sooner")
def test_refreshes_that_were_lost_with_their_loops_leave_room_for_others(monkeypatch):
    monkeypatch.setattr("askonce.runtime.tasks.BACKGROUND", 2)
    cache, call = AsyncCache("memory://"), Upstream()

    async def ask(question: int) -> None:
        await cache.fetch(question, call, policy=STALE)

    for question in range(6):
        asyncio.run(ask(question))
    time.sleep(0.15)
    call.seconds = 30.0
    for question in range(6):
        without_ceremony(ask(question))
    assert cache.stats()["refresh"] == 6
    assert "dropped.too-many-refreshes" not in cache.stats()
    asyncio.run(cache.aclose())
