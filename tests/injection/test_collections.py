"""Unread and unclosed objects in cycles are collected anywhere: no thread waits for a lock that it holds itself.

Each test runs in a process of its own, which reports where its threads stand if it hangs.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

import askonce
from askonce import Cache, Policy
from tests.crowd import ROOT, eventually
from tests.fixtures import place_of
from tests.injection.collecting import cycle

BEAT = 0.6  # s
OURS = Path(askonce.__file__).parent
BELLS = {
    "Lock runtime/ownership.py",
    "Lock runtime/wakeup.py",
}  # locks that nobody holds: releasing one wakes a thread
KINDS = ("memory", "sqlite", pytest.param("valkey", marks=pytest.mark.servers))
MODES = ("threads", "tasks")

pytestmark = pytest.mark.concurrency


def said_by(program, **order):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.injection.{program}", json.dumps(order)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def dropped(kind, mode, rounds, request, tmp_path):
    said = said_by("collecting", url=place_of(kind, request, tmp_path), mode=mode, rounds=rounds, beat=BEAT)
    assert said == {"wrong": [], "left": {}}


@pytest.mark.parametrize(("kind", "mode"), [("memory", "threads"), ("sqlite", "tasks")])
def test_some_streams_caches_and_loops_are_collected_at_every_allocation(kind, mode, request, tmp_path):
    dropped(kind, mode, 6, request, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_many_streams_caches_and_loops_are_collected_at_every_allocation(kind, mode, request, tmp_path):
    dropped(kind, mode, 300, request, tmp_path)


class Counting:
    """An iterator that nothing closes by itself, as that of a connection."""

    closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        return {"word": "once"}

    def close(self):
        Counting.closed += 1


def test_a_stream_that_goes_with_the_only_cache_of_its_store_is_closed():
    """The background thread ends with its last user, and does first what was left to it."""
    Counting.closed = 0
    for number in range(20):
        cache = Cache(f"memory://only-{number}", policy=Policy(on_abandon="close"))
        stream = cache.fetch_stream({"n": number}, Counting)
        next(stream)
        cycle(cache, stream)
        del cache, stream
        gc.collect()
    eventually(lambda: Counting.closed == 20, f"{Counting.closed} of 20 are closed")


def entered_again(kind, mode, request, tmp_path):
    said = said_by("reentering", url=place_of(kind, request, tmp_path), mode=mode)
    assert not said["wrong"]
    assert set(said["raw"]) <= BELLS, "a lock that its own thread may wait for"
    return {site.partition(" ")[0] for site in said["entered"]}


def test_some_locks_of_ours_are_entered_again_by_the_thread_that_holds_them(request, tmp_path):
    assert {"flight/registry.py", "flight/users.py", "flight/background.py", "stream/pump.py"} <= entered_again(
        "memory", "threads", request, tmp_path
    )


@pytest.mark.slow
@pytest.mark.servers
def test_every_lock_of_ours_is_entered_again_by_the_thread_that_holds_it(request, tmp_path):
    met = set()
    for kind in ("memory", "sqlite", "valkey"):
        for mode in MODES:
            met |= entered_again(kind, mode, request, tmp_path)
    sources = {str(file.relative_to(OURS)): file.read_text() for file in OURS.rglob("*.py")}
    owned = {name for name, text in sources.items() if "OwnedLock()" in text}
    assert owned <= met
