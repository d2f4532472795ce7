"""A flight: one upstream call of this process, from the claim that may grant its lease to its landing.

And which flights' calls are around some code: a call that asks its own question would wait for itself.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar

from askonce.core.keys import Key
from askonce.core.lease import Grant
from askonce.core.model import Snapshot
from askonce.errors import UsageError
from askonce.flight.heartbeat import Heartbeat, LastWrite
from askonce.runtime.mode import Cancel, Owner, Signal

T = TypeVar("T")

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


# The flights whose calls are around this code. Weak: a task that a call starts copies this, and may outlive the answer.
leading: contextvars.ContextVar[tuple[weakref.ref[Flight], ...]] = contextvars.ContextVar("leading", default=())


async def within(flights: Iterable[Flight], call: Callable[[], Awaitable[T]]) -> T:
    """Make a call, and note meanwhile that it is the call of these flights."""
    around = [ref for ref in leading.get() if (one := ref()) is not None and not one.over]
    token = leading.set((*around, *map(weakref.ref, flights)))
    try:
        return await call()
    finally:
        with contextlib.suppress(ValueError):  # the garbage collector runs in another context
            leading.reset(token)


def check_outside(awaited: Flight | bytes) -> None:
    """UsageError if this code runs inside the call that it would wait for. A flight of another cache is an id."""
    for ref in leading.get():
        # A landed flight may still be here: an exception can come before it is removed.
        if (one := ref()) is not None and not one.done and awaited in (one, one.id):
            raise UsageError("the call that answers this question asks it again: wrap that call once only")
