"""How long something took, without the time for which the machine was busy with others.

A bar of a test says how long askonce waits, or works. On a machine with more threads than cores, wall time also counts
how long they wait for a core: two busy loops beside the tests make a lookup ten times as long, and no code is slower.
So time in which something waited for a core does not count, up to a patience: what hangs is noticed on any machine.
The bench holds these bars on a quiet one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

PATIENCE = 5.0  # s of a busy machine that do not count
PRESSURE = Path("/proc/pressure/cpu")


def stolen() -> float:
    """For how many s since the machine started something waited for a core.

    Where the system does not tell, all time counts as such while more threads are ready than there are cores.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(PRESSURE.read_text().partition("total=")[2].split()[0]) / 1e6
    return time.monotonic() if os.getloadavg()[0] > (os.cpu_count() or 1) else 0.0


class Took:
    """A watch: from when it is made, or entered, until it is left, or read.

    `seconds` leaves out what a busy machine added, up to `patience` s; `wall` is all of it.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._over: tuple[float, float] | None = None
        self.__enter__()

    def __enter__(self) -> Self:
        self._stolen, self._began = stolen(), time.monotonic()  # in this order: reading takes time, too
        return self

    def __exit__(self, *_: object) -> None:
        self._over = self._passed()

    def _passed(self) -> tuple[float, float]:
        return self._over or (time.monotonic() - self._began, stolen() - self._stolen)

    @property
    def wall(self) -> float:
        """All seconds that passed."""
        return self._passed()[0]

    @property
    def seconds(self) -> float:
        """Seconds for which the code can be blamed."""
        wall, lost = self._passed()
        return wall - min(max(0.0, lost), self._patience)


def usual(times: Iterable[float]) -> float:
    """What one of many takes where the machine lets it: the slowest of the quickest tenth.

    Not the median: a turn at a core lasts some milliseconds, so on a busy machine most short waits are for that.
    """
    ordered = sorted(times)
    return ordered[len(ordered) // 10]
