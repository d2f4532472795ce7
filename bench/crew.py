"""A Crew: the processes of one row, each a fresh interpreter that runs one function of this package.

The two ends of a pipe are a Hand (the row's) and a Desk (the worker's). Workers say when they are ready, and all begin
at one moment that the row names, on the one monotonic clock that a machine has. No worker survives its row: a crew
kills what is left when its block ends, and a worker whose row was killed ends by itself.
"""

from __future__ import annotations

import contextlib
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

from bench.row import Failed

SETTLE = 0.3  # s between naming the moment to begin and that moment
SLACK = 30.0  # s that a worker may take to say something before the row is failed

_processes = multiprocessing.get_context("spawn")


class Desk:
    """A worker's end of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, message: Any) -> None:
        """Say something to the row."""
        self._pipe.send(("said", message))

    def hear(self) -> Any:
        """What the row says next."""
        return self._pipe.recv()

    def ready(self) -> float:
        """Say so, and wait for the moment to begin: its time.monotonic(), which may lie a little ahead."""
        self.tell("ready")
        at: float = self.hear()
        return at


Work = Callable[..., Any]  # (desk, *arguments) -> result


class Hand:
    """The row's end: one worker."""

    def __init__(self, work: Work, arguments: tuple[Any, ...]) -> None:
        self._pipe, theirs = _processes.Pipe()
        self.name = work.__name__
        self._process = _processes.Process(target=_enter, args=(work, theirs, arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def tell(self, message: Any) -> None:
        """Say something to the worker."""
        self._pipe.send(message)

    def hear(self, timeout: float = SLACK) -> Any:
        """What the worker says next, or its result; Failed when it failed, died or is silent for so long."""
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
        """Whether there is something to hear."""
        return self._pipe.poll()

    def kill(self) -> None:
        """SIGKILL, which a stopped process obeys too."""
        self._process.kill()

    def stop(self) -> None:
        """SIGSTOP; returns when it has stopped, and says nothing when it has died."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill it if it still lives, and let go of it."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


class Crew:
    """All workers of a row; what is left of them ends with the block."""

    def __init__(self) -> None:
        self.hands: list[Hand] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for hand in self.hands:
            hand.end()

    def hire(self, work: Work, *arguments: Any) -> Hand:
        """Start a process that runs ``work(desk, *arguments)``."""
        hand = Hand(work, arguments)
        self.hands.append(hand)
        return hand

    def ready(self) -> None:
        """Wait until each worker is."""
        for hand in self.hands:
            hand.hear()

    def start(self) -> float:
        """Name the moment to begin; all must be ready."""
        at = time.monotonic() + SETTLE
        for hand in self.hands:
            hand.tell(at)
        return at

    def results(self, timeout: float = SLACK) -> list[Any]:
        """What each worker brings."""
        return [hand.hear(timeout) for hand in self.hands]


def _enter(work: Work, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the row, which ends its workers in order
    logging.getLogger("askonce").setLevel(logging.ERROR)  # its warnings are counted, and belong to the scenario
    threading.Thread(target=_follow_parent, name="bench-parent", daemon=True).start()
    try:
        pipe.send(("done", work(Desk(pipe), *arguments)))
    except Exception:  # noqa: BLE001 - it is the row's to judge
        with contextlib.suppress(OSError):
            pipe.send(("failed", traceback.format_exc()))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
