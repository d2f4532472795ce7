"""The background thread and the end of a flight both write its log: at any moment, together, and without a lock."""

from __future__ import annotations

import os
import types
from collections import deque
from typing import Any

import pytest

from askonce.cache.stores import open_store
from askonce.core.codec import PLAIN, Codec
from askonce.core.keyring import Keys
from askonce.core.keys import Key
from askonce.core.tape import SHARED, WANTED, Ending, Notice, end_frame
from askonce.runtime.drive import drive
from askonce.runtime.threads import Threads
from askonce.stream.tape import Playback, Tape
from askonce.stream.writer import LogWriter


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


RING = Keys({"a": os.urandom(32)})
CODECS = {"plain": PLAIN, "compressed and encrypted": Codec(compress=True, keys=RING)}


@pytest.fixture(params=CODECS)
def codec(request):
    return CODECS[request.param]


@pytest.fixture
def written(codec):
    """A tape, and the log writer of a flight that is followed."""
    tape = Tape(b"meta")
    grant = types.SimpleNamespace(id=bytes(16), order=7)
    flight = types.SimpleNamespace(key=Key(os.urandom(32), "s"), grant=grant, alive=lambda: True, left_off=False)
    waiter = types.SimpleNamespace(again=False, notices=deque(), close=int)
    flushes: list[Any] = []
    background = types.SimpleNamespace(listen=lambda *_: waiter, renew_now=int, flush=flushes.append, flushes=flushes)
    writer = LogWriter(flight, tape, background, codec)
    writer.want()
    return tape, writer, flight


def test_who_wants_a_stream_in_the_moment_that_it_seems_to_be_closed_does_not_wait_for_the_next_renewal(written):
    _, writer, flight = written
    renewed, mine = [], (flight.grant.id, flight.grant.order)
    writer._background.renew_now = renewed.append
    writer.wanted, flight.left_off = False, True
    writer._waiter.notices.append(Notice(WANTED, *mine))
    writer.wake()
    assert (writer.wanted, renewed) == (False, [mine])
    writer.want()  # the reply of a renewal, while it is closed yet
    assert renewed == [mine], "it is not renewed again and again"
    flight.left_off = False
    writer.want()
    assert writer.wanted


@pytest.mark.parametrize("steps", [1, 2])  # reached by the background thread: asked, or heard
@pytest.mark.parametrize("before", [0, 1, 3])  # parts written before
def test_whoever_ends_a_flight_waits_for_no_other_who_writes_its_log(store, written, before, steps, codec):
    tape, writer, flight = written
    for number in range(before):
        tape.write(b"part %d" % number)
    drive(writer.flush(store))
    tape.write(b"one more")
    behind = writer.flush(Slow(store))
    for _ in range(steps):
        behind.send(None)
    tape.write(b"the last")
    drive(writer.finish(store, Ending(SHARED)))
    for _ in range(2 - steps):
        behind.send(None)
    with pytest.raises(StopIteration):
        behind.send(None)
    log = drive(store.tape(flight.key, bytes(16), 7))
    assert codec.open_log(flight.key, bytes(16), log, 2**20) == tape.log() + end_frame(Ending(SHARED))


def test_a_log_that_the_store_lost_is_written_anew_from_its_first_byte(store, written, codec):
    tape, writer, flight = written
    for number in range(5):
        tape.write(b"part %d " % number * 30)
    drive(writer.flush(store))
    empty = open_store(f"memory://{os.urandom(6).hex()}", prefix="", asynchronous=False)
    tape.write(b"one more")
    drive(writer.flush(empty))
    tape.write(b"the last")
    drive(writer.finish(empty, Ending(SHARED)))
    log = drive(empty.tape(flight.key, bytes(16), 7))
    assert codec.open_log(flight.key, bytes(16), log, 2**20) == tape.log() + end_frame(Ending(SHARED))


def test_the_log_is_written_before_the_readers_here_are_woken_and_once_for_each_part(store, written):
    tape, writer, _ = written
    flushes, order = writer._background.flushes, []
    reader = Playback(tape, Threads())
    reader.waiting, reader.signal = True, types.SimpleNamespace(wake=lambda: order.append("reader"))
    writer._background.flush = lambda _: order.append("log")
    for number in range(3):
        tape.write(b"part %d" % number)
        assert order == ["log", "reader"]
        drive(writer.flush(store))
        order.clear()
        writer.wake()  # the notice of this append, which comes back
        assert order == []
    tape.write(b"one more")
    writer.wake()
    assert order == ["log", "reader", "log"]  # not written yet
    assert flushes == [writer]  # of the beginning
