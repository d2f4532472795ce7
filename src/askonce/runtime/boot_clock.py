"""A clock that goes on while the machine is suspended, for what must not be believed for longer than it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial


def _clock() -> Callable[[], float]:
    """A clock in s; time.monotonic stands still while the machine is suspended."""
    if (boot := getattr(time, "CLOCK_BOOTTIME", None)) is not None:
        return partial(time.clock_gettime, boot)
    return partial(time.clock_gettime, time.CLOCK_MONOTONIC) if sys.platform == "darwin" else time.monotonic


boot_clock = _clock()
