"""Files that a user names: read whole, within a bound, because a device such as /dev/zero has no end."""

from __future__ import annotations

import errno
import io
from pathlib import Path

MOST = 64 * 2**20  # bytes: a request may hold images


def bytes_of(path: Path) -> bytes:
    """The bytes of a file; OSError if it cannot be read, or is too large for what is named so."""
    with path.open("rb") as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"it has more than {MOST >> 20} MiB, or no end")
    return data


def text_of(path: Path) -> str:
    """The same as text in UTF-8, without the mark that some editors put first. UnicodeDecodeError if it is none."""
    return io.TextIOWrapper(io.BytesIO(bytes_of(path)), "utf-8-sig").read()
