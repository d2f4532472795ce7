"""The end of a client: when its inner transport is closed.

A client may be closed before what its requests began has ended: a refresh, a call whose caller left and that is
finished all the same, or one for which other callers wait or whose stream they read. Such a call needs the client's
connections, so they are closed after the last of them. A call that concerns only its own caller ends with its client,
as it does without askonce.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from askonce.engine.batch import BatchEngine
from askonce.events import log
from askonce.flight.flight import Flight

Close = Callable[[], Coroutine[Any, Any, None]]


class ClientCaller:
    """Who sent a request with a client, as the flights see it that ask for it. `awaits`: the answer, or its stream."""

    __slots__ = ("awaits", "client")

    def __init__(self, client: ClientEnd) -> None:
        self.client = client
        self.awaits = True

    def over(self) -> None:
        """A flight is over."""
        self.client.over()


class ClientEnd:
    """Closes what the calls of one client need: once, and not before its time."""

    def __init__(self) -> None:
        self.engine: BatchEngine | None = None  # with which its calls are made
        self.closed = False  # what they need is closed, or is being closed
        self._looks: list[Callable[[], object]] = []  # for each close that waits

    async def close(self, close: Close) -> None:
        """Await `close` now, or have it run, in this caller's mode, after the last call that goes on."""
        if self.engine is None or not self._needed():
            self.closed = True
            await close()
            return
        look = self.engine.mode.when(lambda: not self._needed(), partial(self._closed_late, close))
        self._looks.append(look)
        look()  # what went on may have ended meanwhile

    def over(self) -> None:
        """A flight is over. Called from any thread."""
        for look in list(self._looks):
            look()

    async def _closed_late(self, close: Close) -> None:
        self.closed = True
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - nobody is left to be told
            log.debug("a transport could not be closed: %r", error)

    def _needed(self) -> bool:
        return self.engine is not None and any(self._needed_by(flight) for flight in self.engine.board.posted())

    def _needed_by(self, flight: Flight) -> bool:
        """Whether it is a call of this client that goes on upstream, and concerns others than its own caller."""
        caller = flight.asker
        if not isinstance(caller, ClientCaller) or caller.client is not self or flight.ends():
            return False
        return flight.unwaited or flight.wanted_elsewhere or flight.followers > 0 or not caller.awaits
