"""How a file is created: empty, for this user alone, and without what lies beside a deleted file of its name.

A process that has a deleted file open keeps the index of its log locked. SQLite takes log and index by their names, for
those of the new file, and fails for as long as that process lives. So whoever creates the file removes them before. One
process at a time does so, under a lock on the folder: the index may belong to a file that another one created just now.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from askonce.store import CONNECT_TIMEOUT
from askonce.store.sqlite.owner import remove_beside, writable

with contextlib.suppress(ImportError):  # no POSIX
    import fcntl  # not late: a file may be created while Python ends

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class _Lock:
    """A lock on a folder. It ends when it is dropped, whatever interrupts its holder."""

    def __init__(self, folder: Path) -> None:
        self.number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "number"):  # else the folder could not be opened
            close(self.number)


def create(path: Path) -> bool:
    """Create the file if it is missing. Return whether it may be written."""
    try:
        try:
            _create(path)
        except FileNotFoundError:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            _create(path)
    except FileExistsError:
        return writable(str(path))
    return True


def _create(path: Path) -> None:
    lock = None if os.path.lexists(path) else _locked(path.parent)
    if lock is not None and not os.path.lexists(path):
        remove_beside(str(path))
    os.close(os.open(path, _FLAGS, 0o600))


def _locked(folder: Path) -> _Lock | None:
    """The lock on a folder; None where there is no such lock, and if somebody else keeps it."""
    if not hasattr(os, "fork"):
        return None  # no POSIX: there a file that is open cannot be deleted
    until = time.monotonic() + CONNECT_TIMEOUT
    with contextlib.suppress(OSError):
        lock = _Lock(folder)
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            time.sleep(0.001)
    return None
