"""How commands speak: JSON for programs, rich for a terminal, plain text for a pipe; errors are the frame's."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def console() -> Console:
    """Standard output. Without guessing at numbers and paths: the colours here mean something."""
    return Console(highlight=False)


def as_json(told: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def count(number: int, what: str, several: str = "") -> str:
    """A number of things: ``1 call``, ``2,100 calls``."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def time(seconds: float) -> str:
    """A duration, with the digits that matter."""
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    if seconds >= 0.01:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1_000_000:.0f} us"


def size(octets: int) -> str:
    """A size in bytes, for people."""
    amount, units = float(octets), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} bytes" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
