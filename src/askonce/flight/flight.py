"""Flights of this process: each is one upstream call, from the claim that may grant its lease to its landing.

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
from typing import Any, Protocol

from askonce.core.keys import Key
from askonce.core.lease import Grant
from askonce.core.model import Snapshot
from askonce.flight.background import BackgroundThread
from askonce.flight.heartbeat import Heartbeat, LastWrite
from askonce.runtime.drive import drive
from askonce.runtime.mode import Cancel, Owner, Signal
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.store import Store

LOOK = 1.0  # s after which a waiting caller checks whether anything still runs the flight


class NoResult(Exception):
    """The flight ended without a result that other callers may share: claim again.

    `why`: what ended it. Its leader raises that, and must not call again.
    """

    def __init__(self, why: BaseException | None = None) -> None:
        super().__init__()
        self.why = why


class Unshared(Exception):
    """An answer that only the call's own caller may have, and has. `detail`: why, as a status detail."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class WaitTimedOut(Exception):
    """The caller's own time was up before the flight landed."""


class Streaming(Protocol):
    """An answer that arrives in parts, as a flight sees it."""

    @property
    def joinable(self) -> bool:
        """Whether a new caller can have all of it: it goes on, and its beginning is kept."""
        ...

    @property
    def readers(self) -> int:
        """How many callers read it now."""
        ...

    @property
    def abandoned(self) -> str:
        """What happens after the last reader left: ``finish``, ``close``, or "" while it has readers."""
        ...

    def alive(self) -> bool:
        """Whether a reader reads it, or something brings it to its end."""
        ...

    def attended(self) -> bool:
        """Whether it lives, or some code is ending it."""
        ...

    def ends(self) -> bool:
        """Whether some code closes and stores it."""
        ...

    def hand_on(self) -> bool:
        """Hand an orphaned stream over to something that brings it to its end. False if nothing will come of it."""
        ...

    async def end(self, error: BaseException | None = None) -> None:
        """Close the upstream stream, and land."""
        ...

    async def finished(self, signal: Signal, until: float) -> bool:
        """Wait for the end of a stream that no reader here drives; False if it does not end in time."""
        ...


class Asker(Protocol):
    """Who asked what a flight's call answers, if the call needs something of theirs: a client's connections."""

    def over(self) -> None:
        """Its flight is over, and needs nothing any more. Called from any thread, and perhaps twice."""
        ...


class Flight:
    """One upstream call, and the callers that wait for it. Its result is what its leader lands it with.

    `owner`: what claims or runs it. `returned`: whether the store holds nothing of it any more.
    """

    def __init__(self, key: Key, owner: Owner, flight: bytes = b"", asker: Asker | None = None) -> None:
        self.key = key
        self.id = flight
        self.owner = owner
        self.asker = asker
        self.closing: object = None  # what ends it when Python ends: it outlives its cache
        self.unverified = ""  # the credential of its call, if upstream has not accepted that yet
        self.number = 0  # its place in the order of this process's lookups and flights
        self.grant: Grant | None = None
        self.snapshot: Snapshot | None = None  # the generations read before its call began
        self.barred = False  # an invalidation was acknowledged here since it began
        self.heartbeat: Heartbeat | None = None
        self.returned = not flight
        self.over = False  # ended, and removed from everywhere
        self.model = self.scope = ""  # of its question, for people
        self.began = time.monotonic()
        self.callers = 0
        self.is_refresh = False  # a refresh: no caller waits for it
        self.dropped = False  # its "dropped" event was emitted
        self.takeover = False  # its caller had followed a flight that went silent
        self.paid: Any = None  # what its call cost, once it is booked (engine.accounting)
        self.joined: list[Any] = []  # questions that got its stream, until its cost is known
        self.cancel: Cancel | None = None
        self.left_off: dict[object, None] = {}  # marks of who ends it for want of callers, or looks whether to
        self.answered = False  # its call brought a whole answer
        self.last: LastWrite | None = None  # from before it is sent until its reply came
        self.pump: Streaming | None = None  # a streamed answer; the flight lands when its first part may be read
        self._signals: dict[Signal, None] = {}
        self._landings: list[tuple[object, BaseException | None]] = []  # the first one counts

    @property
    def done(self) -> bool:
        """Whether it has landed."""
        return bool(self._landings)

    @property
    def joinable(self) -> bool:
        """Whether a new caller can have its result: it has not landed, or its stream goes on."""
        return not self._landings or (self.pump is not None and self.pump.joinable)

    @property
    def followers(self) -> int:
        """The callers of this process that wait for it or read its stream, besides the one that it began for."""
        return max(0, self.callers + (self.pump.readers if self.pump is not None else 0) - 1)

    @property
    def wanted_elsewhere(self) -> bool:
        """Whether a caller of another process waits for it, as far as the store has told with a renewal."""
        return self.heartbeat is not None and self.heartbeat.wanted

    @property
    def unwaited(self) -> bool:
        """Whether it goes on although no caller waits for it."""
        return self.is_refresh or (self.pump is not None and bool(self.pump.abandoned))

    def ends(self) -> bool:
        """Whether what its call brought is being stored."""
        return self.last is not None or (self.answered if self.pump is None else self.pump.ends())

    def leave_off(self) -> None:
        """Cancel its call, which nobody waits for; not what stores an answer that came: that is paid for."""
        if self.cancel is not None:
            if not self.done:  # it may land in the moment before it is cancelled
                self.call_off()
            self.cancel(self.ends)

    def call_off(self, off: bool = True) -> None:
        """Say that its call is being cancelled, or (`off` False) that it is not after all."""
        if off:
            self.left_off["cancelled"] = None
        else:
            self.left_off.pop("cancelled", None)

    def alive(self) -> bool:
        """Whether something runs it, is about to run it, or reads its stream."""
        return self.owner.alive() or (self.pump is not None and self.pump.alive())

    def attended(self) -> bool:
        """Whether some code has its lease: it lives, or is being ended."""
        return self.owner.alive() or (self.pump is not None and self.pump.attended())

    @property
    def handed_over(self) -> bool:
        """Whether the background thread sends its last write."""
        last = self.last
        return last is not None and time.monotonic() < last.until

    def granted(self, grant: Grant) -> None:
        """The claim's reply came: its lease is renewed from here on."""
        self.grant, self.snapshot = grant, grant.snapshot
        if self.heartbeat is not None:
            self.heartbeat.order = grant.order

    def land(self, result: object = None, error: BaseException | None = None) -> None:
        """End the flight, once. Every caller that joined gets `result`, or `error` raised."""
        self._landings.append((result, error))
        for signal in list(self._signals):
            signal.wake()

    def ended(self, why: BaseException | None) -> None:
        """What ran the flight is over, perhaps before its first line: land it if it has not landed."""
        if not self.done:
            self.land(error=why if isinstance(why, Exception) else NoResult(why))
        if self.pump is not None and not self.pump.alive() and self.pump.hand_on():
            return
        if not self.returned and self.heartbeat is not None:
            self.heartbeat.gone()

    async def join(self, signal: Signal, timeout: float) -> object:
        """Wait at most `timeout` s for the landing. NoResult if it does not come or may not be shared."""
        self._signals[signal] = None
        until = time.monotonic() + timeout
        try:
            while not self._landings:
                left = until - time.monotonic()
                if left <= 0:
                    raise NoResult
                if not await signal.wait(min(left, LOOK)) and not (self.alive() or self._landings):
                    raise NoResult
        finally:
            self._signals.pop(signal, None)
        result, error = self._landings[0]
        if error is not None:
            raise error
        return result


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
