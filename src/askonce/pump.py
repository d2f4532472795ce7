"""The Pump: brings one upstream stream onto its tape, and sees to its end.

It ends in one of four ways: upstream says so, upstream fails, the last reader leaves (and then it goes on by itself, or
is closed, as the policy says), or the protocol's own end was seen and nobody reads on: SDKs close at the last event,
before the iterator ends, and what they leave then is a whole answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Awaitable, Callable

from askonce.core.tape import FAILED, SHARED, Ending
from askonce.ear import Signal
from askonce.flight import Mode
from askonce.guard import Guard
from askonce.scribe import Scribe
from askonce.store import StoreTrouble
from askonce.tape import Cut, Opened, Raw, Tape

LOOK = 32  # parts, after which a pump looks how far it is ahead
AHEAD = 256  # parts that an async pump may be ahead of its fastest reader: back-pressure must reach upstream


class Pump:
    """Moves an opened stream onto a tape. `landed` stores it, or gives the lease back."""

    def __init__(
        self,
        opened: Opened,
        tape: Tape,
        mode: Mode,
        guard: Guard,
        scribe: Scribe | None,
        cap: int,
        landed: Callable[[BaseException | None, str], Awaitable[None]],
    ) -> None:
        self.tape = tape
        self.scan = opened.scan
        self.abandoned = ""  # by its last reader: finish or close
        self._passing = False
        self._cap = cap
        self._source = opened.source
        self._mode = mode
        self._asynchronous = mode.asynchronous
        self._guard = guard
        self._scribe = scribe
        self._landed = landed
        self._turn = threading.Lock()
        self._ended = False
        self._deadline = 0.0

    async def pull(self, _: float) -> bool:
        """In sync mode: read one part, here, unless another is at it. In async mode the pump runs by itself.

        How long that may take is upstream's client's to say, who has timeouts of its own.
        """
        if not self._turn.acquire(blocking=False):
            return False
        try:
            await self._step()
        finally:
            self._turn.release()
            self.tape.nudge()  # whoever found the turn taken may have it now, also if he who had it has left
        return True

    async def run(self) -> None:
        """To the end, without a reader's help; within the deadline that an abandoned stream has."""
        while not self.tape.over:
            if self._asynchronous:
                if not self.tape.count % LOOK:
                    await self._room()
                await self._step()
            else:
                # Readers that are still there read too: one of us at a time.
                with self._turn:
                    await self._step()
            if self._deadline and time.monotonic() > self._deadline:
                await self.end(Cut("abandoned by its readers, and not finished in time"))

    async def _room(self) -> None:
        """Wait while the only readers are slow ones."""
        tape = self.tape
        while tape.readers and tape.ahead() > AHEAD and not self.followed:
            tape.held = tape.held or self._mode.signal()
            await tape.held.wait(1.0)

    async def _step(self) -> None:
        if self.tape.over:
            return
        try:
            data = await self._source.next()
        except Exception as error:  # noqa: BLE001 - the upstream's, whatever it is: its readers get it
            await self.end(error)
            return
        except BaseException:
            # Nobody reads on. If all that matters was read, as when an SDK closes at the last event, it is whole.
            await self.end(None if self.scan.whole() else Cut("the call was given up"))
            raise
        if data is None:
            await self.end()
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
        self.tape.trim()

    @property
    def passing(self) -> bool:
        """Whether it goes on for the readers that are here alone: what it brings is not kept."""
        return self._passing

    @property
    def followed(self) -> bool:
        """Whether another process reads it too."""
        return self._scribe is not None and self._scribe.wanted

    def within(self, seconds: float) -> None:
        """Its readers left: it may go on for so long."""
        self._deadline = time.monotonic() + seconds

    def rejoined(self) -> None:
        """There is a reader again."""
        self._deadline = 0.0
        self.abandoned = ""

    async def finished(self, signal: Signal, until: float) -> bool:
        """Wait for its end, if it is nobody's here and goes on by itself; False if it was not over in time."""
        self.tape.tell(signal)
        try:
            while not (self.tape.over or self.tape.readers) and (left := until - time.monotonic()) > 0:
                await signal.wait(left)
        finally:
            self.tape.untell(signal)
        return self.tape.over

    async def end(self, error: BaseException | None = None) -> None:
        """Close upstream, tell who follows, and land; once."""
        if self._ended:
            return
        self._ended = True
        with contextlib.ExitStack() as last:
            # Kept before its readers see the end: a program that ends there must not lose what it paid for.
            last.callback(self.tape.end, error)
            try:
                await self._source.close()
            finally:
                if not self._passing:
                    await self._tell(error)
                    await self._landed(error, "")

    async def _tell(self, error: BaseException | None) -> None:
        if self._scribe is None:
            return
        ending = Ending(SHARED) if error is None else Ending(FAILED, type(error).__name__[:64])
        try:
            await self._guard(self._scribe.finish(self._guard.store, ending))
        except StoreTrouble:
            return  # counted; those who follow find a log without an end, and say so
