"""Random walks over every store, in both modes, compared with the Promises.

The walks are the same each time; `ASKONCE_WALKS=5000` makes more of them, `ASKONCE_SEED=...` makes others.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.model.places import MemoryPlace, Place, ServerPlace, SQLitePlace, closing
from tests.model.walk import Walk
from tests.profiles import examples

pytestmark = pytest.mark.hypothesis

WALKS = int(os.environ.get("ASKONCE_WALKS", "0"))
SEED = os.environ.get("ASKONCE_SEED")
MODES = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def walk(place: Place, walks: int, *, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> None:
    """So many random walks through a place."""

    through = type("Through", (Walk,), {"place": place})
    if SEED is not None:
        through = seeded(int(SEED))(through)
    limits = settings(
        max_examples=WALKS or walks,
        stateful_step_count=50,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(through, settings=limits)


@MODES
def test_a_memory_keeps_the_promises(asynchronous):
    with closing(MemoryPlace(asynchronous=asynchronous)) as place:
        walk(place, examples(60 if asynchronous else 150))


@MODES
def test_a_sqlite_file_keeps_the_promises(asynchronous, tmp_path):
    with closing(SQLitePlace(tmp_path / "walk.db", asynchronous=asynchronous)) as place:
        walk(place, examples(40))


@MODES
@pytest.mark.servers
@pytest.mark.parametrize("server", ["valkey", "redis_server"])
def test_a_server_keeps_the_promises(asynchronous, server, request):
    with closing(ServerPlace(request.getfixturevalue(server), asynchronous=asynchronous)) as place:
        walk(place, examples(40))
