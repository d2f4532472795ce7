"""The readers of this process's streams: who may read, and what happens to a stream when all readers have left."""

from __future__ import annotations

import time

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
            return
        whole, followed = pump.passing or pump.scan.whole(), pump.followed
        closing = question.terms.on_abandon == "close" and not followed
        if not whole and flight.is_refresh:
            return  # a refresh has no reader that could abandon it
        if not whole:
            pump.abandoned = question.terms.on_abandon  # counted with its cost when the stream ends
        if flight.cancel is not None:
            if whole or closing:
                flight.leave_off()
                # Closed before this returns, as without a cache: its connection is free for the next call.
                await pump.finished(self._mode.signal(), time.monotonic() + CLOSING)
            else:
                self._mode.later(flight, question.terms.abandon_limit, self.give_up)
        elif whole:
            await pump.end()
        elif closing:
            await self._close(flight, pump)
        else:
            pump.within(question.terms.max_flight if followed else question.terms.abandon_limit)
            if not pump.run_without_readers():
                await pump.end(Cut("left by its last reader, and there is no thread to finish it"))

    @staticmethod
    async def _close(flight: Flight, pump: Pump) -> None:
        """Close a stream in this thread, unless another thread has begun to read it."""
        flight.left_off = True  # first: who begins to read it later sees that
        if pump.tape.readers:
            flight.left_off, pump.abandoned = False, ""
        else:
            await pump.end(Cut("closed by its last reader"))

    def give_up(self, flight: Flight) -> None:
        """End an abandoned stream whose time is over."""
        pump = flight.pump
        if (
            isinstance(pump, Pump)
            and not (pump.tape.readers or pump.tape.over or pump.followed or pump.ends())
            and flight.cancel is not None
        ):
            self._events.emit("dropped", flight.key.text, "abandon-limit")
            flight.leave_off()
