"""Several workers: processes of one gateway, on one store and one port, and the parent that starts them again.

The parent keeps each worker's sockets open. So a connection to a worker that died waits for the next one, which is
forked with all modules loaded, and nobody is refused meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from askonce.errors import ConfigError
from askonce.events import log
from askonce.gateway.app import Gateway
from askonce.gateway.config import GatewayConfig
from askonce.gateway.server import ENDS, Load, run_worker

SHORT = 2.0  # s: a worker that lives no longer is not a killed one, but one that cannot run
TRIES = 5  # such workers in a row, before the gateway gives up
PAUSE = 0.2  # s before another try


class Workers:
    """The parent of the workers, which only waits for signals."""

    def __init__(self, config: GatewayConfig, load: Load, sockets: Sequence[list[socket.socket]]) -> None:
        self._config = config
        self._load = load
        self._sockets = sockets
        self._running: dict[int, tuple[int, float]] = {}  # the number of each worker, and when it began
        self._ending = False
        self._short = 0

    def run(self) -> int:
        """Start the workers, and serve until a signal ends them; return the exit code."""
        handled = {*ENDS, signal.SIGHUP, signal.SIGCHLD}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        with TemporaryDirectory(prefix="askonce-", ignore_cleanup_errors=True) as folder:
            self._shared = Path(folder)
            for number in range(len(self._sockets)):
                self._start(number)
            while self._running:
                self._act_on(signal.sigwait(handled))
        return 1 if self._short >= TRIES else 0

    def _act_on(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            self._reload()
        else:
            self._end(number)

    def _start(self, number: int) -> None:
        pid = os.fork()
        if pid:
            self._running[pid] = number, time.monotonic()
            return
        code = 1
        try:
            code = self._work(number)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _work(self, number: int) -> int:
        """In a worker: serve."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for other, sockets in enumerate(self._sockets):
            if other != number:
                for one in sockets:
                    one.close()
        return run_worker(self._config, self._load, self._sockets[number], parent=os.getppid(), shared=self._shared)

    def _reap(self) -> None:
        """Start again the workers that died."""
        for pid in list(self._running):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                number, began = self._running.pop(pid)
                if not self._ending:
                    self._restart(number, time.monotonic() - began, os.waitstatus_to_exitcode(status))

    def _restart(self, number: int, lived: float, code: int) -> None:
        self._short = self._short + 1 if lived < SHORT else 0
        if self._short >= TRIES:
            log.error("a worker ends again and again (exit code %d): the gateway ends", code)
            self._end(signal.SIGTERM)
            return
        log.warning("worker %d ended (exit code %d): another one starts", number, code)
        if self._short:
            time.sleep(PAUSE)
        self._start(number)

    def _reload(self) -> None:
        try:
            config = self._load()
            Gateway(config)
        except ConfigError as wrong:
            log.error("the configuration is wrong, the one before stays in use: %s", wrong)
            return
        self._config = config
        log.setLevel(config.log.level.upper())
        self._signal(signal.SIGHUP)

    def _end(self, number: int) -> None:
        if not self._ending:
            self._ending = True
            for sockets in self._sockets:
                for one in sockets:
                    one.close()
        self._signal(number)

    def _signal(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)
