"""A store behind its breakers. Every command of the engine passes here, and every trouble is counted here."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from askonce.core.breaker import Breaker, Breakers, Direction
from askonce.events import Events
from askonce.flight.registry import join, leave
from askonce.runtime.exits import EXIT
from askonce.store import Store, StoreTrouble, Works

BATCH = 128  # commands in one round trip
T = TypeVar("T")


class GuardedStore:
    """The store of one engine. While a breaker is open, its direction raises StoreTrouble at once and sends nothing."""

    def __init__(self, store: Store, events: Events) -> None:
        self.store = store
        self.background = join(store, self)
        self.events = events
        self._breakers: Breakers = self.background.breakers
        self._closed = False

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Send a command that writes; return its reply."""
        return await self._asked(self._breakers.write, work)

    async def read(self, work: Coroutine[Any, Any, T]) -> T:
        """Send a command that only reads; return its reply."""
        return await self._asked(self._breakers.read, work)

    async def _asked(self, breaker: Breaker, work: Coroutine[Any, Any, T]) -> T:
        if self._breakers.shut and (refused := self._refused(breaker)):
            work.close()
            raise refused
        try:
            reply = await work
        except StoreTrouble as trouble:
            self.met(trouble, breaker.direction)
            raise
        breaker.worked()
        return reply

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        """Send several commands in batches; return their replies, a StoreTrouble in place of each that failed."""
        breaker = self._breakers.read if reads else self._breakers.write
        replies: list[Any] = []
        for at in range(0, len(works), BATCH):
            try:
                some = await self._asked(breaker, self.store.together(works[at : at + BATCH], reads=reads))
            except StoreTrouble as trouble:
                return [*replies, *[trouble] * (len(works) - at)]
            for one in {reply.kind: reply for reply in some if isinstance(reply, StoreTrouble)}.values():
                self.met(one, breaker.direction)
            replies += some
        return replies

    def _refused(self, breaker: Breaker) -> StoreTrouble | None:
        if breaker.open:
            return StoreTrouble(breaker.kind)
        connect = self._breakers.connect
        return StoreTrouble(connect.kind) if connect.open and not self.store.connected() else None

    def check_read(self) -> None:
        """Raise StoreTrouble if a read would not be tried; called only while some breaker is open."""
        if refused := self._refused(self._breakers.read):
            raise refused

    @property
    def down(self) -> bool:
        """Whether even reads are not tried: this process cannot learn of an invalidation."""
        return self._breakers.shut and self._refused(self._breakers.read) is not None

    @property
    def writes(self) -> bool:
        """Whether writes are tried."""
        return not self._breakers.shut or self._refused(self._breakers.write) is None

    def close(self) -> None:
        """Stop reporting the store's trouble: from here on it is caused by closing."""
        self._closed = True

    def leave(self) -> None:
        """Stop using the background thread."""
        leave(self.background, self)

    def met(self, trouble: StoreTrouble, direction: Direction) -> None:
        """Count a trouble, report it, and open the breaker if it was one too many."""
        if self._closed:
            return
        self.events.emit("trouble", detail=trouble.kind)
        if trouble.kind == EXIT:
            return  # the interpreter's, or one event loop's: the store has none, and others go on using it
        self.events.warn_once(
            trouble.kind,
            "the store failed (%s: %s); calls go upstream until it answers again",
            trouble.kind,
            trouble,
        )
        for breaker in self.background.trouble(trouble, direction):
            self.events.emit("open", detail=breaker.kind, direction=breaker.direction)

    # called by the background thread

    def recovered(self, direction: Direction, kind: str) -> None:
        """The store answers again, in this direction."""
        if not self._closed:
            self.events.emit("back", direction=direction)
            self.events.forgive(kind)

    def disconnected(self, trouble: StoreTrouble) -> None:
        """The background thread lost its connection, and makes a new one."""
        if not self._closed:
            self.events.emit("disconnected", detail=trouble.kind)

    def unreachable(self, trouble: StoreTrouble) -> None:
        """It cannot make a new connection: leases are not renewed, and waiting callers are not woken."""
        if not self._closed:
            self.events.warn_once(
                "unheard",
                "the background connection to the store failed (%s: %s); meanwhile leases"
                " are not renewed, and callers that wait for other processes are not woken",
                trouble.kind,
                trouble,
            )

    def reconnected(self) -> None:
        """It has a connection again: the next trouble is reported anew."""
        self.events.forgive("unheard")
