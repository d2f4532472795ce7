"""The end of an engine: it waits for its flights, gives up those that do not end in time, and reports them.

Closing a cache waits for all of its flights. The end of the interpreter waits only for flights without a caller:
refreshes, and streams whose readers left. Otherwise a short script that does not close its cache would pay for a
refresh in every run, and end before the refresh is stored.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from typing import ClassVar

from askonce.core.tape import FAILED, Ending
from askonce.engine.claims import Claims
from askonce.engine.leader import Leader
from askonce.flight.flight import Flight, NoResult
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode, Signal
from askonce.runtime.threads import ThreadSignal
from askonce.store import StoreTrouble
from askonce.stream.pump import Pump

SETTLE = 1.0  # s for cancelled flights to give their leases back, and again for answers that are being stored
LOOK = 0.005  # s between two checks of the remaining flights


class Closing:
    """Ends the flights of one engine. A flight under way keeps it: its cache may be a variable of what is over."""

    known: ClassVar[weakref.WeakSet[Closing]] = weakref.WeakSet()

    def __init__(self, guarded: GuardedStore, claims: Claims, leader: Leader, mode: Mode) -> None:
        self._guarded = guarded
        self._claims = claims
        self._board = claims.board
        self._leader = leader
        self._mode = mode
        self._pid = os.getpid()
        self._over = False
        self.given_up = False  # its cache was closed: nothing more is waited for
        self._board.closing = weakref.ref(self)
        self.known.add(self)

    async def wait(self, limit: float) -> list[str]:
        """Wait for the flights under way, at most `limit` s. Return the keys of those without an answer."""
        self._store_whole()
        until = time.monotonic() + limit
        left = [flight for flight in self._board.flights() if not await self._ended(flight, until)]
        return [flight.key.text for flight in left if not flight.ends()]

    async def _ended(self, flight: Flight, until: float) -> bool:
        signal: Signal = self._mode.signal()
        try:
            await flight.join(signal, max(0.0, until - time.monotonic()))
        except NoResult:
            return flight.done
        except Exception:  # noqa: BLE001 - the flight's callers have been given this error
            return True
        return flight.pump is None or await flight.pump.finished(signal, until)

    async def let_go(self) -> None:
        """Give up the remaining flights of a closed engine."""
        self.given_up = True
        self._guarded.close()
        for flight in self._board.flights():
            ends = flight.ends()
            if flight.last is not None:
                self._board.end(flight)  # the background thread stores its answer, whatever becomes of its own code
            elif not ends:
                self._guarded.events.emit("dropped", flight.key.text, "closed")
                flight.dropped = True
            if flight.cancel is not None:
                flight.call_off()
                flight.cancel()
            elif not (flight.done or ends):
                await self._leader.abandon(flight)
        for waiter in list(self._claims.waiters):
            waiter.wake(None)
        await self._mode.settle(SETTLE)
        signal, until = self._mode.signal(), time.monotonic() + SETTLE
        while any(flight.handed_over for flight in self._board.flights()) and time.monotonic() < until:
            await signal.wait(LOOK)
        self._guarded.leave()

    def last(self, until: float) -> None:
        """The interpreter ends: wait for flights without a caller, and for answers that are being stored, until then
        (monotonic s); give up the rest. Calls that end with their threads are left to other processes.
        """
        if self._over or self._pid != os.getpid():  # a child has the flights of its parent, and does not run them
            return
        self._store_whole()
        while any(flight.attended() for flight in self._unwaited()) and time.monotonic() < until:
            time.sleep(LOOK)
        if left := self._unwaited():
            drive(self._leader.give_up(left))
        drive(self._leave_to_others())
        drive(self._leader.accounting.push(ThreadSignal(), until))
        if not self._guarded.background.breakers.shut:
            self._guarded.background.notes.finish(until)
        self._over = True

    async def _leave_to_others(self) -> None:
        """Give back the leases of calls and streams that end with this process: of daemon threads, and of streams that
        nobody will read on. They do not end here: a thread that follows one would make a call at the last moment.
        """
        writes = self._guarded.background.writes
        held = [(flight.key, flight.grant) for flight in self._board.posted() if not (flight.over or flight.returned)]
        left = [(key, grant) for key, grant in held if grant is not None and writes(key)]
        if not left:
            return
        store, ending = self._guarded.store.blocking(), Ending(FAILED, "exit")
        with contextlib.suppress(StoreTrouble):  # it would meet the others too, and Python ends
            for key, grant in left:
                await store.release(key, grant.id, grant.order, self._guarded.codec.close_ending(key, grant.id, ending))
        await store.close()

    def _store_whole(self) -> None:
        """Have the streams stored that are whole and still open: nobody may read on, or close them in time."""
        for flight in self._board.flights():
            if isinstance(flight.pump, Pump) and flight.pump.scan.whole():
                flight.pump.hand_over()

    def _unwaited(self) -> list[Flight]:
        flights = [flight for flight in self._board.flights() if not flight.over]
        return [flight for flight in flights if flight.unwaited or flight.ends() or self._being_left(flight)]

    def _being_left(self, flight: Flight) -> bool:
        """Whether its stream was dropped a moment ago, so that the background thread has yet to see to it."""
        return not self._mode.asynchronous and isinstance(flight.pump, Pump) and flight.pump.tape.being_left()
