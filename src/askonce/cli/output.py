"""The standard streams of a command: there, able to show every character, and quiet when their reader has left."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator

BROKEN = {errno.ENOSPC: "no space is left", errno.EIO: "it cannot be written", errno.EBADF: "it is closed"}
ELSEWHERE = "write to another file, or make room"


def prepare() -> None:
    """Make both streams usable: a service may have none, and a locale may lack letters of an answer."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # as what does not print is shown


class ReaderLeft(Exception):
    """The reader of the standard output closed it. Not an OSError, because the parser would handle that itself."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise ReaderLeft for a pipe whose reader has left, also if only the last of the output meets it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeft from None


def quietly(tell: Callable[[], object]) -> None:
    """Call `tell`, which writes to standard error. If its reader has left, the exit code has to do."""
    try:
        tell()
        sys.stderr.flush()
    except BrokenPipeError:
        discard("stderr")


def discard(stream: str = "stdout") -> None:
    """Let what is still buffered go nowhere: Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # tests have streams without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, stream).fileno())


def problem(error: OSError) -> str:
    """What to tell of an error of a full disk, or another one, under the standard output; "" for any other error."""
    why = BROKEN.get(error.errno or 0, "")
    return why and f"standard output: {why}: {ELSEWHERE}"
