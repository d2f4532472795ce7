"""What a gateway tells of itself: metrics, and one line of JSON for each proxied request, if the configuration says so.

Workers of one gateway share a folder for their numbers: they share a port, and a scrape reaches any of them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

from askonce.cache.base import base_of
from askonce.cache.cache import AsyncCache
from askonce.core.libraries import prometheus_client
from askonce.events import Events, log
from askonce.gateway.answers import Send
from askonce.gateway.settings import LogConfig
from askonce.metrics import Exporter, prometheus
from askonce.metrics.request_log import Record, RequestLog, Writable
from askonce.metrics.shared import SharedFolder

Proxied = Callable[[Send], Awaitable[None]]


class Telemetry:
    """The metrics and the request log of one gateway, whichever cache it uses. `shared`: the folder of all workers."""

    def __init__(self, shared: Path | None = None, stream: Writable | None = None) -> None:
        self._registry = prometheus_client().CollectorRegistry()
        self._shared = None if shared is None else SharedFolder(shared)
        self._log = RequestLog(stream or sys.stdout)
        self.writes = False
        self._exporter: Exporter | None = None
        self._logged: WeakSet[Events] = WeakSet()
        self._shared_failed = False

    def watch(self, cache: AsyncCache, config: LogConfig) -> None:
        """Measure this cache from now on."""
        self._exporter = prometheus(cache, self._registry)  # the one before is counted until its last call has ended
        if self._shared is not None:
            self._exporter.share(self._shared)
        self.writes = config.requests
        if self.writes:  # of the cache before, too: requests that began with it have their lines to come
            events = base_of(cache).events
            events.joined(self, self._log, None)
            self._logged.add(events)
        else:
            for events in self._logged:
                events.left(self)
            self._logged.clear()

    async def metrics(self, accept: str = "") -> tuple[bytes, str]:
        """The page for Prometheus, and its content type."""
        assert self._exporter is not None
        return self._exporter.text(accept)

    def tick(self) -> None:
        """Called about once a second: show this worker's numbers to the others."""
        if self._shared is None or self._exporter is None:
            return
        try:
            self._exporter.write()
        except OSError as error:
            if not self._shared_failed:
                log.warning("the numbers of this worker cannot be shared: %r", error)
            self._shared_failed = True

    async def proxied(self, send: Send, proxied: Proxied) -> None:
        """Run ``proxied(send)``, and write its line."""
        with self._log.request() as record:
            await proxied(_counting(record, send))


def _counting(record: Record, send: Send) -> Send:
    """A `send` that notes the status and the bytes of the answer."""

    async def counted(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            record.status, record.bytes = message["status"], 0
        elif message["type"] == "http.response.body":
            with contextlib.suppress(TypeError):
                record.bytes = (record.bytes or 0) + len(message.get("body") or b"")
        await send(message)

    return counted
