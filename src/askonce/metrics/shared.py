"""The numbers of several processes behind one port: each writes its own to a folder, and any of them shows the sum.

A process that was killed leaves its last file. So a sum never shrinks, and Prometheus sees no reset.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from askonce.metrics.snapshot import Snapshot

FRESH = 5.0  # s: what a process that has not written for longer has in progress is over


class SharedFolder:
    """One process's place in a folder of snapshots. The folder belongs to one run of one program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}.json"

    def write(self, snapshot: Snapshot) -> None:
        """Show this process's numbers to the others; OSError if the folder is away."""
        made = self._folder / f"{self._name}.new"
        made.write_bytes(snapshot.to_json())
        made.replace(self._folder / self._name)

    def others(self) -> Iterator[Snapshot]:
        """The numbers that the other processes wrote last. A file that cannot be read is left out."""
        for file in sorted(self._folder.glob("*.json")):
            if file.name == self._name:
                continue
            try:
                snapshot, age = Snapshot.from_json(file.read_bytes()), time.time() - file.stat().st_mtime
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if age > FRESH:
                snapshot.gauges.clear()
            yield snapshot
