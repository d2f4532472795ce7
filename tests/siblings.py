"""Several processes that run one program, whose modules are imported once: one interpreter imports it, and forks.

To import an SDK takes a second of processor time. A test that is about the start of an interpreter starts its own.
Each process reads orders from its stdin and prints replies, if its program does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]


class _Events:
    """What becomes of the processes, as the interpreter that forked them says it."""

    def __init__(self, told: IO[str]) -> None:
        self._told = told
        self._seen: list[list[Any]] = []

    def next(self, pid: int, event: str) -> int:
        """Wait until it has happened to a process; the number that goes with it."""
        while True:
            for one in self._seen:
                if one[:2] == [pid, event]:
                    self._seen.remove(one)
                    return int(one[2])
            line = self._told.readline()
            assert line, "the interpreter that forked them died"
            self._seen.append(json.loads(line))


class Sibling:
    """One of the processes: its pid, its stdin and its stdout, both of text."""

    def __init__(self, pid: int, ends: tuple[IO[str], IO[str]], events: _Events) -> None:
        self.pid = pid
        self.stdin, self.stdout = ends
        self._events = events

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP; returns when every thread of it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        assert self._events.next(self.pid, "stopped") == signal.SIGSTOP

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        return self._events.next(self.pid, "ended")


@contextlib.contextmanager
def siblings(program: str, arguments: Sequence[Sequence[str]]) -> Iterator[list[Sibling]]:
    """A process for each list of arguments, that runs `main()` of a module with them; all are killed at the end."""
    with contextlib.ExitStack() as stack:
        orders, ends = [], []
        for words in arguments:
            (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
            orders.append((theirs_in, theirs_out, list(words)))
            ends.append((stack.enter_context(os.fdopen(ours_in, "w")), stack.enter_context(os.fdopen(ours_out))))
        theirs = [number for into, out, _ in orders for number in (into, out)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.siblings", program, json.dumps(orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            pass_fds=theirs,
            start_new_session=True,
        )
        stack.callback(_end, process)
        for number in theirs:
            os.close(number)
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())
        events = _Events(process.stdout)
        yield [Sibling(pid, each, events) for pid, each in zip(pids, ends, strict=True)]


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _main() -> None:
    program, orders = sys.argv[1], json.loads(sys.argv[2])
    main = importlib.import_module(program).main
    gc.collect()
    gc.freeze()
    pids: list[int] = []
    for into, out, words in orders:
        if not (pid := os.fork()):
            _become(orders, into, out, [program, *words])
            main()
            return
        pids.append(pid)
    _report(pids, orders)


def _become(orders: list[Any], into: int, out: int, words: list[str]) -> None:
    os.dup2(into, 0)
    os.dup2(out, 1)
    _close(orders)
    sys.argv = words
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))  # noqa: SIM115


def _close(orders: list[Any]) -> None:
    for into, out, _ in orders:
        os.close(into)
        os.close(out)


def _report(pids: list[int], orders: list[Any]) -> None:
    """Say what becomes of each, and end with all of them when the test is gone."""
    _close(orders)
    print(json.dumps(pids), flush=True)
    threading.Thread(target=_follow, name="siblings-test", daemon=True).start()
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WUNTRACED)
            stopped = os.WIFSTOPPED(status)
            code = os.WSTOPSIG(status) if stopped else os.waitstatus_to_exitcode(status)
            print(json.dumps([pid, "stopped" if stopped else "ended", code]), flush=True)
    signal.pause()


def _follow() -> None:
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main()
