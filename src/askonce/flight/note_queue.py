"""The notes that this process has to write (core.notes), and the background thread that writes them in batches.

A note is made when it is written: the digests of a request cost more than a miss may. So the queue holds what makes it.
It is bounded, and full or in trouble it drops notes and counts them: a note explains a lookup, and no answer depends on
it. What repeats within a minute (a question whose answers are never stored) is noted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from itertools import islice

from askonce.core.notes import LARGEST, Note
from askonce.events import log
from askonce.flight.schedule import Schedule
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PUSH = 1.0  # s that notes are gathered before they are written
BATCH = 64  # notes that are written at a time
MOST = 256  # notes that wait
MOST_BYTES = 8 * 2**20  # bytes of requests that wait to be digested
REPEATED = 60.0  # s in which the same is noted once
FINISH = 0.25  # s that the end of the interpreter waits for notes
LOOK = 0.005  # s between two looks
KNOWN = 2048  # of those that are remembered for that

Make = Callable[[int], Note]  # from the ms that passed since what it notes


class NoteQueue:
    """The notes to write. `add` may come from any thread and takes no lock."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._waiting: dict[Hashable, tuple[float, int, Make]] = {}
        self._schedule = Schedule(start)
        self._size = 0
        self._known: dict[Hashable, float] = {}
        self.dropped = 0
        self.busy = False  # the background thread writes

    def add(self, what: Hashable, size: int, make: Make, *, once: bool = False) -> bool:
        """Note something within a second; of equal ones the last. False if it is not noted.

        `size`: bytes that are held until then; `once`: at most once a minute.
        """
        now = time.monotonic()
        if once and now < self._known.get(what, 0.0):
            return False
        if len(self._waiting) >= MOST or self._size + size > MOST_BYTES:
            self.dropped += 1
            return False
        if once:
            self._remember(what, now + REPEATED)
        first = not self._waiting
        self._size += size
        self._waiting[what] = (now, size, make)
        if first:
            self._schedule.begin(PUSH)
        return True

    def _remember(self, what: Hashable, until: float) -> None:
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[what] = until

    def due(self) -> float:
        """Seconds until there is something to write; inf if there is nothing."""
        return self._schedule.due(gathered=bool(self._waiting))

    def take(self, count: int = MOST) -> list[Note]:
        """Make the oldest notes, and take them out of the queue."""
        made: list[Note] = []
        now = (
            time.monotonic()
        )  # one for all: they get one time in the store, and making one takes longer than calls may
        for what in list(islice(list(self._waiting), count)):
            found = self._waiting.pop(what, None)
            if found is not None and (note := self._made(now, *found)) is not None:
                made.append(note)
        # Counted anew, because `add` counts without a lock.
        self._size = sum(size for _, size, _ in list(self._waiting.values()))
        return made

    def _made(self, now: float, since: float, _: int, make: Make) -> Note | None:
        try:
            note = make(max(0, int((now - since) * 1000)))
        except Exception as error:  # noqa: BLE001 - a function of the user's may be in it, and no answer depends on it
            log.debug("a note could not be made: %r", error)
            self.dropped += 1
            return None
        return note if len(note.data) <= LARGEST else None

    def send(self, store: Store) -> None:
        """Write one batch, oldest first, in the background thread. After trouble, drop all."""
        self.busy = True
        try:
            notes = self.take(BATCH)
            try:
                drive(store.note(notes))
            except StoreTrouble as trouble:
                log.debug("notes could not be written: %s", trouble)
                self.dropped += len(notes)
                self.forget()
        finally:
            self.busy = False

    def end(self, store: Store) -> None:
        """Write all that waits: the background thread ends."""
        while self._waiting:
            self.send(store)

    def finish(self, until: float) -> None:
        """The interpreter ends: have the background thread write what waits, until then (monotonic s) at the latest."""
        until = min(until, time.monotonic() + FINISH)
        if self._waiting:
            self._schedule.hurry()
        while (self._waiting or self.busy) and time.monotonic() < until:
            time.sleep(LOOK)

    def forget(self) -> None:
        """Drop what waits: the store takes no writes."""
        self.dropped += len(self._waiting)
        self._waiting.clear()
        self._size = 0
