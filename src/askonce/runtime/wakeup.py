"""A Wakeup: how a thread that waits is woken, without a lock that the waker would have to take.

A finaliser may run anywhere, in a thread that is inside of `threading.Event.set` too, and an Event has a lock inside.
So a bare lock is the signal: it is held while there is nothing to wake for, and released by whoever wakes. One
operation of the interpreter each, and a third of an Event's cost.
"""

from __future__ import annotations

import threading


class Wakeup:
    """Wakes one waiting thread. `set` takes no lock: finalisers and signal handlers may call it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the thread that waits, or the next that does."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # set already

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` s; whether it was set. It is not set any more then."""
        return self._lock.acquire(timeout=timeout) if timeout > 0 else self._lock.acquire(blocking=False)
