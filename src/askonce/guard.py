"""A store behind its breaker: every command of the engine goes through here, and every trouble is counted here."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from askonce.events import Events
from askonce.fleets import enlist, leave
from askonce.store import Store, StoreTrouble

T = TypeVar("T")
PASSING = ("store-refused", "store-timeout", "store-closed", "store-loading")  # over when the store answers again


class Guard:
    """The store of one engine. While the breaker is open no command is sent: StoreTrouble at once."""

    def __init__(self, store: Store, events: Events) -> None:
        self.store = store
        self.fleet = enlist(store, self)
        self.events = events
        self._closed = False

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """The reply to a command of the store."""
        breaker = self.fleet.breaker
        if breaker.open:
            work.close()
            raise StoreTrouble(breaker.kind)
        try:
            reply = await work
        except StoreTrouble as trouble:
            self.met(trouble)
            raise
        breaker.worked()
        return reply

    def close(self) -> None:
        """Hear no more of the store, and tell no more of it: what it has to say is of our own doing."""
        self._closed = True

    def leave(self) -> None:
        """Use the background thread no more."""
        leave(self.fleet, self)

    def met(self, trouble: StoreTrouble) -> None:
        """Count a trouble, tell of it, and open the breaker when it is one too many."""
        if self._closed:
            return
        self.events.emit("trouble", detail=trouble.kind)
        self.events.warn_once(
            trouble.kind, "the store had trouble (%s: %s); calls go upstream meanwhile", trouble.kind, trouble
        )
        if self.fleet.trouble(trouble.kind):
            self.events.emit("open", detail=trouble.kind)

    def back(self) -> None:
        """The store answers again."""
        if self._closed:
            return
        self.events.emit("back")
        for kind in PASSING:
            self.events.forgive(kind)
