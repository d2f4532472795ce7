"""A worker of `askonce serve`: uvicorn with one gateway, its sockets, and what signals do to it.

SIGTERM and SIGINT end it when its flights have ended; a second one ends it at once. SIGHUP reads the configuration
again, in this process: requests that are under way end as they began.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn

from askonce.errors import ConfigError
from askonce.events import log
from askonce.gateway.answers import Cut
from askonce.gateway.app import Gateway
from askonce.gateway.collector import collector
from askonce.gateway.config import GatewayConfig
from askonce.gateway.protocol import Bounds, GatewayProtocol

Load = Callable[[], GatewayConfig]
ENDS = (signal.SIGTERM, signal.SIGINT)
SECOND = 1.0  # between two looks at all connections


class GatewayServer(uvicorn.Server):
    """One worker. `load` reads the configuration again."""

    def __init__(self, gateway: Gateway, load: Load, *, parent: int = 0) -> None:
        self.gateway = gateway
        self._load = load
        self._parent = parent
        self._woken = asyncio.Event()
        own = {"bounds": bounds_of(gateway.config), "at_hand": gateway.at_hand}
        self._protocol = type("Protocol", (GatewayProtocol,), own)
        super().__init__(_uvicorn_config(gateway, self._protocol))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the event loop, where they interrupt nothing."""
        loop = asyncio.get_running_loop()
        acts: dict[int, Callable[[], None]] = dict.fromkeys(ENDS, self.end)
        if hasattr(signal, "SIGHUP"):
            acts[signal.SIGHUP] = self.reload
        try:
            for number, act in acts.items():
                loop.add_signal_handler(number, act)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            with super().capture_signals():
                yield
            return
        yield
        for number in acts:
            loop.remove_signal_handler(number)

    def end(self) -> None:
        """End when the flights have ended; the second time at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.gateway.stop()
        self._woken.set()

    def reload(self) -> None:
        """Read the configuration again, and use it if it is right."""
        try:
            config = self._load()
            before = self.gateway.config
            self.gateway.reload(config)
        except ConfigError as wrong:
            log.error("the configuration is wrong, the one before stays in use: %s", wrong)
            return
        self._protocol.bounds = bounds_of(config)  # type: ignore[attr-defined]
        self.config.timeout_graceful_shutdown = config.server.drain  # type: ignore[assignment]
        if before.log.level != config.log.level:
            log.setLevel(config.log.level.upper())
        if config.server != replace(before.server, drain=config.server.drain):
            log.warning("host, port and workers change at the next start, and not by a reload")
        log.info("the configuration was read again")

    async def main_loop(self) -> None:
        """Tick once a second, and end as soon as it is told: uvicorn would look ten times a second."""
        while not self.should_exit:
            self._tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), SECOND)

    def _tick(self) -> None:
        self.gateway.telemetry.tick()
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            connection.look(now)  # type: ignore[union-attr]
        if self._parent and os.getppid() != self._parent:
            self.end()  # nobody would start it again, or tell it to end


def bounds_of(config: GatewayConfig) -> Bounds:
    """The limits of connections."""
    limits = config.limits
    return Bounds(limits.head, limits.head_timeout, limits.body_timeout, limits.concurrency, limits.keep_alive)


def _uvicorn_config(gateway: Gateway, protocol: type) -> uvicorn.Config:
    return plain_config(gateway, protocol, lifespan="on", timeout_graceful_shutdown=gateway.config.server.drain)


def plain_config(app: Any, protocol: type, **more: Any) -> uvicorn.Config:
    """A server that adds nothing to the answers of its application, and logs no request."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="uvloop" if find_spec("uvloop") else "asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        **more,
    )


class _Quiet(logging.Filter):
    """Leaves out what is no fault of the server: a caller's bad request, and an answer that upstream cut."""

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
        return raised is None or not issubclass(raised, Cut)


def set_up_logs(level: str) -> None:
    """Log to stderr, a line an event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name, least in (("askonce", level.upper()), ("uvicorn.error", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
    logging.getLogger("uvicorn.error").addFilter(_Quiet())


def run_worker(
    config: GatewayConfig, load: Load, sockets: list[socket.socket], *, parent: int = 0, shared: Path | None = None
) -> int:
    """Serve until a signal ends it; return the exit code. `parent`: end when it is gone. `shared`: as of Gateway."""
    server = GatewayServer(Gateway(config, shared=shared), load, parent=parent)
    collector.begin()
    server.run(sockets=sockets)
    return 0 if server.started else 1
