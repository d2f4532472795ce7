"""One connection to a SQLite file, used by one thread at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from urllib.parse import quote

from askonce.store.sqlite.near import Near

Identity = tuple[int, ...]  # device and inode; for a read-only file, also what shows that it has changed

NOWHERE: Identity = (0, 0)


class PooledConnection:
    """A connection, used by one thread at a time. `execute` reuses one cursor: a reader must fetch at once."""

    def __init__(self, path: str, *, writing: bool = True) -> None:
        # rw and not rwc: a file that SQLite creates would have the umask's mode.
        uri = f"file:{quote(os.fsencode(path))}?{'mode=rw' if writing else _to_read(path)}"
        self.connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        self.execute = self.connection.cursor().execute
        self.near = Near(self.execute)
        self.inode: Identity = NOWHERE
        self.closed = False

    def close(self) -> None:
        """Close the connection, and ignore its errors."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        self.closed = True  # not earlier: a fork goes ahead when all are closed

    def __del__(self, wrong: type[Exception] = sqlite3.Error) -> None:
        # Not close(): while an interpreter ends, the names it uses may be gone. Default arguments stay.
        if not getattr(self, "closed", True):
            self.closed = True
            try:  # noqa: SIM105 - for the same reason
                self.connection.close()
            except wrong:
                pass


def close_all(connections: deque[PooledConnection]) -> None:
    """Close them all, and those that are added meanwhile."""
    while connections:
        connections.pop().close()


def _to_read(path: str) -> str:
    """The URI that opens an unwritable file. SQLite would create a log index beside it unless it is immutable."""
    return "mode=ro" if logged(path) else "mode=ro&immutable=1"


def logged(path: str) -> bool:
    """Whether there is a log: a process writes the file, or was killed while it did."""
    return os.path.exists(path + "-wal")  # noqa: PTH110 - asked on hits: a Path doubles its price
