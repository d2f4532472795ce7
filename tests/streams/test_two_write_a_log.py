"""A flight's log is written by the background thread and by who ends the flight: at any moment both, and never a
lock.
"""

from __future__ import annotations

import os
import types
from collections import deque
from typing import Any

import pytest

from askonce.core.keys import Key
from askonce.core.tape import SHARED, Ending, end_frame
from askonce.runtime.drive import drive
from askonce.store import open_store
from askonce.stream.tape import Tape
from askonce.stream.writer import Scribe


@types.coroutine
def paused():
    yield


class Slow:
    """A store whose appends stop before they are done, and after."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def append(self, *of: Any) -> int:
        await paused()
        length = await self._store.append(*of)
        await paused()
        return int(length)


@pytest.fixture
def store():
    return open_store(f"memory://{os.urandom(6).hex()}", prefix="", asynchronous=False)


@pytest.fixture
def written():
    """A tape, and the scribe of a flight that is followed."""
    tape = Tape(b"meta")
    grant = types.SimpleNamespace(id=bytes(16), order=7)
    flight = types.SimpleNamespace(key=Key(os.urandom(32), "s"), grant=grant, alive=lambda: True)
    ear = types.SimpleNamespace(again=False, words=deque(), close=int)
    fleet = types.SimpleNamespace(listen=lambda *_: ear, hurry=int, scribble=lambda _: None)
    scribe = Scribe(flight, tape, fleet)
    scribe.want()
    return tape, scribe, flight


@pytest.mark.parametrize("steps", [1, 2])  # that the background thread had come to: asked, or heard
@pytest.mark.parametrize("before", [0, 1, 3])  # parts that were written before
def test_whoever_ends_a_flight_waits_for_no_other_who_writes_its_log(store, written, before, steps):
    tape, scribe, flight = written
    for number in range(before):
        tape.write(b"part %d" % number)
    drive(scribe.flush(store))
    tape.write(b"one more")
    behind = scribe.flush(Slow(store))
    for _ in range(steps):
        behind.send(None)
    tape.write(b"the last")
    drive(scribe.finish(store, Ending(SHARED)))
    for _ in range(2 - steps):
        behind.send(None)
    with pytest.raises(StopIteration):
        behind.send(None)
    log = drive(store.tape(flight.key, bytes(16), 7))
    assert log == tape.log() + end_frame(Ending(SHARED))
