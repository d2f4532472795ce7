"""What a child has of its parent's connections to a file: SQLite's belief in locks that the parent alone holds.

SQLite keeps a table of its process's locks, and a child inherits the table without the locks. A connection that the
child opens finds in it that the file is locked already, and takes no lock of its own; then the parent's last close
finds nobody else there, and deletes the log under the child, with all that it writes from then on. So before a fork all
connections are closed. Where that was not possible, or nobody told of the fork, the child takes the very locks that its
SQLite believes in: the shared lock on the file, and the one on the index beside it that keeps both in place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

_SHARED = (0x40000002, 510)  # where SQLite locks a file that is in use, and how many bytes: a format of its own
_IN_USE = (128, 1)  # in the index: somebody has it open
_kept: list[object] = []  # closing any descriptor of the file would drop every lock that this process has on it


def adopt(path: str, connections: Iterable[object]) -> None:
    """Take the locks in whose names these connections, which are the parent's, stand here; and never touch them."""
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
    import fcntl  # where there is a fork, there is this

    fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
