"""What the overview shows, in three parts: figures, calls in progress, and lists.

A part that the store cannot give is left out, and the page says what is wrong: half a page is more than an error. What
is read is shared by all who look at the page, and is at most some seconds old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from askonce.core.savings import Activity
from askonce.errors import StoreUnavailable
from askonce.gateway.page import charts
from askonce.gateway.results import FLIGHTS
from askonce.gateway.view import View
from askonce.store import StoreTrouble

Context = dict[str, Any]
ROWS = 10  # of a list on the overview
MISSES = 12
SHOWN = 30  # flights
PARTS = {"figures": 2.0, "flights": 0.5, "lists": 2.0}  # s for which a part is shared


class Shared:
    """Results that are shared by all viewers: each is computed once in a while, and by one task at a time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, asyncio.Task[Context]]] = {}

    async def get(self, name: str, lasts: float, compute: Callable[[], Coroutine[Any, Any, Context]]) -> Context:
        """The result of this name, at most `lasts` s old."""
        begun, task = self._known.get(name, (0.0, None))
        if task is None or time.monotonic() - begun > lasts:
            task = asyncio.create_task(compute())
            self._known[name] = (time.monotonic(), task)
        return await asyncio.shield(task)  # whoever leaves does not take it away from the others


class Overview:
    """The parts of the overview of a view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._shared = Shared()

    async def whole(self) -> Context:
        """All parts."""
        found = await asyncio.gather(*(self.part(name) for name in PARTS))
        troubles = [one["trouble"] for one in found if one["trouble"]]
        return {name: told for one in found for name, told in one.items()} | {"trouble": next(iter(troubles), "")}

    async def part(self, name: str) -> Context:
        """One part, by a name of PARTS; ``trouble`` says what was wrong with the store."""
        ways = {"figures": self._figures, "flights": self._flights, "lists": self._lists}
        return await self._shared.get(name, PARTS[name], ways[name])

    async def _figures(self) -> Context:
        reader = Reader()
        saved = await self._saved(reader)
        activity = await reader.read(self._view.activity(2), Activity())
        kept = activity.hours or (await reader.read(self._view.entries(limit=1), None))
        return {
            "saved": saved,
            "ratio": charts.ratio(activity.hours),
            "latency": charts.speeds(activity.hits, activity.calls),
            "empty": not reader.trouble and not getattr(kept, "entries", kept),
            "trouble": reader.trouble,
        }

    async def _saved(self, reader: Reader) -> list[charts.Saved]:
        """The cards of today and of this month (UTC); none of a period of which nothing is known."""
        today = datetime.fromtimestamp(await reader.read(self._view.now(), time.time()), UTC).date()
        periods = (("today", today), ("this month", today.replace(day=1)))
        told = [(title, await reader.read(self._view.savings(since), None)) for title, since in periods]
        cards = [charts.saved(title, one.total.saved) for title, one in told if one is not None]
        return [one for one in cards if one is not None]

    async def _flights(self) -> Context:
        reader = Reader()
        found = await reader.read(self._view.flights(), [])
        labelled = any(one.model or one.scope for one in found)
        return {
            "labelled": labelled,
            "flights": found[:SHOWN],
            "hidden": max(0, len(found) - SHOWN),
            "more": len(found) >= FLIGHTS,
            "trouble": reader.trouble,
        }

    async def _lists(self) -> Context:
        reader = Reader()
        now = await reader.read(self._view.now(), time.time())
        today = await reader.read(self._view.activity(1), Activity())
        return {
            "now": now,
            "hottest": today.hottest[:ROWS],
            "passed": charts.reasons(today.passed),
            "unstored": charts.reasons(today.unstored),
            "misses": await reader.read(self._view.misses(MISSES), []),
            "trouble": reader.trouble,
        }


class Reader:
    """It reads what the store gives, and remembers the first trouble with it."""

    def __init__(self) -> None:
        self.trouble = ""

    async def read(self, wanted: Awaitable[Any], otherwise: Any) -> Any:
        """The result, or `otherwise` if the store is in trouble."""
        try:
            return await wanted
        except (StoreTrouble, StoreUnavailable) as error:
            self.trouble = self.trouble or error.kind
            return otherwise
