"""A claim that the store executes after its lookup was interrupted, and after its lease was given back.

Bytes that were written are executed whenever the server comes to them, and what a thread was asked for is done when it
comes to it. So the lease stands, and nobody flies it. Whoever of its process is told to follow it knows that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from askonce.engine.claims import Claims
from askonce.runtime.drive import drive
from tests.crowd import MODES
from tests.injection.paths import PATHS
from tests.injection.world import QUICK, world_alone
from tests.took import Took

LONG = 20.0  # s: a heartbeat that no test waits for
WAYS = [path for path in PATHS if path.name in {"miss", "stream", "http", "http stream", "http batch"}]

pytestmark = pytest.mark.concurrency


@pytest.fixture(params=[(kind, mode) for kind in ("memory", "sqlite", "valkey") for mode in MODES], ids="-".join)
def world(request, tmp_path):
    with world_alone(request, tmp_path, LONG) as made:
        yield made


@contextlib.contextmanager
def interrupted_claims(error):
    """Lookups end when their claims are about to be sent; what they would have asked for, and of which store."""
    unsent, begun = [], Claims._begun

    def cut(claims, question, attempt):
        unsent.append((claims._store.blocking(), question.key, begun(claims, question, attempt)))
        raise error

    Claims._begun = cut
    try:
        yield unsent
    finally:
        Claims._begun = begun


def executed(unsent):
    """The store comes to it now."""
    for store, key, ask in unsent:
        assert drive(store.claim(key, ask)).grant is not None
        drive(store.close())


def interrupted(world, path, request):
    with interrupted_claims(asyncio.CancelledError()) as unsent, contextlib.suppress(asyncio.CancelledError):
        world.run(path.act(world, request))
    world.tidy()
    world.at_rest("a lookup that was interrupted")
    time.sleep(0.02)
    return unsent


@pytest.mark.parametrize("path", WAYS, ids=lambda one: one.name)
def test_a_lease_of_an_interrupted_lookup_that_is_granted_late_keeps_nobody_of_its_process_waiting(world, path):
    request = world.fresh()
    unsent = interrupted(world, path, request)
    assert unsent
    executed(unsent)
    took = Took()
    assert path.right(request, world.run(path.act(world, request)))
    assert took.seconds < QUICK
