"""When the background thread looks next at something that is gathered for it.

It is woken for the first that is gathered, and then looks once. What is dropped meanwhile, because the store takes no
writes, leaves the schedule as it is: the next that is gathered would be the first again, and each lookup would wake the
thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Schedule:
    """A look within `every` s from the first that is gathered; `start` starts or wakes the background thread."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self._next = 0.0  # monotonic s; if that is past, nothing is planned

    def begin(self, every: float) -> None:
        """Plan a look, if none is planned. Any thread may call it."""
        now = time.monotonic()
        if self._next <= now:
            self._next = now + every
            self._start()

    def hurry(self) -> None:
        """Look now."""
        self._next = 0.0
        self._start()

    def due(self, *, gathered: bool) -> float:
        """Seconds until the look; inf if none is planned, and nothing was gathered."""
        left = self._next - time.monotonic()
        return left if gathered or left > 0 else math.inf
