"""The readers of this process's streams: who may read, and what happens to a stream when all readers have left."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from askonce.engine.question import Question
from askonce.flight.flight import Flight, NoResult
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.mode import Mode
from askonce.stream.pump import Pump
from askonce.stream.tape import Cut, Playback

CLOSING = 1.0  # s that the last reader, and who asks meanwhile, wait for upstream's response to be closed


class StreamReaders:
    """Gives readers a place on a tape, and acts when the last reader leaves."""

    def __init__(self, guarded: GuardedStore, mode: Mode) -> None:
        self._events = guarded.events
        self._defer = guarded.background.defer
        self._mode = mode

    async def join(self, question: Question, flight: Flight, pump: Pump) -> Playback:
        """A place at the start of the tape. NoResult if the start is no longer kept, or if the stream is being closed:
        who joined it would get a part of it and an error.
        """
        await self._until_closed(flight, pump)

        async def left() -> None:
            await self.left(question, flight, pump)

        pump.left = None if flight.is_refresh else left
        pull, step = (None, None) if self._mode.asynchronous else (pump.pull, pump.step)
        playback = Playback(pump.tape, self._mode, pull, left, self._defer, step)
        if pump.tape.trimmed:
            pump.tape.leave(playback)
            raise NoResult
        if flight.left_off:  # another thread closes it since
            await playback.close()
            raise NoResult
        pump.rejoined()
        return playback

    async def _until_closed(self, flight: Flight, pump: Pump) -> None:
        if flight.left_off:
            await pump.finished(self._mode.signal(), time.monotonic() + CLOSING)
            raise NoResult

    async def left(self, question: Question, flight: Flight, pump: Pump) -> None:
        """The last reader left. Store the stream if it is whole; else let it go on for a while, or close it."""
        if pump.tape.over:
            await pump.end()  # once more, in case the first end was interrupted
        elif pump.passing or pump.scan.whole():
            await self._end(flight, pump)
        elif flight.is_refresh:
            return  # a refresh has no reader that could abandon it
        elif self._abandoned(question, flight, pump):
            await self._end(flight, pump, Cut("closed by its last reader"))
        elif flight.cancel is not None:
            self._mode.later(flight, question.terms.abandon_limit, self.give_up)
        elif not (pump.tape.readers or pump.run_without_readers()):
            await pump.end(Cut("left by its last reader, and there is no thread to finish it"))

    async def _end(self, flight: Flight, pump: Pump, error: Cut | None = None) -> None:
        if flight.cancel is None:
            await pump.end(error)
            return
        flight.leave_off()
        # Closed before this returns, as without a cache: its connection is free for the next call.
        await pump.finished(self._mode.signal(), time.monotonic() + CLOSING)

    @staticmethod
    def _abandoned(question: Question, flight: Flight, pump: Pump) -> bool:
        """Note that nobody reads a stream; whether it is to be closed. It goes on if a reader came meanwhile."""
        pump.abandoned = question.terms.on_abandon  # counted with its cost when the stream ends
        if flight.cancel is None:
            pump.overdue = partial(_overdue, flight, pump)
            pump.within(question.terms.max_flight if pump.followed else question.terms.abandon_limit)
        closes = question.terms.on_abandon == "close"
        if closes and _left_off(flight, unless=lambda: pump.followed or pump.tape.readers):
            return True
        if pump.tape.readers:
            pump.rejoined()
        return False

    def give_up(self, flight: Flight) -> None:
        """End an abandoned stream whose time is over."""
        pump = flight.pump
        if not isinstance(pump, Pump) or pump.tape.over or pump.ends() or flight.cancel is None:
            return
        if _left_off(flight, unless=lambda: pump.tape.readers or pump.followed):
            self._events.emit("dropped", flight.key.text, "abandon-limit")
            flight.leave_off()


def _overdue(flight: Flight, pump: Pump) -> bool:
    """Whether a thread ends an abandoned stream, whose time is over: a reader may have come since."""
    leased = flight.heartbeat is not None and time.monotonic() < flight.heartbeat.until
    return _left_off(flight, unless=lambda: not pump.late or pump.tape.readers or (pump.followed and leased))


def _left_off(flight: Flight, *, unless: Callable[[], object]) -> bool:
    """Leave a stream off for good, unless it is wanted: whether it is. Several threads may ask at a time.

    It is said first, and then looked: who comes later finds that said, and takes another call. Each who looks has a
    mark of its own. With one flag for all, who finds the stream wanted would take back what another has decided.
    """
    mark = object()
    stays: object = True
    try:
        flight.left_off[mark] = None
        stays = unless()
    finally:
        if stays:
            flight.left_off.pop(mark, None)
    return not stays
