"""Who owns a file: no answer is written where another user of the machine can read it, or read from such a file.

A folder that many users may write to, such as /tmp, keeps no secret: another user who knows the name can create the
file or its log first, and keeps the right to read it. So a file is used only if it belongs to this user and no other
user may open it; what its group may do is its owner's decision. A file that cannot be written here, such as one in an
image, is only read: it may also be root's, and anybody may read it, but no other user may write it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from askonce.store.sqlite.trouble import foreign

BESIDE = ("", "-wal", "-shm", "-journal")  # SQLite opens all of these


def writable(path: str) -> bool:
    """Whether this process may write or create the file, and the files that SQLite needs beside it."""
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - a Path costs more than the check
    return os.access(path, os.W_OK) and os.access(folder, os.W_OK)


def check_owner(path: str, *, writing: bool) -> None:
    """StoreTrouble ``store-foreign`` if the file, or one beside it, is another user's, or open to others."""
    if not hasattr(os, "geteuid"):
        return  # Windows: a user's folders belong to that user
    for name, found in _there(path):
        if wrong := _wrong(found, writing=writing):
            raise foreign(name, wrong)


def remove_beside(path: str) -> None:
    """Remove what lies beside a missing file, if it is this user's alone; check_owner names what is not."""
    if hasattr(os, "geteuid"):
        for name, found in _there(path):
            if not _wrong(found, writing=True):
                with contextlib.suppress(OSError):
                    os.unlink(name)  # noqa: PTH108


def _there(path: str) -> Iterator[tuple[str, os.stat_result]]:
    for ending in BESIDE:
        try:
            # Not stat: a link created after the path was resolved would lead to a place that no option named.
            yield path + ending, os.lstat(path + ending)
        except FileNotFoundError:
            continue


def _wrong(found: os.stat_result, *, writing: bool) -> str:
    """What is wrong with a file; "" for nothing."""
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        return ""  # SQLite reports that itself
    if not stat.S_ISREG(found.st_mode):
        return "it is not a plain file"
    if found.st_uid != os.geteuid() and (writing or found.st_uid != 0):
        return f"it belongs to user {found.st_uid}, and this process is user {os.geteuid()}"
    if mode & (0o007 if writing else 0o002):
        return f"its mode is {mode:04o}, so every user may {'open' if writing else 'change'} it (chmod 600 ends that)"
    return ""
