"""Whose a file is: an answer must not be written where another user of the machine can read it, nor read from one.

A folder that many may write to, such as /tmp, is no secret: whoever knows the name can make the file first, or its log,
and keeps the right to read what others write into it. So a file is used only if it is this user's own and nobody else
may open it; what its owner's group may do is the owner's business. One that cannot be written here, such as one baked
into an image, is only read: it may be root's as well, and anybody may read it, but nobody else may write it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from askonce.store.sqlite.trouble import foreign

BESIDE = ("", "-wal", "-shm", "-journal")  # SQLite opens all of these


def writable(path: str) -> bool:
    """Whether this process may write the file, or make it, and the files that SQLite needs beside it."""
    folder = os.path.dirname(path) or "."  # noqa: PTH120 - a Path costs more than the question
    return os.access(path, os.W_OK) and os.access(folder, os.W_OK)


def check_owner(path: str, *, writing: bool) -> None:
    """StoreTrouble ``store-foreign`` where the file, or one beside it, is another's, or open to others."""
    if not hasattr(os, "geteuid"):
        return  # Windows: a user's folders are the user's
    for name, found in _there(path):
        if wrong := _wrong(found, writing=writing):
            raise foreign(name, wrong)


def _there(path: str) -> Iterator[tuple[str, os.stat_result]]:
    for ending in BESIDE:
        try:
            # Not stat: a link that came to be after the path was resolved leads to somewhere nobody named.
            yield path + ending, os.lstat(path + ending)
        except FileNotFoundError:
            continue


def _wrong(found: os.stat_result, *, writing: bool) -> str:
    """What is wrong with a file, "" for nothing."""
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        return ""  # SQLite says so itself
    if not stat.S_ISREG(found.st_mode):
        return "it is not a plain file"
    if found.st_uid != os.geteuid() and (writing or found.st_uid != 0):
        return f"it belongs to user {found.st_uid}, and this process is user {os.geteuid()}"
    if mode & (0o007 if writing else 0o002):
        return f"its mode is {mode:04o}, so every user may {'open' if writing else 'change'} it (chmod 600 ends that)"
    return ""
