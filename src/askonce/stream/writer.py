"""The log of a flight, from which other processes read a stream while it is being written.

Nothing is written until another process says that it waits. From then on the background thread appends what is new as
soon as it comes (what comes while it appends goes with the next), so that neither the reader here nor its event loop
waits for the store. Whatever ends the flight appends the rest, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable

from askonce.core.tape import WANTED, Ending, end_frame
from askonce.flight.background import BackgroundThread
from askonce.flight.flight import Flight
from askonce.flight.waiters import Waiter
from askonce.store import Store
from askonce.stream.tape import Tape


class LogWriter:
    """Writes one flight's log. A Signal, rung by the background thread for notices and by the tape for parts."""

    def __init__(self, flight: Flight, tape: Tape, background: BackgroundThread) -> None:
        assert flight.grant is not None
        self.wanted = False
        self.on_want: Callable[[], object] | None = None
        self._flight = flight
        self._key = flight.key
        self._grant = flight.grant
        self._tape = tape
        self._background = background
        self._written = 0, 0  # parts of the tape that are in the log, and the bytes that they are there
        self._stopped = False
        self._waiter: Waiter | None = None
        # From here on the background thread may ring, before we have the waiter: once more then, when we have it.
        self._waiter = background.listen(flight.key, self, flight)
        self._waiter.leads = True
        self._waiter.follows = (self._grant.id, self._grant.order)
        self.ring()

    def ring(self) -> None:
        """A notice came, or a part."""
        waiter = self._waiter
        if waiter is None:
            return
        mine = (self._grant.id, self._grant.order)
        if waiter.again:
            # In force only now: a process that said before that it waits, was not heard. The lease knows.
            waiter.again = False
            self._background.renew_now(mine)
        while waiter.notices:
            notice = waiter.notices.popleft()
            if notice.kind == WANTED and (notice.flight, notice.order) == mine:
                self._want()
        if self.wanted and not self._stopped:
            self._background.flush(self)

    async def wait(self, timeout: float) -> bool:
        """A log writer is rung and never waits."""
        raise RuntimeError(f"nothing waits for a log writer, not for {timeout} s")

    def want(self) -> None:
        """A renewal said that somebody elsewhere waits: the notice itself was lost."""
        self._want()
        self.ring()

    def _want(self) -> None:
        # Not of a stream that nobody reads: who follows it is to be told by its lease, and not by half an answer.
        if not self.wanted and self._flight.alive():
            self.wanted = True
            self._tape.tell(self)
            if self.on_want is not None:
                self.on_want()

    async def flush(self, store: Store) -> None:
        """Append what is new; for the background thread, with a store of its own."""
        if not self._stopped:
            await self._append(store, b"")

    async def finish(self, store: Store, ending: Ending) -> None:
        """The rest, and how it ended; in the thread or task that ends the flight, and then never again."""
        self._stopped = True
        self._tape.untell(self)
        if self._waiter is not None:
            self._waiter.close()
        if self.wanted:
            await self._append(store, end_frame(ending))

    async def _append(self, store: Store, last: bytes) -> None:
        # Under no lock. What the background thread still appends while the flight ends is a part of what ends it, and
        # of two that append the same bytes at the same place, the store takes them once.
        parts, offset = self._written
        count = self._tape.count
        stop = None if last else count  # no more come, and a log without parts has to begin, too
        data = self._tape.log(parts, stop) + last
        if not data:
            return
        length = await store.append(self._key, self._grant.id, self._grant.order, offset, data)
        if length < offset:
            if self._stopped and not last:
                return  # who ends it writes all of it
            # The log was lost (evicted, or the server started empty). All of it, so that readers can fill their gap.
            data, offset = self._tape.log(0, stop) + last, 0
            await store.append(self._key, self._grant.id, self._grant.order, offset, data)
        self._written = count, offset + len(data)
