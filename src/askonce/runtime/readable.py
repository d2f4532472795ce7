"""Whether something can be read now, which timers ask before they call the other end silent, or be written."""

from __future__ import annotations

import select


def is_readable(descriptor: int) -> bool:
    """Whether something came over a socket, its end too, that nobody has read yet."""
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()  # select takes no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def is_writable(descriptor: int, seconds: float) -> bool:
    """Whether a file or a pipe takes some bytes within so many seconds, or fails at once; true if none can say."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
