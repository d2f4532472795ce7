"""A socket by which other threads wake the one that sleeps on its connections."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable
from typing import Any

from askonce.runtime.exits import when_dropped
from askonce.store import StoreTrouble

# Not select(), which refuses descriptors from 1024 on, nor epoll, whose state a forked child would share.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Waker:
    """A pair of sockets: what is sent to one end wakes the thread that waits with the other."""

    def __init__(self) -> None:
        try:
            self._in, self._out = socket.socketpair()
        except OSError as error:  # no descriptor is left
            raise StoreTrouble("store-error", f"the background thread cannot be woken: {error}") from error
        # Not __del__: the collector may finalise the sockets of one in a cycle first, and each would warn.
        when_dropped(self, _close_both, self._in, self._out)
        self._in.setblocking(False)
        self._out.setblocking(False)
        self._woken = False  # since `wait` returned
        self._unread = False  # there is something to read in `_in`

    def wake(self) -> None:
        """Make a `wait` under way, or the next one, return at once. Any thread may call it."""
        self._woken = True  # before it is sent: see `wait`
        # Full: the wait is being woken already. Closed: there is none.
        with contextlib.suppress(OSError):
            self._out.send(b"\0")

    def wait(self, socks: Iterable[Any], timeout: float) -> list[Any]:
        """Wait at most `timeout` s, or until `wake`; return those of `socks` that can be read."""
        # What woke the wait before is read now, and not then: with each call of the system, this thread would stand
        # behind all that run here, and what it was woken for would be done when they have done theirs.
        if self._unread:
            self._read()
        if self._woken:
            timeout = 0.0  # what this was sent with is read already, perhaps
        with _Selector() as selector:
            selector.register(self._in, selectors.EVENT_READ)
            for sock in socks:
                selector.register(sock, selectors.EVENT_READ)
            readable = [chosen.fileobj for chosen, _ in selector.select(max(0.0, timeout))]
        self._woken = False
        if self._in in readable:
            readable.remove(self._in)
            self._unread = True
        return readable

    def _read(self) -> None:
        self._unread = False
        with contextlib.suppress(BlockingIOError):
            while len(self._in.recv(4096)) == 4096:
                pass


def _close_both(one: socket.socket, other: socket.socket) -> None:
    one.close()
    other.close()
