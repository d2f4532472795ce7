"""A child's inherited connections to a file: its SQLite believes in locks that only the parent holds.

SQLite keeps a table of its process's locks, and a child inherits that table without the locks. A connection that the
child opens finds the file locked already, and takes no lock of its own. Then the parent's last close finds no other
user, and deletes the log under the child, with all that the child writes from then on. So all connections are closed
before a fork. Where that was impossible, or no hook ran, the child takes the very locks that its SQLite believes in:
the shared lock on the file, and the one on the index beside it, which keeps both in place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

_SHARED = (0x40000002, 510)  # where SQLite locks a file in use, and how many bytes: part of SQLite's format
_IN_USE = (128, 1)  # in the index: a process has it open
_kept: list[object] = []  # closing any descriptor of the file would drop every lock that this process has on it


def adopt(path: str, connections: Iterable[object]) -> None:
    """Take the locks that these inherited connections stand for in this child; and never touch the connections."""
    inherited = list(connections)
    if not inherited:
        return
    _kept.extend(inherited)
    for name, (start, length) in ((path, _SHARED), (path + "-shm", _IN_USE)):
        with contextlib.suppress(OSError):
            handle = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            _kept.append(handle)
            _lock(handle, start, length)


def _lock(handle: int, start: int, length: int) -> None:
    import fcntl  # fcntl exists wherever fork does

    fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
