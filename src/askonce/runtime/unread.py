"""How much of what was sent over a connection the other end has not read yet."""

from __future__ import annotations

import struct
import sys

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ


def unread(descriptor: int) -> int:
    """Bytes of a socket that the kernel holds for the other end; 0 if the system does not say it."""
    # The kernel takes more only when a third of its room, which may be megabytes, is free again: by that alone, a
    # caller that reads slowly would seem to read nothing for minutes.
    if sys.platform == "win32":
        return 0
    try:
        found: int = struct.unpack("i", ioctl(descriptor, TIOCOUTQ, bytes(4)))[0]
    except OSError:
        return 0
    return found
