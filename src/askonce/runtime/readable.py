"""Whether a connection has something to read: asked by timers, before they call the other end silent."""

from __future__ import annotations

import select


def is_readable(descriptor: int) -> bool:
    """Whether something came over a socket, its end too, that nobody has read yet."""
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()  # select takes no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
