"""The other end of a worker: one process of one peer, told what to do, and heard with a limit of time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import machine
from bench.peers.adapter import Place
from bench.peers.environments import plain
from bench.workers import Failed

PATIENCE = 120.0  # s of silence after which a peer has failed
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}  # nothing is fetched while it is measured
STARTED = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from bench.peers.worker import main; main(*sys.argv[1:])"


class Silent(Failed):
    """A worker does not reply in time."""


class Running:
    """A worker's process."""

    def __init__(self, python: str, adapter: str, place: Place) -> None:
        # -P: the folder in which it starts holds folders with the names of peers.
        # Not a pipe: one that nobody reads would stop a peer that warns a lot.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        words = [python, "-P", "-c", STARTED, str(machine.ROOT), adapter, *place]
        self._process = subprocess.Popen(
            words,
            cwd=place.folder,
            env={**_environment(), **QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._heard = b""

    def order(self, what: str, **words: Any) -> None:
        """Say what to do."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **words}).encode() + b"\n")
        except BrokenPipeError:
            raise Failed(self._last_words()) from None

    def reply(self, patience: float = PATIENCE) -> Any:
        """What came of it; Failed with the reason if it failed or died, Silent if it takes too long."""
        assert self._process.stdout is not None
        while b"\n" not in self._heard:
            said, _, _ = select.select([self._process.stdout], [], [], patience)
            if not said:
                raise Silent(f"no reply within {patience:g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 20)
            if not part:
                raise Failed(self._last_words())
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        reply = json.loads(line)
        if "failed" in reply:
            raise Failed(plain(reply["failed"].partition("\n")[0]))  # what follows is advice
        return reply["done"]

    def ask(self, what: str, **words: Any) -> Any:
        """Say what to do, and hear what came of it."""
        self.order(what, **words)
        return self.reply()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, and release it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return f"its process died: {plain(self._errors.read().decode(errors='replace'))}"


@contextmanager
def running(count: int, python: str, adapter: str, place: Place) -> Iterator[list[Running]]:
    """As many workers, with their peers open; ended afterwards."""
    workers = [Running(python, adapter, place) for _ in range(count)]
    try:
        for worker in workers:
            worker.order("open")
        for worker in workers:
            worker.reply()
        yield workers
    finally:
        for worker in workers:
            worker.end()


def _environment() -> dict[str, str]:
    """The environment without what leads a Python to packages of another."""
    return {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    }


def statement(python: str, imports: str) -> float:
    """The seconds that an import statement takes in a new interpreter."""
    code = f"import time; began = time.perf_counter(); {imports}; print(time.perf_counter() - began)"
    done = subprocess.run(
        [python, "-c", code],
        env={**_environment(), **QUIET},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise Failed(plain(done.stderr))
    return float(done.stdout.splitlines()[-1])
