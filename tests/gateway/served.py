"""`askonce serve` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[str]:
    """Its URL, while it runs at a free port; what it logs is read, so that it never waits for that."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ASKONCE_")}
    program = [sys.executable, "-m", "askonce", "serve", "--port", "0", *arguments]
    with subprocess.Popen(program, env=ours, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        assert running.stderr is not None
        lines: list[str] = []
        try:
            for line in running.stderr:
                lines.append(line)
                if found := re.search(r"(http://[\d.]+:\d+)\S* is served", line):
                    break
            else:
                raise AssertionError("".join(lines))
            reading = threading.Thread(target=running.stderr.read)
            reading.start()
            yield found[1]
        finally:
            running.terminate()
            running.wait(30)
        reading.join()
