"""`askonce serve` in processes of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx2

from askonce.testing.servers import watch
from tests.crowd import eventually
from tests.gateway.running import CLIENT


class Served:
    """It serves at a free port; what it logs is read, so that it never waits for that. Its end is a kill, unless told."""

    def __init__(self, *arguments: str | Path) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("ASKONCE_")}
        program = [sys.executable, "-m", "askonce", "serve", "--port", "0", *arguments]
        self._process = subprocess.Popen(
            program,
            env=ours,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._watcher = watch(self._process.pid)
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="stderr")
        self._reader.start()
        self.url = self.wait_for(r"askonce: (http://[\d.]+:\d+)\S* is served")
        self.wait_for(r"answers in")
        eventually(self._answers, "a worker answers", 60)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return CLIENT.get(f"{self.url}/_askonce/health", timeout=1).status_code == 200
        return False

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Wait until so many lines match; return what the pattern's last match has in its group."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._met(pattern)) >= times, 30), self.lines
            found = self._met(pattern)[-1]
        return found[found.re.groups and 1]

    def _met(self, pattern: str) -> list[re.Match[str]]:
        return [found for line in self.lines if (found := re.search(pattern, line))]

    def workers(self) -> list[int]:
        done = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in done.stdout.split()]

    def tell(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def end(self) -> int:
        """Wait for its end; its exit code."""
        code = self._process.wait(60)
        self._reader.join(60)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.kill()
        self._watcher.wait()
        for pid in [*self.workers(), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.end()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextlib.contextmanager
def served(*arguments: str | Path) -> Iterator[str]:
    """Its URL; it is told to end after the test, and ends well."""
    with Served(*arguments) as running:
        yield running.url
        running.tell(signal.SIGTERM)
        assert running.end() == 0
