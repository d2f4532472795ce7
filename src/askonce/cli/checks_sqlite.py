"""What a doctor looks at where the store is a file."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from askonce.cli import say
from askonce.cli.check import Check
from askonce.cli.place import Place
from askonce.store.sqlite.store import MAX_BYTES, path_of
from askonce.store.sqlite.wal import PAGE, copied

LONG = 2**23  # bytes of a log, twice what is left to grow before it is copied
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"}


def file_checks(place: Place) -> Iterator[Check]:
    """Who may read it, how large it is, and whether the disk has room for all that it may become."""
    path = Path(path_of(place.url))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and sys.platform != "win32":
        yield Check("file", f"mode {mode:04o}", "hint", f"other users may read the answers: chmod 600 {path}*")
    else:
        yield Check("file", f"mode {mode:04o}, only for its owner")
    yield _size(path)
    yield from _log(path)
    yield from _where(path)


def _size(path: Path) -> Check:
    size = sum(part.stat().st_size for part in (path, path.with_name(path.name + "-wal")) if part.exists())
    free = shutil.disk_usage(path.parent).free
    said = f"{say.size(size)}, may grow to {say.size(MAX_BYTES)}; {say.size(free)} free on the disk"
    if size + free >= MAX_BYTES:
        return Check("size", said)
    return Check("size", said, "hint", "make room on the disk, or limit the cache: Cache(url, max_bytes=...)")


def _log(path: Path) -> Iterator[Check]:
    """Whether a program that reads, and does not end, is in the way of the log's being copied."""
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
            left = copied(connection) * PAGE
    except sqlite3.Error:
        return  # what is wrong with the file, other checks say
    if left > LONG:
        remedy = "a program keeps a read transaction open: end that program, and the next writer empties the log"
        yield Check("log", f"{say.size(left)} of the log cannot be copied into the file", "hint", remedy)


def _where(path: Path) -> Iterator[Check]:
    kind = file_system(path)
    if kind in REMOTE:
        remedy = "write-ahead logs need shared memory: name a file on a local disk, or use Redis for several machines"
        yield Check("disk", f"{kind}, a network file system", "bad", remedy)


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system that holds `path`, "" where the system does not say."""
    try:
        lines = [line.split() for line in mounts.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    above = {str(folder): len(folder.parts) for folder in path.parents}
    found = [(above[line[1]], line[2]) for line in lines if len(line) > 2 and line[1] in above]
    return max(found)[1] if found else ""
