"""What a process still has after something was dropped: threads, tasks, descriptors, memory, and a server's clients."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.crowd import PATIENCE

counted = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")


def threads_of_ours() -> Counter[str]:
    """The names of the threads that askonce has started and that still live."""
    ours = (thread.name for thread in threading.enumerate() if thread.name.startswith("askonce-"))
    return Counter(name for name in ours if name != "askonce-provider")


def descriptors() -> Counter[str]:
    """How many descriptors of each kind this process has open."""
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found[str(descriptor.readlink()).split(":[", maxsplit=1)[0]] += 1
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(pid: int) -> int:
    """Bytes of memory that a process had at most."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024  # type: ignore[index]


class Remains(NamedTuple):
    """What there is at one moment."""

    threads: Counter[str]
    descriptors: Counter[str]
    clients: int

    @classmethod
    def now(cls, server: Any = None) -> Remains:
        """Count; `server` is asked for its clients."""
        gc.collect()
        clients = 0 if server is None else server.command("CLIENT", "LIST").count(b"\n")
        return cls(threads_of_ours(), descriptors(), clients)

    def within(self, before: Remains, more: int = 0) -> bool:
        """Whether there is no more of anything than there was, but for so many."""
        over = (self.threads - before.threads, self.descriptors - before.descriptors)
        return all(one.total() <= more for one in over) and self.clients <= before.clients + more


def as_before(before: Remains, server: Any = None, more: int = 0) -> None:
    """Wait until there is no more than there was, but for so many of a kind."""
    until = time.monotonic() + PATIENCE
    while not (now := Remains.now(server)).within(before, more):
        assert time.monotonic() < until, f"{before} before, {now} now"
        time.sleep(0.01)
