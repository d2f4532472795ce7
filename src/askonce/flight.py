"""Flights of this process, and how to run and to wait in threads.

A Flight is one upstream call. It is found on the Board by (id, order), the name the store gave it: a caller joins only
after the store told him to follow exactly this flight. Joining by key alone, from memory, would hand an invalidated
answer to a lookup that began after the invalidation. Only while the store is down are flights joined by key.

`Threads` and `tasks.Tasks` are twins, and the only places in the engine that know which of the two is running.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from askonce.core.keys import Key
from askonce.core.lease import Grant
from askonce.drive import drive
from askonce.ear import Signal

if TYPE_CHECKING:
    from askonce.pump import Pump

# Refreshes under way at once; one more is given up, for its stale answer was served already. Not a handful: what was
# filled together ends together, and 200 keys whose lives end within 4 s have 50 calls of 1 s under way at once.
BACKGROUND = 128


flying: contextvars.ContextVar[tuple[Flight, ...]] = contextvars.ContextVar("flying", default=())  # around this code


class Gone(Exception):
    """The flight ended without an answer or an error that others may share: look again.

    `why`: what ended it, for its leader, who must not call again for that.
    """

    def __init__(self, why: BaseException | None = None) -> None:
        super().__init__()
        self.why = why


class Impatient(Exception):
    """A caller's own time was up before the flight he waited for had landed."""


class Flight:
    """One upstream call, and those who wait for it. `result` is whatever its leader lands it with."""

    def __init__(self, key: Key, grant: Grant | None) -> None:
        self.key = key
        self.grant = grant
        self.began = time.monotonic()
        self.lost = False
        self.callers = 0
        self.behind = False  # a refresh: no caller's
        self.cancel: Callable[[], object] | None = None
        self.pump: Pump | None = None  # of an answer that arrives in parts: landed when the first may be read
        self._signals: list[Signal] = []
        self._lock = threading.Lock()
        self._done = False
        self._result: object = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has landed."""
        return self._done

    @property
    def joinable(self) -> bool:
        """Whether who comes now can have what it brings: it has not landed, or its stream goes on."""
        return not self._done or (self.pump is not None and not self.pump.tape.over and not self.pump.tape.trimmed)

    def land(self, result: object = None, error: BaseException | None = None) -> None:
        """End the flight, once: everybody who joined gets `result`, or `error` raised."""
        with self._lock:
            if self._done:
                return
            self._result, self._error, self._done = result, error, True
            signals, self._signals = self._signals, []
        for signal in signals:
            signal.ring()

    async def join(self, signal: Signal, timeout: float) -> object:
        """Wait for the landing, at most `timeout` s; Gone when it did not come, or brought nothing to share."""
        with self._lock:
            if not self._done:
                self._signals.append(signal)
        until = time.monotonic() + timeout
        try:
            while not self._done:
                left = until - time.monotonic()
                if left <= 0:
                    raise Gone
                await signal.wait(left)
        finally:
            with self._lock:
                if signal in self._signals:
                    self._signals.remove(signal)
        if self._error is not None:
            raise self._error
        return self._result


class Board:
    """The flights of this process, by the store's name for them; and by key, those flown without the store."""

    def __init__(self) -> None:
        self._expected: dict[bytes, Flight] = {}
        self._leased: dict[tuple[bytes, int], Flight] = {}
        self._alone: dict[Key, Flight] = {}
        self._lock = threading.Lock()

    def expect(self, key: Key, flight: bytes) -> None:
        """A claim is sent: others may be told to follow this flight before its leader learns that he leads."""
        with self._lock:
            self._expected[flight] = Flight(key, None)

    def give_up(self, flight: bytes) -> None:
        """It was not granted, or will not be flown: whoever joined it looks again."""
        with self._lock:
            expected = self._expected.pop(flight, None)
        if expected is not None:
            expected.land(error=Gone())

    def open(self, key: Key, grant: Grant) -> Flight:
        """A flight under a lease."""
        with self._lock:
            flight = self._expected.pop(grant.id, None) or Flight(key, None)
            flight.grant = grant
            self._leased[grant.id, grant.order] = flight
        return flight

    def named(self, flight: bytes, order: int) -> Flight | None:
        """The flight that the store named, if it is one of ours."""
        with self._lock:
            return self._leased.get((flight, order)) or self._expected.get(flight)

    def alone(self, key: Key, *, joining: bool) -> tuple[Flight, bool]:
        """The flight for a key without the store, and whether it is the caller's to fly. `joining`: it is down."""
        with self._lock:
            flight = self._alone.get(key)
            if joining and flight is not None and flight.joinable:
                return flight, False
            flight = self._alone[key] = Flight(key, None)
            return flight, True

    def close(self, flight: Flight) -> None:
        """Take down a flight that landed: itself, not whatever may have taken its place."""
        with self._lock:
            if flight.grant is not None:
                self._leased.pop((flight.grant.id, flight.grant.order), None)
            elif self._alone.get(flight.key) is flight:
                del self._alone[flight.key]

    def flights(self) -> list[Flight]:
        """All that are under way."""
        with self._lock:
            return [*self._leased.values(), *self._alone.values()]


class Mode(Protocol):
    """How an engine runs and waits."""

    asynchronous: bool

    def signal(self) -> Signal:
        """Something to be woken by, for the caller of this moment."""
        ...

    async def start(self, flight: Flight, work: Coroutine[Any, Any, None], /) -> None:
        """Run a flight that a caller waits for: sync in his own thread to its end, async in a task of its own."""
        ...

    def behind(self, flight: Flight, work: Coroutine[Any, Any, None], /) -> bool:
        """Run a flight that nobody waits for; False (and nothing is run) when too many are under way."""
        ...

    def help(self, flight: Flight, pump: Pump, /) -> None:
        """See to it that a stream goes on however slowly it is read here: others read it too. From any thread."""
        ...

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something in a while, if this is possible here."""
        ...

    async def settle(self, seconds: float) -> None:
        """Wait for flights that were cancelled, at most `seconds`."""
        ...


class ThreadSignal:
    """Wakes a thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake it; a ring before the wait is not lost."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Block this thread for at most `timeout` s; whether it was rung."""
        rung = self._event.wait(timeout)
        self._event.clear()
        return rung


class Threads:
    """Sync: a call runs in its caller's own thread, a refresh in a daemon thread."""

    asynchronous = False

    def __init__(self) -> None:
        self._room = threading.Semaphore(BACKGROUND)

    def signal(self) -> Signal:
        """A thread's."""
        return ThreadSignal()

    async def start(self, _: Flight, work: Coroutine[Any, Any, None]) -> None:
        """To its end, here and now."""
        await work

    def behind(self, _: Flight, work: Coroutine[Any, Any, None]) -> bool:
        """In a daemon thread: a pool's threads would hold up the interpreter's exit behind a hung upstream."""
        if not self._room.acquire(blocking=False):
            work.close()
            return False
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._drive, work), name="askonce-refresh", daemon=True).start()
        return True

    def help(self, _: Flight, pump: Pump) -> None:
        """A thread for it."""
        threading.Thread(target=drive, args=(pump.run(),), name="askonce-pump", daemon=True).start()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Never: nobody but its caller can end a call in a thread."""

    async def settle(self, seconds: float) -> None:
        """For nothing: likewise."""

    def _drive(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            drive(work)
        finally:
            self._room.release()
