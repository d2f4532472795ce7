"""Real interrupts at random moments: nothing is left without an owner, no reply is wrong, and nobody waits for it.

In a process of its own (`signals`), because an interrupt in the wrong place ends it. `make test` tries some; `make
slow` tries 2,000 misses, 2,000 hits and 2,000 streams on each store. ASKONCE_SEED changes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

from askonce import Cache
from askonce.engine import leader
from tests.crowd import ROOT, heartbeat
from tests.fixtures import KINDS, place_of
from tests.injection.inject import INJECTS, noting, raising
from tests.injection.signals import Limit
from tests.injection.stranger import answer, items
from tests.took import Took

BEAT = 3.0  # s
QUICK = 0.3  # s that the next lookup of this process may take
NOISE = 0.7  # s that a busy machine may add to one of thousands
SEED = int(os.environ.get("ASKONCE_SEED", "0"))
WAYS = ("miss", "hit", "stream")
CASES = [
    ("threads", "interrupt"),
    ("threads", "limit"),
    ("threads", "thread"),
    ("tasks", "interrupt"),
    ("tasks", "limit"),
]

pytestmark = [pytest.mark.concurrency, *INJECTS]


def interrupted(url, mode, way, how, count):
    """Have a process interrupted so often; what it says is left, and how long another process waited at most."""
    order = {"url": url, "mode": mode, "way": way, "how": how, "count": count, "seed": SEED, "beat": BEAT}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.injection.signals", json.dumps(order)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    waited, said = 0.0, {}
    with process, heartbeat(BEAT), Cache(url) as other:
        for line in process.stdout:
            said = json.loads(line)
            waited = max([waited, *(served(other, request, said["form"]) for request in said.get("left", ()))])
            if "left" in said:
                process.stdin.write("\n")
                process.stdin.flush()
    assert process.returncode == 0, f"it crashed: {process.returncode}"
    return said, waited


def served(other, request, form):
    """How long another process waited for the right answer, s."""
    took = Took()
    if form == "s":
        with other.fetch_stream(request, lambda: iter(items(request))) as stream:
            assert list(stream) == items(request)
    else:
        assert other.fetch(request, lambda: answer(request)).value == answer(request)
    return took.seconds


def looked_at(said, waited, count):
    print(f"\n{said['interrupted']} of {count} interrupted, slowest {said['slowest']:.3f} s, elsewhere {waited:.3f} s")
    assert said["interrupted"] > count / 10
    assert (said["wrong"], said["held"], said["threads"]) == ([], [], [])
    assert said["slowest"] < QUICK + NOISE
    assert waited < BEAT + NOISE


@pytest.mark.parametrize(
    ("kind", "mode", "how", "way"),
    [
        ("sqlite", "threads", "limit", "miss"),
        ("sqlite", "tasks", "interrupt", "hit"),
        pytest.param("valkey", "threads", "interrupt", "miss", marks=pytest.mark.servers),
        ("memory", "threads", "thread", "stream"),
    ],
)
def test_some_lookups_are_interrupted_and_nothing_is_left_behind(kind, mode, how, way, request, tmp_path):
    said, waited = interrupted(place_of(kind, request, tmp_path), mode, way, how, 60)
    looked_at(said, waited, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, pytest.param("redis", marks=pytest.mark.servers)])
@pytest.mark.parametrize(("mode", "how"), CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize("way", WAYS)
def test_thousands_of_lookups_are_interrupted_and_nothing_is_left_behind(kind, mode, how, way, request, tmp_path):
    said, waited = interrupted(place_of(kind, request, tmp_path), mode, way, how, 2000)
    looked_at(said, waited, 2000)


def test_a_call_that_was_interrupted_is_not_taken_for_one_that_asks_for_itself():
    """An exception between "this call is being made" and the call: what it left behind is believed no longer."""
    request = {"n": 0}
    with Cache("memory://") as cache:
        with noting(1, leader.__file__) as points:
            cache.fetch(request, lambda: 1)
        assert len(points) > 20
        for number, point in enumerate(points, start=1):
            with raising(point, Limit, leader.__file__), contextlib.suppress(Limit):
                assert cache.fetch({"n": number}, lambda: 1).value == 1
            assert cache.fetch({"n": number}, lambda: 1).value == 1
