"""The Pump reads one upstream stream onto its tape, and ends it.

There are four ways to end. Upstream ends. Upstream fails. The last reader leaves: then the stream goes on without it or
is closed, as the policy says. Or the protocol's own end was seen and no reader goes on: SDKs close at the last event,
before the iterator ends, and what they leave then is a whole answer.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any

from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode, Owner, Signal
from askonce.runtime.ownership import Busy, OwnedLock, owned
from askonce.stream.tape import Cut, Opened, Raw, Tape
from askonce.stream.writer import LogWriter

LOOK = 32  # parts between two checks of how far the pump is ahead
TURN = 0.05  # s after which a thread tries again if another one has the turn
SUCCESSORS = 3  # how often an interrupted end is handed on: by then each is interrupted, or the source does not close
AHEAD = 256  # parts that an async pump may be ahead of its fastest reader: back-pressure must reach upstream
Closing = Callable[[], Awaitable[None]]

_Outcome = tuple[BaseException | None, BaseException | None]  # the error for its readers, and the reason not to keep it


async def _landed_before(*_: object) -> None: ...  # `landed` of a finished pump


class Pump:
    """Moves an opened stream onto a tape. `landed` stores it, or gives the lease back; `handed_over` has it done, and
    does not wait for it.
    """

    def __init__(
        self,
        opened: Opened,
        tape: Tape,
        mode: Mode,
        cap: int,
        landed: Callable[[BaseException | None, str], Awaitable[None]],
        handed_over: Callable[[BaseException | None], object],
    ) -> None:
        self.tape = tape
        self.scan = opened.scan
        self.abandoned = ""  # what its last reader left it to: finish or close
        self.awaited = False  # by the caller that started it and has not begun to read
        self.passing = False  # it goes on only for its present readers: it is not kept
        self._unwanted = False  # its source is to be closed
        self._closed = False
        self._settled = False  # stored, or given back
        self._cap = cap
        self._source = opened.source
        self._mode = mode
        self._asynchronous = mode.asynchronous
        self.writer: LogWriter | None = None  # for a flight that others may follow, by its lease
        self._landed = landed
        self._handed_over = handed_over
        self.helper: Owner | None = None  # runs the stream while no reader does
        self._steps: types.GeneratorType[None, None, None] = self._stepping()  # type: ignore[assignment]
        self._outcome: _Outcome | None = None  # set by the first that ends it
        self.left: Callable[[], Coroutine[Any, Any, None]] | None = None  # called when the last reader leaves
        self._successors: list[Owner] = []
        self._ender = OwnedLock()  # sync; in async mode `_ending` runs the end
        self._ending: Owner | None = None
        self._here = mode.signal()
        self._deadline = 0.0
        self.overdue: Callable[[], bool] = bool  # whether it is ended when it is late

    async def pull(self, _: float) -> bool:
        """`step`. The upstream's client limits how long it takes, with its own timeouts."""
        return self.step()

    def step(self) -> bool:
        """In sync mode, read one part here, unless another thread is reading. In async mode the pump runs by itself."""
        try:
            return self._take_turn() and not self._unwanted
        except StopIteration:
            # It is over; or the step before was interrupted between two of our lines, and a part may be lost.
            drive(self.end(Cut("the call was given up")))
            return self.tape.over
        finally:
            # Another thread ended the stream meanwhile, and left the closing to this one.
            if self._unwanted and not self._closed:
                with contextlib.suppress(Exception):  # the tape says how the stream ended
                    self._close_unless_read()

    def _take_turn(self) -> bool:
        """Advance `_steps` once, unless another thread is at it; StopIteration if a step was interrupted.

        Not a lock, which an exception could leave locked: a generator runs in one thread at a time, and the interpreter
        knows in which.
        """
        if self._steps.gi_running:
            return False  # without an exception, which would cost as much as a part
        mine = True
        try:
            next(self._steps)
        except ValueError as error:
            if error.args != ("generator already executing",):
                raise
            mine = False
        finally:
            # A reader that found the turn taken may have it now, even if this one leaves. Not if it is another's turn:
            # all readers, this one too, would wake each other again and again until that one has read.
            if mine:
                self.tape.wake_readers()
        return mine

    def _stepping(self) -> Generator[None, None, None]:
        pieces = None if self._asynchronous else self._source.pieces
        while True:
            if pieces is None or self._unwanted or self.tape.over:
                drive(self._close() if self._unwanted else self._step())
            else:
                self._step_pieces(pieces)
            if self.tape.finished:
                return
            yield

    @property
    def readers(self) -> int:
        """How many callers read it now."""
        return self.tape.readers

    @property
    def joinable(self) -> bool:
        """Whether it goes on, and its beginning is kept."""
        return not self.tape.over and not self.tape.trimmed

    def run_without_readers(self) -> bool:
        """Make the stream go on however slowly it is read. Called from any thread. False if nothing can run it."""
        if self.tape.held is not None:  # async: its task waits for its readers
            self.tape.held.wake()
        if self._asynchronous or (self.helper is not None and self.helper.alive()):
            return True
        return self._mode.run_in_thread(self._helped, self.run)

    def _helped(self, helper: Owner) -> None:
        self.helper = helper

    async def run(self) -> None:
        """Run to the end without a reader's help, within the deadline of an abandoned stream."""
        while not self.tape.over:
            if self._asynchronous:
                if not self.tape.count % LOOK:
                    await self._wait_for_readers()
                await self._step()
            elif not self.step():
                await self._wait_for_others()  # readers may still be there and read too: take turns
            if self.late and self.overdue():
                await self.end(Cut("abandoned by its readers, and not finished in time"))

    async def _wait_for_others(self) -> None:
        """Wait until another thread has read one more part."""
        signal = self._mode.signal()
        self.tape.add_signal(signal)
        try:
            await signal.wait(TURN)
        finally:
            self.tape.remove_signal(signal)

    def alive(self) -> bool:
        """Whether it goes on or may go on: a reader reads, or something runs the stream or its end."""
        if self._cut_short:
            return False  # a new caller must make another call
        if self.ends():
            return True
        if self.tape.over or self._asynchronous:
            return False  # async: the flight's task is what lives
        return self.tape.read_on() or self._is_advancing()

    def attended(self) -> bool:
        """Whether it lives, or some code is ending it."""
        return self.alive() or self.ends() or self._is_advancing() or self.tape.being_left()

    def _is_advancing(self) -> bool:
        """Whether some code brings a part, or is about to."""
        return self._steps.gi_running or (self.helper is not None and self.helper.alive())

    async def _wait_for_readers(self) -> None:
        """Wait while even the fastest reader is far behind."""
        tape = self.tape
        while tape.read_on() and tape.ahead() > AHEAD and not self.followed:
            tape.held = tape.held or self._mode.signal()
            await tape.held.wait(1.0)

    async def _step(self) -> None:
        if self.tape.over:
            return
        try:
            data = await self._source.next()
        except Exception as error:  # noqa: BLE001 - any upstream error: its readers get it
            await self._end_in_step(error)
        except BaseException:
            await self._give_up()
            raise
        else:
            if not self._put(data):
                await self._put_special(data)

    def _step_pieces(self, pieces: Iterator[bytes]) -> None:
        """`_step` without a coroutine for each part, which would cost more than the rest."""
        try:
            data = next(pieces, None)
        except Exception as error:  # noqa: BLE001 - as in _step
            drive(self._end_in_step(error))
        except BaseException:
            drive(self._give_up())
            raise
        else:
            if not self._put(data):
                drive(self._put_special(data))

    async def _give_up(self) -> None:
        """Nothing reads on. If the protocol's end was seen, as when an SDK closes at the last event, it is whole."""
        with contextlib.suppress(Exception):  # what ended it matters more than an error of closing
            await self._end_in_step(None if self.scan.whole() else Cut("the call was given up"))

    def _put(self, data: bytes | None) -> bool:
        """Put a part on the tape; False if that is not all there is to do."""
        if self._unwanted or not data or type(data) is Raw:
            return False
        self.scan.feed(data)
        self.tape.write(data)
        return self.tape.size <= self._cap

    async def _put_special(self, data: bytes | None) -> None:
        """Do what a part requires that was not simply put on the tape."""
        if self._unwanted:
            return  # the stream has ended without this part
        if data is None:
            await self._end_in_step()
        elif isinstance(data, Raw):
            self.tape.write(data)
            await self._pass_through(data.why)
        elif data:
            await self._pass_through("too-large")

    async def _pass_through(self, why: str) -> None:
        """Give a stream that may not be kept to its present readers only, and drop each part they have passed."""
        if not self.passing:
            self.passing = True
            await self._landed(None, why)
            self._settled = True
        if not (self.awaited or self.tape.read_on()):
            # It has no reader and will have none: the rest of the stream would be paid for nothing.
            await self._end_in_step(Cut("this stream has no reader, and is not stored"))
        self.tape.trim()

    @property
    def followed(self) -> bool:
        """Whether another process reads it too."""
        return self.writer is not None and self.writer.wanted

    def within(self, seconds: float) -> None:
        """Let a stream without readers go on for this time."""
        self._deadline = time.monotonic() + seconds

    @property
    def late(self) -> bool:
        """Whether its time without readers is over."""
        return 0 < self._deadline < time.monotonic()

    def rejoined(self) -> None:
        """Note a reader: the stream is not abandoned, or no longer."""
        self.awaited = False
        self._deadline = 0.0
        self.abandoned = ""

    async def finished(self, signal: Signal, until: float) -> bool:
        """Wait for the end of a stream that no reader here drives; False if it does not end in time."""
        self.tape.add_signal(signal)
        try:
            while not (self.tape.over or self.tape.readers) and (left := until - time.monotonic()) > 0:
                await signal.wait(min(left, 1.0))
        finally:
            self.tape.remove_signal(signal)
        return self.tape.over

    async def end(self, error: BaseException | None = None) -> None:
        """Close upstream, tell the followers, and land: once, or once more if that was interrupted.

        May be called from anywhere. A source belongs to the thread that reads it, which closes it after its read.
        """
        await self._end_once(error, self._close if self._asynchronous else self._leave)

    async def _end_in_step(self, error: BaseException | None = None) -> None:
        """`end`, from inside a step: the source is this thread's to close."""
        await self._end_once(error, self._close)

    async def _end_once(self, error: BaseException | None, close: Closing) -> None:
        if self.tape.finished:
            return
        outcome = self._first_outcome(error)
        if not self._asynchronous:
            with contextlib.suppress(Busy):  # another thread ends it
                self._ender.run(lambda: drive(self._close_and_land(*outcome, close)), 0.0)
        elif self._ending is None or not self._ending.alive():
            ending = self._ending = self._mode.owner()
            work = ending.work = owned(partial(self._close_and_land, *outcome, close))
            await work

    def _first_outcome(self, error: BaseException | None) -> _Outcome:
        """How the stream ends: as the first caller said."""
        if self._outcome is None:
            # If the connection fails after the protocol's own end, the answer is whole all the same.
            self._outcome = (error, None if error is not None and self.scan.whole() else error)
        return self._outcome

    async def _close_and_land(self, error: BaseException | None, lost: BaseException | None, close: Closing) -> None:
        if self.tape.finished:
            return
        try:
            await close()
        finally:
            await self._settle(error, lost, close)

    async def _leave(self) -> None:
        self._close_unless_read()

    def _close_unless_read(self) -> None:
        """Close the source, unless a thread is reading it. Otherwise the reader might use a descriptor that is another
        connection's by then; and a running generator cannot be closed.
        """
        self._unwanted = True
        try:
            self._take_turn()
        except StopIteration:  # the thread that read it was interrupted
            drive(self._close())

    async def _close(self) -> None:
        if not self._closed:
            await self._source.close()
            self._closed = True

    async def _settle(self, error: BaseException | None, lost: BaseException | None, close: Closing) -> None:
        try:
            with contextlib.suppress(Exception):  # once more, if another exception came before it was closed
                await close()
            if not self._settled:
                await self._landed(lost, "")
                self._settled = True
        except BaseException as interrupt:
            if not isinstance(interrupt, GeneratorExit):  # a finaliser runs: `hand_on` does it later
                self.hand_over(lost)
            raise
        finally:
            # Stored before its readers see the end: a program that ends there must not lose what it paid for.
            self.tape.end(error)
        self.tape.finished = True  # not if that was interrupted: it must be done once more
        # Each of these leads back to this pump: in a reference cycle the answer would stay until the next collection.
        self._landed, self._handed_over, self.left, self.writer, self.overdue = _landed_before, id, None, None, bool
        with contextlib.suppress(ValueError):  # its own step ends it, and then it returns
            self._steps.close()

    def hand_over(self, lost: BaseException | None = None) -> None:
        """Its own code ends before a stream is stored: the background thread stores it, or gives its lease back."""
        if not self._settled:
            self._handed_over(lost)
            self._settled = True

    def hand_on(self) -> bool:
        """Run an orphaned stream's end, or its last reader's leaving, elsewhere; False if nothing will come of it."""
        if not (self.tape.finished or self.ends()):
            self._hand_over()
        return self.ends() and not (self.tape.finished or self._cut_short)

    def _hand_over(self) -> None:
        left, self.left = self.left, None
        # Async: the task that moved it is gone. A reader that leaves would only set it a limit, and others would wait.
        if left is None or self._asynchronous or self._outcome or self._steps.gi_frame is None:
            error, lost = self._first_outcome(Cut("this stream is not read on: its task or its reader was interrupted"))
            left = partial(self.end, error)
            if self._asynchronous and lost is None:
                self.hand_over()  # its loop may never run again
            if self._asynchronous or len(self._successors) == SUCCESSORS:
                self.tape.end(error)  # its readers learn at once
        if len(self._successors) < SUCCESSORS:
            self._successors.append(self._mode.send(self._here, left))
            self.tape.finished = self._asynchronous and not self._successors[-1].alive()  # its loop is closed

    def ends(self) -> bool:
        """Whether some code closes and stores it."""
        # Async: a successor needs a loop that may never run again, so nothing waits for it.
        successor = self._ending if self._asynchronous or not self._successors else self._successors[-1]
        return self._ender.held or (successor is not None and successor.alive())

    @property
    def _cut_short(self) -> bool:
        """Whether it ends early, for a reason of this process."""
        return self._outcome is not None and isinstance(self._outcome[1], Cut)
