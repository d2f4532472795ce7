"""How the callers of this process share a flight: they join it, get what it landed with, and may leave it."""

from __future__ import annotations

import math
import time

from askonce.core import upstream
from askonce.engine.accounting import Accounting
from askonce.engine.answer import Landed
from askonce.engine.question import Question
from askonce.engine.reader import Found, Reader
from askonce.engine.stream_readers import StreamReaders
from askonce.events import Events, Status
from askonce.flight.background import BackgroundThread
from askonce.flight.board import Board
from askonce.flight.flight import Flight, NoResult, Unshared, check_outside
from askonce.runtime.mode import Mode, Work
from askonce.stream.pump import Pump


class Joining:
    """The part of an engine that joins flights."""

    mode: Mode
    events: Events
    accounting: Accounting
    board: Board
    background: BackgroundThread
    closed: bool
    ending_begun: bool
    _reader: Reader
    _stream_readers: StreamReaders

    async def _led(self, question: Question, flight: Flight, work: Work) -> Found:
        """Have a flight run, and join it as its leader, who is one of its callers from the start."""
        flight.callers += 1
        try:
            await self.mode.start([flight], work)
        except BaseException:
            flight.callers -= 1
            raise
        return await self._join(question, flight, leader=True)

    async def _join(self, question: Question, flight: Flight, *, leader: bool = False) -> Found:
        """Wait for a flight, and return what this caller gets of it. A leader is counted already."""
        if not leader:
            check_outside(flight)
            flight.callers += 1
        try:
            landed = await flight.join(self.mode.signal(), math.inf if leader else self._patience(question))
        except NoResult as gone:
            if not flight.alive():
                self.board.end(flight)
            if leader and gone.why is not None and not self.closed:
                raise self.mode.for_caller(gone.why) from None
            raise
        except Exception as error:
            stale = await self._failed(question, flight, error, leader=leader)
            if stale is None:
                raise
            return stale
        except BaseException:
            if isinstance(flight.pump, Pump) and flight.callers == 1 and not flight.pump.tape.readers:
                # The caller was cancelled at the moment its stream was opened.
                await self._stream_readers.left(question, flight, flight.pump)
            raise
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.done:
                self._abandoned(question, flight)
        return await self._landed(question, flight, landed, leader=leader)

    def _patience(self, question: Question) -> float:
        """How long a caller waits for another's call before it claims again, s; a leader's call has its own timeout."""
        lives = question.terms.max_flight + self.background.heartbeat  # a lease goes on no longer without its renewals
        return min(lives, question.until - time.monotonic())

    async def _landed(self, question: Question, flight: Flight, landed: object, *, leader: bool) -> Found:
        """What a caller gets of a flight that landed without an error."""
        if isinstance(landed, Pump):
            playback = await self._stream_readers.join(question, flight, landed)
            if not leader:
                self.accounting.joined(question, flight)
            status = self._arrival(question, stored=False, leader=leader, detail=question.detail)
            return Found(status, None, playback)
        assert isinstance(landed, Landed)
        old = await self._old_answer(question, landed.answer.trouble)
        self._counted(question, flight, leader=leader, old=old is not None)
        return old or self._arrived(question, landed, leader=leader)

    async def _failed(self, question: Question, flight: Flight, error: Exception, *, leader: bool) -> Found | None:
        """An old answer in place of the error that a flight landed with; None if there is none: the caller gets the
        error.
        """
        trouble = upstream.trouble(error)
        stale = await self._old_answer(question, trouble)
        self._counted(question, flight, leader=leader, old=stale is not None)
        if stale is None:
            self.accounting.ended(question)
            detail = error.detail if isinstance(error, Unshared) else trouble or "failed"
            self.events.lookup(Status(question.key.text, fwd="miss", collapsed=not leader, detail=detail), question)
        return stale

    def _counted(self, question: Question, flight: Flight, *, leader: bool, old: bool) -> None:
        """Count a caller that joined, or the call of a leader that got an old answer instead."""
        if leader and old:
            self.accounting.in_vain(question, flight)
        elif not (leader or old):
            self.accounting.joined(question, flight)

    async def _old_answer(self, question: Question, trouble: str) -> Found | None:
        """The answer that is served in place of upstream's trouble, if there is trouble and such an answer."""
        return await self._reader.stale_if_error(question, trouble) if trouble and not self.ending_begun else None

    def _arrived(self, question: Question, landed: Landed, *, leader: bool) -> Found:
        detail = question.detail or landed.detail
        status = self._arrival(question, stored=leader and landed.stored, leader=leader, detail=detail)
        answer = landed.answer
        return Found(status, answer.body if landed.stored or not leader else None, answer.value)

    def _arrival(self, question: Question, *, stored: bool, leader: bool, detail: str) -> Status:
        """The status of an answer from upstream, for its leader or for a caller that joined it."""
        fwd = question.forwarded if leader else "miss"
        status = Status(question.key.text, fwd=fwd, stored=stored, collapsed=not leader, detail=detail)
        self.events.lookup(status, question)
        return status

    def _abandoned(self, question: Question, flight: Flight) -> None:
        """The last caller left. The call is paid for: by default it is finished and stored, within a limit."""
        if flight.cancel is None:
            return
        self.events.emit("abandoned", question.key.text, question.terms.on_abandon)
        if question.terms.on_abandon == "close" and not flight.wanted_elsewhere:
            flight.leave_off()
        else:
            self.mode.later(flight, question.terms.abandon_limit, self._give_up)

    def _give_up(self, flight: Flight) -> None:
        if isinstance(flight.pump, Pump):
            self._stream_readers.give_up(flight)
            return
        wanted = flight.callers or flight.wanted_elsewhere
        if flight.cancel is not None and not (wanted or flight.done or flight.ends()):
            self.events.emit("dropped", flight.key.text, "abandon-limit")
            flight.leave_off()
