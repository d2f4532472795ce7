"""The log of a flight, from which other processes read a stream while it is being written.

Nothing is written until another process says that it waits. From then on the background thread appends new parts as
soon as they come; parts that come during an append go with the next one. So neither the reader here nor its event loop
waits for the store. Whatever ends the flight appends the rest, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable

from askonce.core.codec import PLAIN, Codec
from askonce.core.tape import WANTED, Ending, end_frame
from askonce.flight.background import BackgroundThread
from askonce.flight.flight import Flight
from askonce.flight.waiters import Waiter
from askonce.store import Store
from askonce.stream.tape import Tape


class LogWriter:
    """Writes one flight's log. A Signal that the background thread wakes for notices, and the tape for parts."""

    def __init__(self, flight: Flight, tape: Tape, background: BackgroundThread, codec: Codec = PLAIN) -> None:
        assert flight.grant is not None
        self.wanted = False
        self.on_want: Callable[[], object] | None = None
        self._flight = flight
        self.key = flight.key
        self._grant = flight.grant
        self._tape = tape
        self._background = background
        self._codec = codec
        # Parts of the tape that are in the log, their bytes there, and their bytes as the tape has them.
        self._written = 0, 0, 0
        self._stopped = False
        self._waiter: Waiter | None = None
        # The background thread may call wake() from here on, before the waiter is stored: so call it once more then.
        self._waiter = background.listen(flight.key, self, flight)
        self._waiter.leads = True
        self._waiter.follows = (self._grant.id, self._grant.order)
        self.wake()

    def wake(self) -> None:
        """Act on a notice or on a new part."""
        waiter = self._waiter
        if waiter is None:
            return
        mine = (self._grant.id, self._grant.order)
        if waiter.again:
            # Subscribed only now: an earlier notice that a process waits was missed. A renewal of the lease tells.
            waiter.again = False
            self._background.renew_now(mine)
        while waiter.notices:
            notice = waiter.notices.popleft()
            if notice.kind == WANTED and (notice.flight, notice.order) == mine:
                self._want()
                if not self.wanted:  # it is being closed; if it goes on after all, a renewal tells once more
                    self._background.renew_now(mine)
        if self.wanted and not self._stopped and self._behind():
            self._background.flush(self)

    def _behind(self) -> bool:
        """Whether the tape has more than the log. Not after a notice of our own append, which comes back to us."""
        parts, offset, _ = self._written
        return not offset or self._tape.count > parts

    async def wait(self, timeout: float) -> bool:
        """A log writer never waits."""
        raise RuntimeError(f"nothing waits for a log writer, not for {timeout} s")

    def want(self) -> None:
        """A renewal says that another process waits: its notice was lost."""
        self._want()
        self.wake()

    def _want(self) -> None:
        # Not a stream without readers: its followers learn of its end by the lease, not by half an answer.
        if not self.wanted and self._flight.alive():
            self.wanted = True  # first: what closes a stream says so, and then looks whether it is wanted
            if self._flight.left_off:
                self.wanted = False
                return
            self._tape.add_signal(self)
            if self.on_want is not None:
                self.on_want()

    async def flush(self, store: Store) -> None:
        """Append what is new. The background thread calls this, with its own store."""
        if not self._stopped:
            await self._append(store, b"")

    async def finish(self, store: Store, ending: Ending) -> None:
        """Append the rest and the ending. Called by what ends the flight, as the log's last append."""
        self._stopped = True
        self._tape.remove_signal(self)
        if self._waiter is not None:
            self._waiter.close()
            self._waiter = None
        if self.wanted:
            await self._append(store, end_frame(ending))

    async def _append(self, store: Store, last: bytes) -> None:
        # Without a lock: an append that the background thread still makes while the flight ends is part of that end,
        # and the store takes the same bytes at the same place only once.
        parts, offset, plain = self._written
        count = self._tape.count
        stop = None if last else count  # no more parts come; a log without parts must begin, too
        said = self._tape.log(parts, stop) + last
        if not said:
            return
        data = self._closed(said, plain)
        length = await store.append(self.key, self._grant.id, self._grant.order, offset, data)
        if length < offset:
            if self._stopped and not last:
                return  # whatever ends the flight writes all of it
            # The log was lost (evicted, or the server started empty): write it all, so that readers can fill their gap.
            said, offset, plain = self._tape.log(0, stop) + last, 0, 0
            data = self._closed(said, 0)
            await store.append(self.key, self._grant.id, self._grant.order, offset, data)
        self._written = count, offset + len(data), plain + len(said)

    def _closed(self, data: bytes, offset: int) -> bytes:
        return self._codec.close_log(self.key, self._grant.id, data, offset) if self._codec.writes else data
