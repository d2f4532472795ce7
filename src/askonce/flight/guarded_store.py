"""A store behind its breakers. Every command of the engine passes here, and every trouble is counted here."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from askonce.core.breaker import Direction, StoreBreakers
from askonce.core.codec import PLAIN, Codec
from askonce.core.keys import Key
from askonce.events import Events
from askonce.flight.pricing import UNPRICED, Pricer
from askonce.flight.registry import join, leave
from askonce.runtime.exits import EXIT
from askonce.store import Store, StoreTrouble, Works

BATCH = 128  # commands in one round trip
T = TypeVar("T")


class GuardedStore:
    """The store of one engine. While a breaker of a key's primary is open, commands of its direction about the key
    raise StoreTrouble at once, and nothing is sent.

    `codec`: how what is stored is compressed and encrypted. `pricer`: what answers cost.
    """

    def __init__(self, store: Store, events: Events, codec: Codec = PLAIN, pricer: Pricer = UNPRICED) -> None:
        self.store = store
        self.codec = codec
        self.pricer = pricer
        self.background = join(store, self)
        self.events = events
        self._breakers: StoreBreakers = self.background.breakers
        self._closed = False
        if store.near is not None:
            store.near.tell(self)

    async def __call__(self, key: Key, work: Coroutine[Any, Any, T]) -> T:
        """Send a command about a key that writes; return its reply."""
        return await self._asked("write", key, work)

    async def read(self, key: Key, work: Coroutine[Any, Any, T]) -> T:
        """Send a command about a key that only reads; return its reply."""
        return await self._asked("read", key, work)

    async def _asked(self, direction: Direction, key: Key, work: Coroutine[Any, Any, T]) -> T:
        if self._breakers.shut and (refused := self._refused(direction, key)):
            work.close()
            raise refused
        try:
            reply = await work
        except StoreTrouble as trouble:
            self.met(trouble, direction, key)
            raise
        if self._breakers.failing:
            self.worked(direction, key)
        return reply

    async def together(self, keys: Sequence[Key], works: Works, *, reads: bool = False) -> list[Any]:
        """Send several commands, each about its key, in batches; return their replies, a StoreTrouble in place of each
        that failed.
        """
        direction: Direction = "read" if reads else "write"
        replies: list[Any] = []
        for at in range(0, len(works), BATCH):
            try:
                replies += await self._batch(direction, keys[at : at + BATCH], works[at : at + BATCH])
            except StoreTrouble as trouble:
                self.met(trouble, direction, keys[at])
                return [*replies, *[trouble] * (len(works) - at)]
        return replies

    async def _batch(self, direction: Direction, keys: Sequence[Key], works: Works) -> list[Any]:
        refused = [self._refused(direction, key) if self._breakers.shut else None for key in keys]
        tried = [(key, work) for key, work, why in zip(keys, works, refused, strict=True) if why is None]
        said = await self.store.together([work for _, work in tried], reads=direction == "read") if tried else []
        self._note(direction, [key for key, _ in tried], said)
        come = iter(said)
        return [next(come) if why is None else why for why in refused]

    def _note(self, direction: Direction, keys: Sequence[Key], replies: Sequence[Any]) -> None:
        """Count what came of a batch: each trouble once for its primary and kind."""
        met: dict[tuple[str, str], StoreTrouble] = {}
        for key, one in zip(keys, replies, strict=True):
            if isinstance(one, StoreTrouble):
                met.setdefault((one.primary or self.store.primary(key), one.kind), one)
        for (primary, _), trouble in met.items():
            trouble.primary = primary
            self._met(trouble, direction)
        if self._breakers.failing:
            worked = [key for key, one in zip(keys, replies, strict=True) if not isinstance(one, StoreTrouble)]
            for primary in {self.store.primary(key) for key in worked} - {primary for primary, _ in met}:
                self._breakers.worked(primary, direction)

    def worked(self, direction: Direction, key: Key) -> None:
        """A command succeeded at the key's primary. Called only while some breaker counts failures."""
        self._breakers.worked(self.store.primary(key), direction)

    def _refused(self, direction: Direction, key: Key) -> StoreTrouble | None:
        primary = self.store.primary(key)
        breakers = self._breakers.of(primary)
        breaker = breakers.of(direction)
        if breaker.open:
            return StoreTrouble(breaker.kind, primary=primary)
        if breakers.connect.open and not self.store.connected(key):
            return StoreTrouble(breakers.connect.kind, primary=primary)
        return None

    def check_read(self, key: Key) -> None:
        """Raise StoreTrouble if a read would not be tried; called only while some breaker is open."""
        if refused := self._refused("read", key):
            raise refused

    def down(self, key: Key) -> bool:
        """Whether even reads are not tried: this process cannot learn of an invalidation."""
        return self._breakers.shut and self._refused("read", key) is not None

    def close(self) -> None:
        """Stop reporting the store's trouble: from here on it is caused by closing."""
        self._closed = True

    def leave(self) -> None:
        """Stop using the background thread."""
        leave(self.background, self)

    def met(self, trouble: StoreTrouble, direction: Direction, key: Key) -> None:
        """Count a trouble of a key, report it, and open the breaker of its primary if it was one too many."""
        trouble.primary = trouble.primary or self.store.primary(key)
        self._met(trouble, direction)

    def _met(self, trouble: StoreTrouble, direction: Direction) -> None:
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

    def near_changed(self, state: str, why: str) -> None:
        """The near cache began, or stopped: lookups are answered by the store alone."""
        if self._closed:
            return
        self.events.emit("near", detail=state)
        if why:
            self.events.warn_once(
                f"near {state}",
                "the near cache is off (%s): %s; hits are answered by the store, and `askonce doctor` says more",
                state,
                why,
            )
        elif state == "on":
            self.events.forgive("near")

    def reconnected(self) -> None:
        """It has a connection again: the next trouble is reported anew."""
        self.events.forgive("unheard")
