"""Whether something can be read now, which timers ask before they call the other end silent, or be written."""

from __future__ import annotations

import select


def is_readable(descriptor: int) -> bool:
    """Whether something came over a socket, its end too, that nobody has read yet."""
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    return _polled(descriptor, select.POLLIN, 0.0)


def is_writable(descriptor: int, seconds: float) -> bool:
    """Whether a file or a pipe takes some bytes within so many seconds, or fails at once; true if none can say."""
    return not hasattr(select, "poll") or _polled(descriptor, select.POLLOUT, seconds)


def _polled(descriptor: int, event: int, seconds: float) -> bool:
    poll = select.poll()  # select takes no descriptor above 1023
    poll.register(descriptor, event)
    return bool(poll.poll(seconds * 1000))
