"""What several tests need and users do not: the recorded traffic, replayed."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from askonce.testing.servers import watch


@contextmanager
def opened_file(path: Path | str) -> Iterator[sqlite3.Connection]:
    """An SQLite file as another program opens it: what was written is committed, and the connection is closed.

    `with sqlite3.connect(...)` does not close it. Python 3.13 and later warn of that when they collect it, in any test.
    """
    with closing(sqlite3.connect(path)) as file, file:
        yield file


class ReplayUpstream:
    """`replay_upstream.py` of the corpus, in a process of its own; its docstring is the manual."""

    def __init__(self, corpus: Path, *options: str) -> None:
        self.corpus = corpus
        self.options = options
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = [sys.executable, str(self.corpus / "replay_upstream.py"), "--port", "0"]
        recordings = ["--recordings", str(self.corpus / "dev.jsonl.gz")]
        self._process = subprocess.Popen(
            [*program, *recordings, *self.options], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._watcher = watch(self._process.pid)
        assert self._process.stdout is not None
        first = self._process.stdout.readline()  # printed when it listens
        found = re.search(r"http://\S+", first)
        assert found, f"replay_upstream.py did not come up: {first!r}"
        self.url = found.group()
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in (self._watcher, self._process):
            if process is not None:
                process.kill()
                process.communicate()

    def calls(self) -> dict[str, Any]:
        """The counters since the last reset: total, matched, by_id, by_key, ..."""
        return dict(self._control("GET", "/_calls"))

    def reset(self) -> None:
        """Counters back to zero; the faults stay."""
        self._control("POST", "/_reset")

    def faults(self, *rules: dict[str, Any]) -> None:
        """Replace the fault rules."""
        self._control("PUT", "/_faults", list(rules))

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
        return json.loads(text)
