"""The refusals of SQLite and the system as kinds of StoreTrouble, and how long a call is repeated."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from askonce.store import StoreTrouble

T = TypeVar("T")

# PROTOCOL: many processes opened the file's log at the same moment.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_KINDS = {
    **dict.fromkeys(_BUSY, "store-timeout"),
    sqlite3.SQLITE_READONLY: "store-readonly",
    sqlite3.SQLITE_FULL: "store-full",
    sqlite3.SQLITE_CORRUPT: "store-corrupt",
    sqlite3.SQLITE_NOTADB: "store-foreign",
    sqlite3.SQLITE_PERM: "store-denied",
    sqlite3.SQLITE_AUTH: "store-denied",
}
_SYSTEM_KINDS = {
    errno.EACCES: "store-denied",
    errno.EPERM: "store-denied",
    errno.EROFS: "store-readonly",
    errno.ENOSPC: "store-full",
    errno.EDQUOT: "store-full",
}
REMEDIES = {
    "store-foreign": "; the file is left unchanged: name another file",
    "store-corrupt": "; delete the file with its -wal and -shm files, or name another file",
    "store-full": "; free some space or lower max_bytes",
    "store-denied": "; let this user read and write it, or name another file",
    "store-readonly": "; let this user write it and its folder, or name another file",
}


def _remedy(path: Path, kind: str) -> str:
    with contextlib.suppress(OSError):
        if path.is_dir():
            return "; it is a folder: name a file in it"
        if not path.parent.is_dir():
            return "; its folder is not there, and cannot be made: name another file"
    return REMEDIES.get(kind, "")


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds what is needed, so that trying again may help."""
    return _code(error) in _BUSY


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk is full; the connection is as good as before."""
    return _code(error) == sqlite3.SQLITE_FULL


def foreign(path: str, what: str) -> StoreTrouble:
    """The trouble of a file that is not askonce's to use."""
    return StoreTrouble("store-foreign", f"{path}: {what}{REMEDIES['store-foreign']}")


def trouble_of(path: str, error: sqlite3.Error | OSError) -> StoreTrouble:
    """What an error means to an operator. An error that shows a bug, not the file's trouble, is raised as it is."""
    if isinstance(error, OSError):
        kind = _SYSTEM_KINDS.get(error.errno or 0, "store-error")
        return StoreTrouble(kind, f"{path}: {error.strerror or error}{_remedy(Path(path), kind)}")
    code = _code(error)
    if not code or isinstance(error, sqlite3.IntegrityError):
        raise error
    kind_of = _KIND_OF.get(code)
    kind = kind_of(Path(path)) if kind_of else _KINDS.get(code, "store-error")
    return StoreTrouble(kind, f"{path}: {error}{_remedy(Path(path), kind)}")


class SharedTrouble:
    """The last trouble of a lock that many queue at: callers that queued before it was met have it too."""

    def __init__(self) -> None:
        self._met = -1.0
        self._kind = self._text = ""

    def met(self, path: str, error: sqlite3.Error | OSError | StoreTrouble) -> StoreTrouble:
        """Note this trouble for the callers that queue, and return it."""
        trouble = error if isinstance(error, StoreTrouble) else trouble_of(path, error)
        # Not the exception: its traceback would keep connections and answers alive.
        self._met, self._kind, self._text = time.monotonic(), trouble.kind, str(trouble)
        return trouble

    def share(self, asked: float) -> None:
        """Raise the trouble met since `asked` (monotonic s)."""
        if self._met >= asked:
            raise StoreTrouble(self._kind, self._text)


def _cannot_open(path: Path) -> str:
    if not os.access(path, os.R_OK):
        return "store-denied" if path.exists() else "store-error"
    # It needs two files beside it.
    return _broken(path) if os.access(path.parent, os.W_OK) else "store-readonly"


def _broken(path: Path) -> str:
    """The kind of a disk error. SQLite does not say that a disk is full when it creates the files beside the file."""
    with contextlib.suppress(OSError, AttributeError):  # it is missing, or the system cannot tell
        disk = os.statvfs(path.parent)
        if disk.f_bavail * disk.f_frsize < BESIDE:
            return "store-full"
    return "store-error"


BESIDE = 64 * 1024  # bytes of an empty log and its index
_KIND_OF = {sqlite3.SQLITE_CANTOPEN: _cannot_open, sqlite3.SQLITE_IOERR: _broken}


def patiently(work: Callable[[], T], until: float) -> T:
    """Repeat `work` while another connection holds the file, until `until` (monotonic s).

    Not SQLite's own busy handler: it has no deadline, is not called in every case, and its first sleep is longer than
    most transactions.
    """
    pause = 0.0002
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            left = until - time.monotonic()
            if not is_busy(error) or left <= 0:
                raise
        time.sleep(min(pause * random.uniform(0.5, 1.0), left))
        pause = min(2 * pause, 0.002)
