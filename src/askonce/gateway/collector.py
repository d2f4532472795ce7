"""When Python's garbage collector looks in a worker: after so many new objects, and after so many bytes came.

A request that is answered whole leaves nothing that only the collector finds. But the objects of all requests under way
are new, and Python looks at them again and again: it was a tenth of a miss. So a worker's collector looks less often.
What it does find, after calls that failed and after streams, may hold whole bodies: the bytes that come bound those.
"""

from __future__ import annotations

import gc

YOUNG = 20_000  # new objects between two looks; Python's 700 are a few requests
EVERY = 32 * 2**20  # bytes that come between two looks, of requests and of answers


class Collector:
    """The collector of this process; as Python has it until `begin`."""

    __slots__ = ("_came", "used")

    def __init__(self) -> None:
        self.used = False
        self._came = 0

    def begin(self) -> None:
        """Look less often from now on, and not at what is loaded already: that stays."""
        gc.freeze()
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
        self.used = True

    def came(self, size: int) -> None:
        """Note that so many bytes came, and look if it is time."""
        self._came += size
        if self._came >= EVERY and self.used:
            self._came = 0
            gc.collect(1)


collector = Collector()
