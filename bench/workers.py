"""The processes of one row; each is a fresh interpreter that runs one function of this package.

The two ends of a pipe are a Worker (the row's) and a Parent (the worker's). Workers report that they are ready, and all
begin at one time that the row names, on the one monotonic clock of the machine. No worker survives its row: the end of
the block kills the rest, and a worker whose row was killed ends by itself.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

from bench.callers import Callers, run

SETTLE = 0.3  # s between naming the time to begin and that time
SLACK = 120.0  # s of silence after which the row fails; a dead worker is noticed at once

_processes = multiprocessing.get_context("spawn")


class Failed(Exception):
    """The row saw what must not be; the message says what."""


class Parent:
    """A worker's end of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, message: Any) -> None:
        self._pipe.send(("said", message))

    def hear(self) -> Any:
        return self._pipe.recv()

    def ready(self) -> float:
        """Report ready, and wait for the time to begin: its time.monotonic(), which may lie a little ahead."""
        self.tell("ready")
        at: float = self.hear()
        return at

    async def begin(self, callers: Callers) -> float:
        """The same among callers, at that time."""
        at: float = await callers.block(self.ready)
        await callers.sleep_until(at)
        return at


Work = Callable[..., Any]  # (parent, *arguments) -> result, or a coroutine of (callers, parent, *arguments)


class Worker:
    """The row's end: one process."""

    def __init__(self, work: Work, mode: str, arguments: tuple[Any, ...]) -> None:
        self._pipe, theirs = _processes.Pipe()
        self.name = work.__name__
        self._process = _processes.Process(target=_enter, args=(work, mode, theirs, arguments))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def tell(self, message: Any) -> None:
        self._pipe.send(message)

    def hear(self, timeout: float = SLACK) -> Any:
        """The worker's next message or its result; Failed if it failed, died or is silent for too long."""
        if not self._pipe.poll(timeout):
            raise Failed(f"{self.name}: not a word for {timeout:g} s")
        try:
            kind, message = self._pipe.recv()
        except EOFError:
            raise Failed(f"{self.name}: died without a word") from None
        if kind == "failed":
            raise Failed(f"{self.name}: {message.strip().splitlines()[-1]}\n{message}")
        return message

    def said(self) -> bool:
        return self._pipe.poll()

    def begin(self, at: float = 0.0) -> Self:
        """Let only this worker begin when it is ready: now, or at a given time."""
        self.hear()
        self.tell(at)
        return self

    def kill(self) -> None:
        """Send SIGKILL, which ends a stopped process too."""
        self._process.kill()

    def stop(self) -> None:
        """Send SIGSTOP; return when it has stopped, or has died."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill it if it still lives, and release it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


class Workers:
    """All workers of a row; the end of the block ends those that are left."""

    def __init__(self) -> None:
        self.all: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self.all:
            worker.end()

    def start(self, work: Work, *arguments: Any, mode: str = "threads") -> Worker:
        """Start a process that runs ``work(parent, *arguments)``, or a coroutine in a mode."""
        worker = Worker(work, mode, arguments)
        self.all.append(worker)
        return worker

    def begin(self) -> float:
        """Wait until each is ready, and name the time to begin."""
        for worker in self.all:
            worker.hear()
        at = time.monotonic() + SETTLE
        for worker in self.all:
            worker.tell(at)
        return at

    def results(self, seconds: float = 0.0) -> list[Any]:
        """What each worker returns, within `seconds` and some slack."""
        return [worker.hear(seconds + SLACK) for worker in self.all]


def _enter(work: Work, mode: str, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the row, which ends its workers in order
    logging.getLogger("askonce").setLevel(logging.ERROR)  # its warnings are counted, and belong to the scenario
    threading.Thread(target=_follow_parent, name="bench-parent", daemon=True).start()
    parent = Parent(pipe)
    try:
        result = run(mode, work, parent, *arguments) if inspect.iscoroutinefunction(work) else work(parent, *arguments)
        pipe.send(("done", result))
    except Exception:  # noqa: BLE001 - it is the row's to judge
        with contextlib.suppress(OSError):
            pipe.send(("failed", traceback.format_exc()))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
