"""The Board: the flights of this process.

A Flight is on the Board before its claim is sent, under the id it will claim with. It leaves the Board when nothing of
it is left in the store. In between it has an owner: the lookup that claims, then whatever runs the call. An owner can
end between any two lines and give nothing back. So whatever meets a flight asks whether its owner lives: the lookup's
own end, the next lookup that is told to follow it, a caller that waits for it, and the background thread at each
heartbeat. Whichever finds the owner gone lands the flight without a result and gives its lease back. All of that may
be done twice.

A caller joins a flight only after the store told it to follow this very flight. Joining by key, from memory, would hand
an invalidated answer to a lookup that began after the invalidation. Only while the store has trouble are flights
joined by key: see unleased.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from functools import partial

from askonce.core.keys import Key
from askonce.core.lease import Grant
from askonce.flight.background import BackgroundThread
from askonce.flight.flight import Asker, Flight, NoResult
from askonce.flight.heartbeat import Heartbeat, LastWrite
from askonce.runtime.drive import drive
from askonce.runtime.mode import Owner
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.store import Store

# A key, what alone may join, and whether generations were read: later lookups join none of those that have not, which
# must not take the place of one that they do join.
_Place = tuple[Key, str, bool]


def _place(flight: Flight) -> _Place:
    """Where a flight without a lease is posted."""
    return flight.key, flight.unverified, flight.snapshot is not None


class Board:
    """The flights of this process, by the id they claim with; those without a lease, by key.

    `gone` is called with a flight whose owner is no longer alive. Only flights without a lease need a lock: every other
    change is one step of a dict.
    """

    def __init__(self, background: BackgroundThread, gone: Callable[[Flight], object]) -> None:
        self._background = background
        background.boards[id(self)] = self
        self._gone = gone
        self.closing: Callable[[], object] = lambda: None  # a weak reference: this board is a part of it
        self._claimed: dict[bytes, Flight] = {}
        self._leading: dict[Key, Flight] = {}  # the flight that was last granted the key's lease
        self._unleased: dict[_Place, Flight] = {}
        self._lock = OwnedLock()
        self._mark = os.urandom(8)  # the end of the id of each flight
        self._pid = os.getpid()
        self.next_number = itertools.count(1).__next__  # numbers lookups and flights as they begin

    def flight(self, key: Key, owner: Owner, asker: Asker | None = None) -> Flight:
        """A flight that will claim a lease; it is not on the board yet."""
        flight = self.unleased(key, owner, asker, os.urandom(8) + self._mark)
        flight.heartbeat = Heartbeat(key, flight.id, flight.attended, lambda: self.reap(flight))
        return flight

    def unleased(self, key: Key, owner: Owner, asker: Asker | None = None, flight: bytes = b"") -> Flight:
        """A flight that will claim nothing."""
        made = Flight(key, owner, flight, asker)
        made.number, made.closing = self.next_number(), self.closing()
        return made

    def post(self, flight: Flight) -> None:
        """Add a flight before it claims: others may be told to follow it before its leader has the reply."""
        self._claimed[flight.id] = flight
        if flight.heartbeat is not None:
            self._background.keep_alive(flight.heartbeat)

    def granted(self, flight: Flight, grant: Grant) -> None:
        """Note that the flight's claim was granted."""
        flight.granted(grant)
        self._leading[flight.key] = flight

    def end(self, flight: Flight, error: BaseException | None = None) -> None:
        """End a flight in any state: its callers get a result, and the store keeps nothing of it.

        What it has not sent is handed over, and ends it later.
        """
        if flight.last is not None and self._hand_over(flight, flight.last):
            return
        flight.land(error=error or NoResult())
        if not flight.returned and self._background.writes(flight.key):
            # A claim whose reply was lost may have been granted all the same; such a lease is never filled.
            self._background.release(flight.key, flight.id, failed=flight.is_refresh)
        flight.returned = True
        self._claimed.pop(flight.id, None)
        if self._leading.get(flight.key) is flight:
            self._leading.pop(flight.key, None)
        if self._unleased.get(_place(flight)) is flight:
            with contextlib.suppress(Busy):  # a landed flight is joined by no caller, and the next one replaces it
                self._lock.run(lambda: self._unpost(flight))
        flight.over = True
        if flight.heartbeat is not None:
            # Last: if this is interrupted, the background thread finds the flight at its next heartbeat.
            self._background.stop_renewing(flight.heartbeat)
            flight.heartbeat.end()
        flight.closing = None  # else a reference cycle
        if flight.asker is not None:
            flight.asker.over()

    def _hand_over(self, flight: Flight, last: LastWrite) -> bool:
        """Have the background thread send a flight's last write. False if it had its time for that."""
        if not last.until:
            last.until = time.monotonic() + self._background.heartbeat
            flight.land(last.result, last.error)
            self._background.send(partial(self._send, flight, last))
        return flight.handed_over

    def _send(self, flight: Flight, last: LastWrite, store: Store) -> None:
        try:
            reply = drive(last.ask(store))
            if flight.last is last:
                last.over(reply)
        finally:
            last.until = -1.0  # so that it can end
            self.end(flight)
            flight.last = None

    def _unpost(self, flight: Flight) -> None:
        # Only if this flight is there, not one that has replaced it.
        if self._unleased.get(_place(flight)) is flight:
            del self._unleased[_place(flight)]

    def reap(self, flight: Flight) -> None:
        """End a flight that nothing runs any more. If its stream goes on elsewhere, that ends it later."""
        if flight.pump is not None and (flight.pump.attended() or flight.pump.hand_on()):
            return
        if not (flight.returned or flight.last):
            self._gone(flight)
        self.end(flight)

    def named(self, flight: bytes, order: int) -> Flight | None:
        """The flight that the store named, if it is one of this process."""
        found = self._claimed.get(flight)
        return found if found is not None and (found.grant is None or found.grant.order == order) else None

    def made(self, flight: bytes) -> bool:
        """Whether this board made a flight's id. If it is not `named`, its lease was granted after its end, because the
        store executed its claim late or twice, and nothing runs it.
        """
        return flight.endswith(self._mark) and self._pid == os.getpid()

    def share_unleased(self, mine: Flight, may_join: Callable[[Flight], bool]) -> Flight:
        """The flight for a key without the store: one under way that may be joined, or else `mine`."""

        def shared() -> Flight:
            posted = [self._unleased.get((mine.key, mine.unverified, read)) for read in (True, False)]
            for flight in (*posted, self._leading.get(mine.key)):
                if flight is not None and flight.joinable and flight.alive() and may_join(flight):
                    return flight
            self._unleased[_place(mine)] = mine
            return mine

        try:
            return self._lock.run(shared)
        except Busy:  # a signal handler interrupted this very code, and asks the same
            return mine

    def bar(self) -> None:
        """An invalidation was acknowledged: lookups of this process must not join the flights under way from now on."""
        for board in [one() for one in self._background.boards.valuerefs()]:
            for flight in board.flights() if board is not None else ():
                flight.barred = True

    def flights(self) -> list[Flight]:
        """All flights under way."""
        for flight in list(self._unleased.values()):
            if not flight.alive():  # it has no heartbeat by which the background thread would notice
                self.end(flight)
        return self.posted()

    def posted(self) -> list[Flight]:
        """The same, and perhaps some that nothing runs any more: nothing is ended."""
        led = [flight for flight in list(self._claimed.values()) if flight.grant is not None]
        return [*led, *[flight for flight in list(self._unleased.values()) if not flight.over]]
