"""At no line of ours does a call that is being made look as if nobody made it, whoever it passes to.

The background thread may look between any two lines, and gives back the lease of whatever nobody runs. So it is looked
at before each line and each call, on every way through us.
"""

from __future__ import annotations

import sys

import pytest

from askonce import Policy
from tests.injection.inject import OURS, tracing
from tests.injection.paths import PATHS, Path, fresh
from tests.injection.world import world_alone

LONG = 60.0  # s: the background thread itself looks at nothing here

pytestmark = pytest.mark.concurrency


async def closed_early(world, request):
    """A stream that is to be closed when its reader leaves."""
    return await world.stream(request, 2, policy=Policy(on_abandon="close"))


async def whole_but_for_its_end(world, request):
    """All parts are read, and not that there are no more."""
    return await world.stream(request, 4)


LOOKED_AT = [
    *(path for path in PATHS if path.needs != "stranger" and path.name != "fork"),
    Path("stream closed", fresh, closed_early, "s"),
    Path("stream read to its last part", fresh, whole_but_for_its_end, "s"),
]


@pytest.fixture(params=[("memory", "threads"), ("sqlite", "threads"), ("sqlite", "tasks")], ids="-".join)
def world(request, tmp_path):
    with world_alone(request, tmp_path, LONG) as made:
        yield made


def forsaken(board):
    """The flights that look as if nobody ran them, and hold a lease."""
    held = [flight for flight in list(board._claimed.values()) if not (flight.returned or flight.over)]
    return [flight for flight in held if not flight.heartbeat.alive()]


@pytest.mark.parametrize("path", LOOKED_AT, ids=lambda one: one.name)
def test_no_call_under_way_looks_at_any_line_as_if_nobody_made_it(world, path):
    board, seen, looks = world.cache._base._engine.board, [], [0]

    def met(frame, event):
        looks[0] += 1
        before = sys.gettrace()
        sys.settrace(None)
        try:
            if forsaken(board):
                seen.append(f"{frame.f_code.co_filename.removeprefix(OURS)}:{frame.f_lineno} ({event})")
        finally:
            sys.settrace(before)

    request = world.run(path.prepare(world, None))
    with tracing(met):
        brought = world.run(path.act(world, request))
    world.tidy()
    assert path.right(request, brought)
    assert looks[0] > 50
    assert not seen, f"{len(seen)}: {seen[:9]}"
