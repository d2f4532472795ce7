"""A Wakeup wakes a waiting thread, without a lock that the waking thread would have to take.

A finaliser may run anywhere, even in a thread inside `threading.Event.set`, and an Event holds a lock there. So a bare
lock is the signal: it is held while there is nothing to wake for, and released to wake. Each is one operation of the
interpreter, and costs a third of an Event's.
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
        """Wake the thread that waits, or the next one that does."""
        if self._lock.locked():  # else it is set already, which happens for each part of a stream with many readers
            try:
                self._lock.release()
            except RuntimeError:
                return  # another thread has set it meanwhile

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` s; return whether it was set. It is not set afterwards."""
        return self._lock.acquire(timeout=timeout) if timeout > 0 else self._lock.acquire(blocking=False)
