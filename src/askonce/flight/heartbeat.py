"""A Heartbeat: a lease of this process, as the background thread knows it: whose it is, and whether to renew it."""

from __future__ import annotations

import math
from collections.abc import Callable

from askonce.core.keys import Key
from askonce.runtime.mode import Owner
from askonce.store import Held


class Heartbeat:
    """A lease that was asked for, and then perhaps granted: `order` is 0 until then.

    It is renewed while its `owner` lives and until `until` (monotonic s). `lost` is set, once, when somebody else has
    it; `gone` is called when its owner does not live any more.
    """

    def __init__(self, key: Key, flight: bytes, owner: Owner, gone: Callable[[], object]) -> None:
        self.key = key
        self.id = flight
        self.order = 0
        self.owner = owner
        self.until = math.inf
        self.lost = False
        self.wanted = False  # somebody in another process waits
        self.on_want: Callable[[], object] | None = None
        self.on_lost: Callable[[], object] | None = None
        self.gone = gone

    @property
    def held(self) -> Held:
        """The lease as the store names it."""
        return Held(self.key, self.id, self.order)

    def alive(self) -> bool:
        """Whether something still runs it."""
        return self.owner.alive()

    def want(self) -> None:
        """The store said that it is waited for; kept for a stream that is not open yet."""
        self.wanted = True
        if self.on_want is not None:
            self.on_want()

    def lose(self) -> None:
        """The store said so."""
        if not self.lost:
            self.lost = True
            if self.on_lost is not None:
                self.on_lost()
