"""The Pump: brings one upstream stream onto its tape, and sees to its end.

It ends in one of four ways: upstream says so, upstream fails, the last reader leaves (and then it goes on by itself, or
is closed, as the policy says), or the protocol's own end was seen and nobody reads on: SDKs close at the last event,
before the iterator ends, and what they leave then is a whole answer.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

from askonce.core.tape import FAILED, SHARED, Ending
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode, Owner, Signal
from askonce.runtime.ownership import Busy, OwnedLock, owned
from askonce.store import StoreTrouble
from askonce.stream.tape import Cut, Opened, Raw, Tape
from askonce.stream.writer import LogWriter

LOOK = 32  # parts, after which a pump looks how far it is ahead
TURN = 0.05  # s after which a thread that found another at it tries again
SUCCESSORS = 3  # how often what was cut off is handed on: each is cut off too, or its source does not close
AHEAD = 256  # parts that an async pump may be ahead of its fastest reader: back-pressure must reach upstream
Closing = Callable[[], Awaitable[None]]

_Outcome = tuple[BaseException | None, BaseException | None]  # what its readers get, and why it is not kept


class Pump:
    """Moves an opened stream onto a tape. `landed` stores it, or gives the lease back."""

    def __init__(
        self,
        opened: Opened,
        tape: Tape,
        mode: Mode,
        guarded: GuardedStore,
        cap: int,
        landed: Callable[[BaseException | None, str], Awaitable[None]],
    ) -> None:
        self.tape = tape
        self.scan = opened.scan
        self.abandoned = ""  # by its last reader: finish or close
        self.awaited = False  # by whoever called for it, and has not begun to read
        self._passing = False
        self._unwanted = False  # its source is to be closed
        self._closed = False
        self._settled = False  # stored, or given back
        self._cap = cap
        self._source = opened.source
        self._mode = mode
        self._asynchronous = mode.asynchronous
        self._guarded = guarded
        self.writer: LogWriter | None = None  # of a flight whose lease lets others follow it
        self._landed = landed
        self.helper: Owner | None = None  # what runs it where its readers do not
        self._steps: types.GeneratorType[None, None, None] = self._stepping()  # type: ignore[assignment]
        self._outcome: _Outcome | None = None  # whoever said first how it ends
        self._finished = False
        self.left: Callable[[], Coroutine[Any, Any, None]] | None = None  # what its last reader's going sets off
        self._successors: list[Owner] = []
        self._ender = OwnedLock()  # sync; async, it is what ends it
        self._ending: Owner | None = None
        self._here = mode.signal()
        self._deadline = 0.0

    async def pull(self, _: float) -> bool:
        """In sync mode: read one part, here, unless another is at it. In async mode the pump runs by itself.

        How long that may take is upstream's client's to say, which has timeouts of its own.
        """
        try:
            return self._stepped()
        finally:
            self.tape.nudge()  # whoever found the turn taken may have it now, also if the one that had it has left

    def _stepped(self) -> bool:
        """One step, unless another thread is at it."""
        try:
            return self._turned() and not self._unwanted
        except StopIteration:
            # The step before was cut off: an exception came between two lines of ours, and a part may be lost.
            drive(self.end(Cut("the call was given up")))
            return self.tape.over
        finally:
            # Somebody ended it meanwhile, and left this to us.
            if self._unwanted and not self._closed:
                with contextlib.suppress(Exception):  # it is the tape that says how it ended
                    self._let_go()

    def _turned(self) -> bool:
        """One turn of `_steps`, unless another thread is at it; StopIteration where it was cut off.

        Not by a lock, which an exception could leave locked: a generator runs in one thread at a time, and the
        interpreter knows in which.
        """
        try:
            next(self._steps)
        except ValueError as error:
            if error.args != ("generator already executing",):
                raise
            return False
        return True

    def _stepping(self) -> Generator[None, None, None]:
        while True:
            drive(self._close() if self._unwanted else self._step())
            yield

    @property
    def joinable(self) -> bool:
        """Whether it goes on, and is kept from its beginning."""
        return not self.tape.over and not self.tape.trimmed

    def hurry(self) -> bool:
        """See to it that it goes on however slowly it is read here, from any thread; False where nothing can."""
        if self.tape.held is not None:  # async: its task waits for its readers
            self.tape.held.ring()
        if self._asynchronous or (self.helper is not None and self.helper.alive()):
            return True
        return self._mode.beside(self._helped, self.run)

    def _helped(self, helper: Owner) -> None:
        self.helper = helper

    async def run(self) -> None:
        """To the end, without a reader's help; within the deadline that an abandoned stream has."""
        while not self.tape.over:
            if self._asynchronous:
                if not self.tape.count % LOOK:
                    await self._room()
                await self._step()
            elif not self._stepped():
                await self._others()  # readers that are still there read too: one of us at a time
            if self._deadline and time.monotonic() > self._deadline:
                await self.end(Cut("abandoned by its readers, and not finished in time"))

    async def _others(self) -> None:
        """Wait until whoever reads has read one part more."""
        signal = self._mode.signal()
        self.tape.tell(signal)
        try:
            await signal.wait(TURN)
        finally:
            self.tape.untell(signal)

    def alive(self) -> bool:
        """Whether it goes on, or may: somebody reads here, or a thread sees to it, or to its end."""
        if self._doomed:
            return False  # who comes now is to have another call
        if self._ends_now():
            return True
        if self.tape.over or self._asynchronous:
            return False  # async, it is its flight's task that lives
        helped = self.helper is not None and self.helper.alive()
        return self.tape.read_on() or self._steps.gi_running or helped

    async def _room(self) -> None:
        """Wait while the only readers are slow ones."""
        tape = self.tape
        while tape.read_on() and tape.ahead() > AHEAD and not self.followed:
            tape.held = tape.held or self._mode.signal()
            await tape.held.wait(1.0)

    async def _step(self) -> None:
        if self.tape.over:
            return
        try:
            data = await self._source.next()
        except Exception as error:  # noqa: BLE001 - the upstream's, whatever it is: its readers get it
            await self._ends(error)
            return
        except BaseException:
            # Nobody reads on. If all that matters was read, as when an SDK closes at the last event, it is whole.
            with contextlib.suppress(Exception):  # what ends us is more than what its closing may say
                await self._ends(None if self.scan.whole() else Cut("the call was given up"))
            raise
        if self._unwanted:
            return  # it has ended without this
        if data is None:
            await self._ends()
        elif isinstance(data, Raw):
            self.tape.write(data)
            await self._pass_through(data.why)
        elif data:
            self.scan.feed(data)
            self.tape.write(data)
            if self.tape.size > self._cap:
                await self._pass_through("too-large")

    async def _pass_through(self, why: str) -> None:
        """What may not be kept is for the readers that are here, and is let go when they have passed it."""
        if not self._passing:
            self._passing = True
            await self._tell(Cut(why))
            await self._landed(None, why)
            self._settled = True
        if not (self.awaited or self.tape.read_on()):
            # Nobody has it, nor ever will: what upstream still says is paid for nothing.
            await self._ends(Cut("nobody reads this stream, which is not kept"))
        self.tape.trim()

    @property
    def passing(self) -> bool:
        """Whether it goes on for the readers that are here alone: what it brings is not kept."""
        return self._passing

    @property
    def followed(self) -> bool:
        """Whether another process reads it too."""
        return self.writer is not None and self.writer.wanted

    def within(self, seconds: float) -> None:
        """Its readers left: it may go on for so long."""
        self._deadline = time.monotonic() + seconds

    def rejoined(self) -> None:
        """There is a reader, perhaps again."""
        self.awaited = False
        self._deadline = 0.0
        self.abandoned = ""

    async def finished(self, signal: Signal, until: float) -> bool:
        """Wait for its end, if it is nobody's here and goes on by itself; False if it was not over in time."""
        self.tape.tell(signal)
        try:
            while not (self.tape.over or self.tape.readers) and (left := until - time.monotonic()) > 0:
                await signal.wait(min(left, 1.0))
        finally:
            self.tape.untell(signal)
        return self.tape.over

    async def end(self, error: BaseException | None = None) -> None:
        """Close upstream, tell who follows, and land: once, or once more where that was cut off.

        From anywhere. The source is its reader's: a thread that reads it closes it as soon as it is through.
        """
        await self._ended(error, self._close if self._asynchronous else self._leave)

    async def _ends(self, error: BaseException | None = None) -> None:
        """The same, in the middle of a step."""
        await self._ended(error, self._close)

    async def _ended(self, error: BaseException | None, close: Closing) -> None:
        if self._finished:
            return
        outcome = self._said(error)
        if not self._asynchronous:
            with contextlib.suppress(Busy):  # somebody is at it
                self._ender.run(lambda: drive(self._end(*outcome, close)), 0.0)
        elif self._ending is None or not self._ending.alive():
            ending = self._ending = self._mode.owner()
            work = ending.work = owned(partial(self._end, *outcome, close))
            await work

    def _said(self, error: BaseException | None) -> _Outcome:
        """How it ends, as whoever said so first did."""
        if self._outcome is None:
            # A connection that fails behind the protocol's own end took nothing of the answer away.
            self._outcome = (error, None if error is not None and self.scan.whole() else error)
        return self._outcome

    async def _end(self, error: BaseException | None, lost: BaseException | None, close: Closing) -> None:
        if self._finished:
            return
        try:
            await close()
        finally:
            await self._settle(error, lost, close)

    async def _leave(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Close the source, unless a thread reads it just now. Closed under a reader, its descriptor may be another's
        by the time that it is used, and a generator cannot be closed while it runs.
        """
        self._unwanted = True
        try:
            self._turned()
        except StopIteration:  # who read it was cut off
            drive(self._close())

    async def _close(self) -> None:
        if not self._closed:
            await self._source.close()
            self._closed = True

    async def _settle(self, error: BaseException | None, lost: BaseException | None, close: Closing) -> None:
        try:
            with contextlib.suppress(Exception):  # once more, if an exception of anybody else's came before it
                await close()
            if not self._settled:
                await self._tell(lost)
                await self._landed(lost, "")
                self._settled = True
        finally:
            # Kept before its readers see the end: a program that ends there must not lose what it paid for.
            self.tape.end(error)
        self._finished = True  # not where that was cut off: it is to be done once more

    def hand_on(self) -> bool:
        """Nobody sees to it any more: what its last reader would have left behind, or its end, is seen to elsewhere.

        Whether something will come of it.
        """
        if not (self._finished or self._ends_now()):
            self._hand_over()
        return self._ends_now() and not (self._finished or self._doomed)

    def _hand_over(self) -> None:
        left, self.left = self.left, None
        if left is None or self._outcome or self._steps.gi_frame is None:
            error, _ = self._said(Cut("nobody reads this stream any more: what read it was interrupted"))
            left = partial(self.end, error)
            if self._asynchronous or len(self._successors) == SUCCESSORS:
                self.tape.end(error)  # its readers are told at once
        if len(self._successors) < SUCCESSORS:
            self._successors.append(self._mode.send(self._here, left))

    def _ends_now(self) -> bool:
        # Async, a successor needs a loop that may never be run again: nobody is to wait for that.
        successor = self._ending if self._asynchronous or not self._successors else self._successors[-1]
        return self._ender.held or (successor is not None and successor.alive())

    @property
    def _doomed(self) -> bool:
        """Whether it ends in the middle, for a reason of ours."""
        return self._outcome is not None and isinstance(self._outcome[1], Cut)

    async def _tell(self, error: BaseException | None) -> None:
        if self.writer is None:
            return
        ending = Ending(SHARED) if error is None else Ending(FAILED, type(error).__name__[:64])
        try:
            await self._guarded(self.writer.finish(self._guarded.store, ending))
        except StoreTrouble:
            return  # counted; those who follow find a log without an end, and say so
