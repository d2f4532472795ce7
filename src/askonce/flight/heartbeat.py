"""What the background thread does for one flight: it renews its lease, and sends its last write if nothing else does.

A Heartbeat is a lease of this process, as that thread sees it: its owner, and whether to renew it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

from askonce.core.keys import Key
from askonce.store import Held, Store, StoreTrouble

Work = Callable[[Store], Coroutine[Any, Any, object]]


def _ended() -> bool:
    """What a lease that is over says for `alive` and `gone`: there is nothing to take back."""
    return True


class Heartbeat:
    """A lease that was claimed, and perhaps granted: `order` is 0 until it is.

    It is renewed while it is `alive`, and until `until` (monotonic s). `lost` is set, once, when another caller has
    the lease; `gone` is called when it is no longer alive.
    """

    def __init__(self, key: Key, flight: bytes, alive: Callable[[], bool], gone: Callable[[], object]) -> None:
        self.key = key
        self.id = flight
        self.order = 0
        self.alive = alive
        self.until = math.inf
        self.lost = False
        self.wanted = False  # another process waits for it
        self.on_want: Callable[[], object] | None = None
        self.on_lost: Callable[[], object] | None = None
        self.gone = gone

    @property
    def held(self) -> Held:
        """The lease, as the store names it."""
        return Held(self.key, self.id, self.order)

    def end(self) -> None:
        """Let go of the flight, which is over. In a reference cycle both would stay until the next collection, and with
        them an answer, and a store that was dropped.
        """
        self.alive, self.gone, self.on_want, self.on_lost = _ended, _ended, None, None

    def want(self) -> None:
        """The store says that another process waits for it; kept if the stream is not open yet."""
        self.wanted = True
        if (tell := self.on_want) is not None:  # the flight may end meanwhile
            tell()

    def lose(self) -> None:
        """The store says that another caller has the lease."""
        if not self.lost:
            self.lost = True
            if (tell := self.on_lost) is not None:
                tell()


class LastWrite:
    """What a flight asks of the store last: to store its answer, or to take its lease back and tell how it ended.

    The flight's own code sends it. If that code ends first, the background thread does: it carries what was paid for.
    `guard` counts the store's trouble; `over` is told the reply; `result`, `error`: what callers get if it is handed
    over.
    """

    __slots__ = ("_guard", "error", "over", "result", "until", "work")

    def __init__(
        self,
        work: Work,
        guard: Callable[[Coroutine[Any, Any, object]], Coroutine[Any, Any, object]],
        over: Callable[[object], object],
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        self.work = work
        self._guard = guard
        self.over = over
        self.result = result
        self.error = error
        self.until = 0.0  # monotonic s: the background thread has it, until then at most

    async def ask(self, store: Store) -> object:
        """The store's reply, or its StoreTrouble. May be asked twice: the store does it once."""
        try:
            return await self._guard(self.work(store))
        except StoreTrouble as trouble:
            return trouble
