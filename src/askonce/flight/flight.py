"""Flights of this process: each one upstream call, from the claim that may grant its lease to its landing.

A Flight is on the Board before its claim is sent, by the id that it will claim with, and leaves the Board when it is
known that nothing of it is left in the store. In between it has an owner: the lookup that claims, then whatever runs
it. Whoever meets a flight asks whether its owner lives. An owner can end anywhere, between any two lines, and give
nothing back; then whoever finds that out (the lookup's own end, the next lookup that is told to follow it, a caller who
waits for it, the background thread at its next heartbeat) lands it without a result and gives its lease back. All of
that may be done twice.

A caller joins a flight only after the store told it to follow exactly this one. Joining by key alone, from memory,
would hand an invalidated answer to a lookup that began after the invalidation. Only where the store had trouble are
flights joined by key: see unleased.py.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import os
import time
from collections.abc import Callable
from typing import Protocol

from askonce.core.keys import Key
from askonce.core.lease import Grant
from askonce.core.model import Snapshot
from askonce.flight.background import BackgroundThread
from askonce.flight.heartbeat import Heartbeat
from askonce.runtime.mode import Owner, Signal
from askonce.runtime.ownership import Busy, OwnedLock

LOOK = 1.0  # s after which a caller who waits for a flight looks whether anything still runs it


leading: contextvars.ContextVar[tuple[Flight, ...]] = contextvars.ContextVar("leading", default=())  # around this code


class NoResult(Exception):
    """The flight ended without an answer or an error that others may share: look again.

    `why`: what ended it, for its leader, who must not call again for that.
    """

    def __init__(self, why: BaseException | None = None) -> None:
        super().__init__()
        self.why = why


class Unshared(Exception):
    """A call brought an answer that is for its caller alone, who has it. `detail` says why, as a status detail."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class WaitTimedOut(Exception):
    """A caller's own time was up before the flight it waited for had landed."""


class Streaming(Protocol):
    """An answer that arrives in parts, as its flight knows it."""

    @property
    def joinable(self) -> bool:
        """Whether a caller that comes now can have all of it: it goes on, and is kept from its beginning."""
        ...

    @property
    def abandoned(self) -> str:
        """What its last reader left it to when it went: ``finish``, ``close``, or "" while it is read."""
        ...

    def alive(self) -> bool:
        """Whether somebody reads it, or sees to its end."""
        ...

    def hand_on(self) -> bool:
        """Nobody sees to it any more: have its end seen to elsewhere; whether something will come of it."""
        ...

    async def end(self, error: BaseException | None = None) -> None:
        """Close it upstream, and land."""
        ...

    async def finished(self, signal: Signal, until: float) -> bool:
        """Wait for its end, if it is nobody's here and goes on by itself; False if it was not over in time."""
        ...


class Flight:
    """One upstream call, and those who wait for it. Its result is whatever its leader lands it with.

    `owner`: what claims it or runs it. `returned`: whether nothing of it is in the store any more.
    """

    def __init__(self, key: Key, owner: Owner, flight: bytes = b"") -> None:
        self.key = key
        self.id = flight
        self.owner = owner
        self.number = 0  # in the order of this process's lookups and flights
        self.grant: Grant | None = None
        self.snapshot: Snapshot | None = None  # of the generations, read before its call began
        self.barred = False  # an invalidation was acknowledged here since
        self.heartbeat: Heartbeat | None = None
        self.returned = not flight
        self.over = False  # ended, and known nowhere any more
        self.began = time.monotonic()
        self.callers = 0
        self.behind = False  # a refresh: no caller's
        self.dropped = False  # that was told
        self.cancel: Callable[[], object] | None = None
        self.pump: Streaming | None = None  # of an answer that arrives in parts: landed when the first may be read
        self._signals: dict[Signal, None] = {}
        self._landings: list[tuple[object, BaseException | None]] = []  # the first counts

    @property
    def done(self) -> bool:
        """Whether it has landed."""
        return bool(self._landings)

    @property
    def joinable(self) -> bool:
        """Whether who comes now can have what it brings: it has not landed, or its stream goes on."""
        return not self._landings or (self.pump is not None and self.pump.joinable)

    @property
    def unwaited(self) -> bool:
        """Whether it goes on though nobody waits for it."""
        return self.behind or (self.pump is not None and bool(self.pump.abandoned))

    def alive(self) -> bool:
        """Whether something runs it, or is about to, or reads its stream."""
        return self.owner.alive() or (self.pump is not None and self.pump.alive())

    def granted(self, grant: Grant) -> None:
        """The claim's reply: from here on its lease is renewed."""
        self.grant, self.snapshot = grant, grant.snapshot
        if self.heartbeat is not None:
            self.heartbeat.order = grant.order

    def land(self, result: object = None, error: BaseException | None = None) -> None:
        """End the flight, once: everybody who joined gets `result`, or `error` raised."""
        self._landings.append((result, error))
        for signal in list(self._signals):
            signal.ring()

    def ended(self, why: BaseException | None) -> None:
        """What ran it is over, perhaps before its first line: those that wait for it are told."""
        if not self.done:
            self.land(error=why if isinstance(why, Exception) else NoResult(why))
        if self.pump is not None and not self.pump.alive() and self.pump.hand_on():
            return
        if not self.returned and self.heartbeat is not None:
            self.heartbeat.gone()

    async def join(self, signal: Signal, timeout: float) -> object:
        """Wait for the landing, at most `timeout` s; Gone when it did not come, or brought nothing to share."""
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


class Board:
    """The flights of this process, by the ids they claim with; and by key, those run without the store.

    `gone` is called with a flight whose owner does not live any more. No lock but for those without the store: each
    change is one step of a dict.
    """

    def __init__(self, background: BackgroundThread, gone: Callable[[Flight], object]) -> None:
        self._background = background
        self._gone = gone
        self._claimed: dict[bytes, Flight] = {}
        self._leading: dict[Key, Flight] = {}  # the last one that was granted a lease
        self._alone: dict[Key, Flight] = {}
        self._lock = OwnedLock()
        self.tick = itertools.count(1).__next__  # numbers lookups and flights as they begin

    def flight(self, key: Key, owner: Owner) -> Flight:
        """A flight that will claim; nobody knows of it yet."""
        flight = self.lone(key, owner, os.urandom(16))
        flight.heartbeat = Heartbeat(key, flight.id, flight, lambda: self.reap(flight))
        return flight

    def lone(self, key: Key, owner: Owner, flight: bytes = b"") -> Flight:
        """A flight that will claim nothing."""
        made = Flight(key, owner, flight)
        made.number = self.tick()
        return made

    def post(self, flight: Flight) -> None:
        """It is about to claim: others may be told to follow it before its leader learns that it leads."""
        self._claimed[flight.id] = flight
        if flight.heartbeat is not None:
            self._background.keep_alive(flight.heartbeat)

    def granted(self, flight: Flight, grant: Grant) -> None:
        """Its claim was granted."""
        flight.granted(grant)
        self._leading[flight.key] = flight

    def end(self, flight: Flight, error: BaseException | None = None) -> None:
        """It is over, however that came: whoever joined it knows, and nothing of it stays in the store."""
        flight.land(error=error or NoResult())
        if not flight.returned and not self._background.breakers.write.open:
            # A claim whose reply was not heard may have been granted all the same; such a lease may never fill.
            self._background.release(flight.key, flight.id, failed=flight.behind)
        flight.returned = True
        self._claimed.pop(flight.id, None)
        if self._leading.get(flight.key) is flight:
            self._leading.pop(flight.key, None)
        if self._alone.get(flight.key) is flight:
            with contextlib.suppress(Busy):  # one that landed is joined by nobody, and replaced by the next
                self._lock.run(lambda: self._unpost(flight))
        flight.over = True
        if flight.heartbeat is not None:
            self._background.stop_renewing(
                flight.heartbeat
            )  # last: where this is cut off, the background thread finds it at its next heartbeat

    def _unpost(self, flight: Flight) -> None:
        # Itself, not whatever may have taken its place.
        if self._alone.get(flight.key) is flight:
            del self._alone[flight.key]

    def reap(self, flight: Flight) -> None:
        """Nothing runs it any more. A stream's end is somebody else's then, and only after that is it over."""
        if flight.pump is not None and flight.pump.hand_on():
            return
        if not flight.returned:
            self._gone(flight)
        self.end(flight)

    def named(self, flight: bytes, order: int) -> Flight | None:
        """The flight that the store named, if it is one of ours."""
        found = self._claimed.get(flight)
        return found if found is not None and (found.grant is None or found.grant.order == order) else None

    def alone(self, mine: Flight, may_join: Callable[[Flight], bool]) -> Flight:
        """The flight for a key without the store: another that is under way and may be joined, or `mine`."""

        def posted() -> Flight:
            for flight in (self._alone.get(mine.key), self._leading.get(mine.key)):
                if flight is not None and flight.joinable and flight.alive() and may_join(flight):
                    return flight
            self._alone[mine.key] = mine
            return mine

        try:
            return self._lock.run(posted)
        except Busy:  # a signal came in the middle of this, and asks the same
            return mine

    def bar(self) -> None:
        """An invalidation was acknowledged: what is under way is for nobody who asks from now on."""
        for flight in self.flights():
            flight.barred = True

    def flights(self) -> list[Flight]:
        """All that are under way."""
        led = [flight for flight in list(self._claimed.values()) if flight.grant is not None]
        alone = list(self._alone.values())
        for flight in alone:
            if not flight.alive():  # it has no beat, by which the background thread would find that out
                self.end(flight)
        return [*led, *[flight for flight in alone if not flight.over]]
