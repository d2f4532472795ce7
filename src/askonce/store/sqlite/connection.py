"""One connection to a SQLite file, of one thread at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from urllib.parse import quote

from askonce.store.sqlite.near import Near

Identity = tuple[int, ...]  # device and inode; of a file that is only read, what shows that it has changed

NOWHERE: Identity = (0, 0)


class PooledConnection:
    """A connection, of one thread at a time. `execute` reuses one cursor, which a reader may do who fetches at once."""

    def __init__(self, path: str, *, writing: bool = True) -> None:
        # rw and not rwc: a file that SQLite made would have the umask's mode.
        uri = f"file:{quote(os.fsencode(path))}?{'mode=rw' if writing else _to_read(path)}"
        self.connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        self.execute = self.connection.cursor().execute
        self.near = Near(self.execute)
        self.inode: Identity = NOWHERE
        self.closed = False

    def close(self) -> None:
        """Close the connection, whatever it says to that."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        self.closed = True  # and not before: a fork goes ahead when all are

    def __del__(self, wrong: type[Exception] = sqlite3.Error) -> None:
        # Not close(): where an interpreter ends, the names that it uses may be gone, and only those given here are not.
        if not getattr(self, "closed", True):
            self.closed = True
            try:  # noqa: SIM105 - likewise
                self.connection.close()
            except wrong:
                pass


def close_all(connections: deque[PooledConnection]) -> None:
    """Close them; more may come meanwhile."""
    while connections:
        connections.pop().close()


def _to_read(path: str) -> str:
    """How to open a file that cannot be written: SQLite would make a log's index beside it, unless it cannot change."""
    return "mode=ro" if logged(path) else "mode=ro&immutable=1"


def logged(path: str) -> bool:
    """Whether there is a log: somebody writes the file, or was ended while doing so."""
    return os.path.exists(path + "-wal")  # noqa: PTH110 - asked on the way of hits: a Path doubles its price
