"""The Scribe writes a flight's log, from which other processes read a stream while it is being written.

Nothing is written until somebody elsewhere says that he waits. From then on the fleet thread appends what is new as
soon as it comes (what comes while it appends goes with the next), so that neither the reader here nor his event loop
waits for the store. Whoever ends the flight appends the rest, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable

from askonce.core.tape import WANTED, Ending, end_frame
from askonce.flight.background import Fleet
from askonce.flight.flight import Flight
from askonce.flight.waiters import Ear
from askonce.store import Store
from askonce.stream.tape import Tape


class Scribe:
    """Writes one flight's log. A Signal, rung by the fleet thread for words and by the tape for parts."""

    def __init__(self, flight: Flight, tape: Tape, fleet: Fleet) -> None:
        assert flight.grant is not None
        self.wanted = False
        self.on_want: Callable[[], object] | None = None
        self._flight = flight
        self._key = flight.key
        self._grant = flight.grant
        self._tape = tape
        self._fleet = fleet
        self._written = 0, 0  # parts of the tape that are in the log, and the bytes that they are there
        self._stopped = False
        self._ear: Ear | None = None
        # From here on the fleet thread may ring, before we have the ear: once more then, when we have it.
        self._ear = fleet.listen(flight.key, self, flight)
        self._ear.leads = True
        self._ear.follows = (self._grant.id, self._grant.order)
        self.ring()

    def ring(self) -> None:
        """A word came, or a part."""
        ear = self._ear
        if ear is None:
            return
        mine = (self._grant.id, self._grant.order)
        if ear.again:
            # In force only now: who said before that he waits, was not heard. The lease knows.
            ear.again = False
            self._fleet.hurry(mine)
        while ear.words:
            word = ear.words.popleft()
            if word.kind == WANTED and (word.flight, word.order) == mine:
                self._want()
        if self.wanted and not self._stopped:
            self._fleet.scribble(self)

    async def wait(self, timeout: float) -> bool:
        """A scribe is rung and never waits."""
        raise RuntimeError(f"nobody waits for a scribe, not for {timeout} s")

    def want(self) -> None:
        """A renewal said that somebody elsewhere waits: the word itself was lost."""
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
        """Append what is new; for the fleet thread, with a store of its own."""
        if not self._stopped:
            await self._append(store, b"")

    async def finish(self, store: Store, ending: Ending) -> None:
        """The rest, and how it ended; in the thread or task that ends the flight, and then never again."""
        self._stopped = True
        self._tape.untell(self)
        if self._ear is not None:
            self._ear.close()
        if self.wanted:
            await self._append(store, end_frame(ending))

    async def _append(self, store: Store, last: bytes) -> None:
        # Under no lock. What the fleet thread still appends while the flight ends is a part of what ends it, and of two
        # that append the same bytes at the same place, the store takes them once.
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
