"""An exception while a thread is started, in Python's own code too: threads can be started as before, and end in
order.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from askonce.runtime import exits
from askonce.runtime.exits import start_thread
from tests.crowd import eventually
from tests.injection.inject import INJECTS, noting, raising

NAME = "askonce-test"

pytestmark = [pytest.mark.concurrency, *INJECTS]


@pytest.fixture
def complaints(monkeypatch):
    """What threads ended by."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def in_order(what):
    """Threads start, and none is half there."""
    ran = threading.Event()
    assert start_thread(NAME, ran.set) is not None
    assert ran.wait(60), f"after {what} no thread starts"
    eventually(lambda: NAME not in {one.name for one in threading.enumerate()}, f"after {what} all ended", 5)


@pytest.mark.parametrize("within", [threading.__file__, exits.__file__], ids=["python", "ours"])
def test_an_exception_at_any_line_of_a_start_leaves_the_next_ones_as_they_are(within, complaints):
    with noting(1, within) as points:
        start_thread(NAME, int)
    assert points
    for point in points:
        with raising(point, KeyboardInterrupt, within) as injection:
            try:
                start_thread(NAME, int)
            except KeyboardInterrupt:
                injection.done = True
        in_order(point)
    assert not complaints
