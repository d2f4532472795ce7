"""The end of an engine: its flights are waited for, and what does not end in time is given up, and told.

A cache that is closed waits for all of them. Where the interpreter ends instead, those are waited for that nobody else
waits for: refreshes, and streams whose readers left. A short script that does not close its cache would otherwise pay
for a refresh at each run, and end before it is stored.
"""

from __future__ import annotations

import time

from askonce.engine.claims import Claims
from askonce.engine.leader import Leader
from askonce.flight.flight import Flight, NoResult
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode, Signal

SETTLE = 1.0  # s that flights which were cancelled have for giving their leases back
LOOK = 0.005  # s between two looks at what is waited for when the interpreter ends


class Closing:
    """Ends what one engine has under way."""

    def __init__(self, guarded: GuardedStore, claims: Claims, pilot: Leader, mode: Mode) -> None:
        self._guarded = guarded
        self._claims = claims
        self._board = claims.board
        self._leader = pilot
        self._mode = mode

    async def wait(self, limit: float) -> list[str]:
        """Wait for what is in flight, at most `limit` s; the keys of what is not over then."""
        until = time.monotonic() + limit
        return [flight.key.text for flight in self._board.flights() if not await self._ended(flight, until)]

    async def _ended(self, flight: Flight, until: float) -> bool:
        signal: Signal = self._mode.signal()
        try:
            await flight.join(signal, max(0.0, until - time.monotonic()))
        except NoResult:
            return flight.done
        except Exception:  # noqa: BLE001 - the flight's own error was raised to its callers
            return True
        return flight.pump is None or await flight.pump.finished(signal, until)

    async def let_go(self) -> None:
        """Give up what is left, of a closed engine."""
        self._guarded.close()
        for flight in self._board.flights():
            self._guarded.events.emit("dropped", flight.key.text, "closed")
            flight.dropped = True
            if flight.cancel is not None:
                flight.cancel()
            elif not flight.done:
                await self._leader.abandon(flight)
        for waiter in list(self._claims.waiters):
            waiter.ring(None)
        await self._mode.settle(SETTLE)
        self._guarded.leave()

    def last(self, until: float) -> None:
        """The interpreter ends: wait for what nobody waits for, until then (monotonic s), and give up the rest."""
        while any(flight.alive() for flight in self._unwaited()) and time.monotonic() < until:
            time.sleep(LOOK)
        if left := self._unwaited():
            drive(self._leader.give_up(left))

    def _unwaited(self) -> list[Flight]:
        return [flight for flight in self._board.flights() if flight.unwaited and not flight.over]
