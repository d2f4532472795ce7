"""The standard streams of a command: there, able to show every character, and quiet when their reader has left."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
BROKEN = {errno.ENOSPC: "no space is left", errno.EIO: "it cannot be written", errno.EBADF: "it is closed"}


def prepare() -> None:
    """Make both streams usable: a service may have none, and a locale may lack letters of an answer."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # as what does not print is shown


def until_read(command: Callable[P, T]) -> Callable[P, T | int]:
    """The command, which ends in good order once whoever reads its output has had enough: ``askonce ls | head``."""

    @functools.wraps(command)
    def run(*given: P.args, **named: P.kwargs) -> T | int:
        try:
            result = command(*given, **named)
            sys.stdout.flush()
        except BrokenPipeError:
            discard()
            return 0
        return result

    return run


def discard() -> None:
    """Let what is still buffered go nowhere: Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # tests have streams without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def problem(error: OSError) -> str:
    """What to tell of an error of a full disk, or another one, under the standard output; "" for any other error."""
    why = BROKEN.get(error.errno or 0, "")
    return why and f"standard output: {why}"
