"""KeyboardInterrupt, CancelledError and MemoryError at every line and call of askonce, on every path through it.

After each: the next lookup is right and quick, another process is served within the heartbeat, no lease is renewed for
a call that nobody makes, no lock is held, no thread or task is left.

`make test` tries a sample. `make slow` tries as many as ASKONCE_SECONDS (8) for each path allow, in an order of
ASKONCE_SEED, first those at places that no other path has passed; each path prints how many. ASKONCE_SECONDS=1000 with
pytest's ``-o faulthandler_timeout=0`` tries all; ASKONCE_ONLY=store/redis/multiplexed.py:94 names one, and
ASKONCE_SHOW=1 shows each.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from collections import defaultdict

import pytest

from tests.crowd import heartbeat
from tests.fixtures import place_of, prompt
from tests.injection.inject import INJECTS, noting, raising
from tests.injection.paths import PATHS
from tests.injection.stranger import Stranger
from tests.injection.world import BEAT, QUICK, World
from tests.took import Took

ERRORS = (KeyboardInterrupt, asyncio.CancelledError, MemoryError)
KINDS = ("memory", "sqlite", "valkey")
MODES = ("threads", "tasks")
MOST = 8  # failing points after which the rest is not tried
LEAST = 4  # points of a path that are tried in any case
SECONDS = float(os.environ.get("ASKONCE_SECONDS", "8"))  # for each path, in each world
SHOW = bool(os.environ.get("ASKONCE_SHOW"))
ONLY = os.environ.get("ASKONCE_ONLY", "")  # points, as they are printed: store/redis/multiplexed.py:94
SEED = int(os.environ.get("ASKONCE_SEED", "0"))

_passed: defaultdict[tuple[str, str], set[object]] = defaultdict(set)  # places, by the kind of world

pytestmark = [
    pytest.mark.concurrency,
    *INJECTS,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def world(request, tmp_path, monkeypatch):
    kind, mode = request.param
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's keeps what it is told of, and all its frames
    url = prompt(place_of(kind, request, tmp_path))
    with heartbeat(BEAT):
        if kind == "memory":
            made = World(kind, url, mode, None)
            yield made
            made.close()
            return
        with Stranger(url, BEAT) as stranger:
            made = World(kind, url, mode, stranger)
            yield made
            made.close()


def possible(path, world):
    if path.needs == "stranger":
        return world.stranger is not None
    return path.needs != "fork" or not world.tasks


def points_of(world, path, most):
    request = world.run(path.prepare(world, None))
    with noting(most) as points:
        brought = world.run(path.act(world, request))
    assert path.right(request, brought), brought
    world.tidy()
    return points


def tried(world, path, point, error, first):
    """Go the way, and let the error come; what it brought, and what was raised."""
    request = world.run(path.prepare(world, None))
    brought, kept = None, None
    if SHOW:
        print(f"{error.__name__} at {point} of {path.name!r}", flush=True)
    with raising(point, error) as injection:
        try:
            brought = world.run(path.act(world, request))
        except BaseException as raised:  # with its traceback, and so everything in its frames
            kept = raised
    if kept is not None and path.needs == "fork":
        kept.__traceback__ = None  # a fork waits half a second for a connection that some frame still has
    world.tidy()
    what = f"{error.__name__} at {point} of {path.name!r} ({kept!r})"
    assert "hangs" not in str(kept), what
    if kept is None:
        assert path.right(request, brought), f"after {what}: {brought}"
    elif not isinstance(kept, error) and not (injection.done and error is not KeyboardInterrupt):
        raise AssertionError(f"{what}: not what was raised") from kept
    if first and path.form:
        world.served_elsewhere(request, path.form, what)
    began = Took()
    again = world.run(path.act(world, request))
    took = began.seconds
    world.tidy()
    assert path.right(request, again), f"after {what} the next lookup brought {again}"
    if not first and path.form:
        world.served_elsewhere(request, path.form, what)
    world.at_rest(what)
    return injection.done, took, what


def in_turn(world, points):
    """The points in the order of this seed, those first whose place no other path in such a world has passed."""
    known = _passed[world.kind, world.mode]
    chance = random.Random(SEED)
    chance.shuffle(points)
    points.sort(key=lambda point: (point.place, point.event) in known)
    return [point for point in points if str(point).startswith(ONLY)]


def all_tried(world, path, points, seconds):
    """How many points were reached in so many seconds; what was wrong after one is told of together."""
    wrong, reached, until = [], 0, time.monotonic() + seconds
    for number, point in enumerate(points):
        if time.monotonic() > until and number >= LEAST:
            break
        error = ERRORS[(number + SEED) % 3]
        _passed[world.kind, world.mode].add((point.place, point.event))
        try:
            reached += quick(world, path, point, error, first=bool(number & 1))
        except AssertionError as why:
            wrong.append(str(why))
            if len(wrong) > MOST:
                break
    world.no_lock_held()
    assert not wrong, "\n".join(wrong)
    return reached


def quick(world, path, point, error, first):
    """Whether the point was reached. Whoever is slow has another try: the machine may have been."""
    for _ in range(3):
        done, took, what = tried(world, path, point, error, first)
        if took < QUICK + (0.1 if path.needs else 0.0):
            return done
    raise AssertionError(f"{what}: the next lookup took {took:.2f} s")


WORLDS = [(kind, mode) for kind in KINDS for mode in MODES]


SAMPLED = ("miss", "stream", "http stream", "hit", "invalidate")  # a fork, a close and the others are in `make slow`


@pytest.mark.parametrize("world", WORLDS, indirect=True, ids="-".join)
def test_an_exception_at_some_points_leaves_nothing_behind(world):
    reached = 0
    sampled = SAMPLED if world.stranger is None else SAMPLED[:2]  # asking another process waits for its renewals
    for path in (one for one in PATHS if one.name in sampled):
        reached += all_tried(world, path, in_turn(world, points_of(world, path, 1)), 0.15)
    print(f"\n{world.kind}, {world.mode}: {reached} points")
    assert reached > len(sampled)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS, indirect=True, ids="-".join)
@pytest.mark.parametrize("path", PATHS, ids=lambda one: one.name)
def test_an_exception_at_any_point_leaves_nothing_behind(world, path):
    if not possible(path, world):
        pytest.skip(f"{path.name} is not possible there")
    points = in_turn(world, points_of(world, path, 2))
    reached = all_tried(world, path, points, SECONDS)
    print(f"\n{path.name}, {world.kind}, {world.mode}: {reached} of {len(points)} points")
    assert reached >= min(LEAST, len(points)) / 2
    gc.collect()
