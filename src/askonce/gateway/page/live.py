"""What is told while a page is looked at: a stream of events (server-sent events).

An event without a name has the calls in progress, as markup. The events ``figures`` and ``lists`` say that these parts
changed; the page then asks for them, as it also does by itself when no event comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from askonce.gateway.page.overview import PARTS, Overview
from askonce.gateway.page.site import Site

STEP = 1.0  # s between two looks
SLOWER = 3  # looks between two looks at what is read with more effort
LASTS = 600.0  # s until a browser has to connect again, and to show that its session lasts
LIMIT = 64  # pages that are told at the same time; others ask by themselves
HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}


class Live:
    """The streams of a site."""

    def __init__(self, site: Site, overview: Overview) -> None:
        self._site = site
        self._overview = overview
        self._open = 0

    async def answer(self, request: Request) -> Response:
        """``GET live``: the stream; 503 if too many are open."""
        if self._open >= LIMIT:
            return Response("too many pages are open", 503, {"retry-after": "60"}, "text/plain")
        return StreamingResponse(self._told(request), headers=HEADERS, media_type="text/event-stream")

    async def _told(self, request: Request) -> AsyncIterator[str]:
        self._open += 1
        try:
            async for event in self._events(request):
                yield event
        finally:
            self._open -= 1

    async def _events(self, request: Request) -> AsyncIterator[str]:
        seen: dict[str, bytes] = {}
        ends, look = time.monotonic() + LASTS, 0
        while time.monotonic() < ends and not self._site.stopping():
            for name in PARTS if look % SLOWER == 0 else ("flights",):
                text = await self.part(request, name)
                digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
                if seen.get(name) != digest:
                    yield event("" if name == "flights" else name, text if name == "flights" else "changed")
                seen[name] = digest
            yield event("beat", str(look))
            look += 1
            await asyncio.sleep(STEP)

    async def part(self, request: Request, name: str) -> str:
        """The markup of a part of the overview."""
        return self._site.text(request, f"_{name}.html", **await self._overview.part(name))


def event(name: str, data: str) -> str:
    """One event. Each line of the data is a line of its own, whatever ends it there."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n" if name else f"{lines}\n"
