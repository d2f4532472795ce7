"""What a command looks at: the View of a store, or a gateway's answers of the same kind.

Neither suspends, so a command finishes each of their methods by `drive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from askonce.cache import config
from askonce.cli.place import Place, find_kept, is_gateway, patience
from askonce.runtime.drive import drive

if TYPE_CHECKING:
    from askonce.core.savings import Savings
    from askonce.core.why import Miss, Why
    from askonce.gateway.results import Answers, Filter, Flight, Invalidated, Pulse, Rows, Stats, Swept


class Viewed(Protocol):
    """The methods of a View that commands use."""

    async def now(self) -> float:
        """View.now."""
        ...

    async def stats(self, progress: Callable[[int], None]) -> Stats:
        """View.stats."""
        ...

    async def entries(self, wanted: Filter, limit: int) -> Rows:
        """View.entries."""
        ...

    async def entry(self, key: str, *, body: bool = False) -> Answers:
        """View.entry."""
        ...

    async def raw(self, key: str) -> bytes:
        """View.raw."""
        ...

    async def invalidate(self, aim: dict[str, Any], *, dry_run: bool = False) -> Invalidated:
        """View.invalidate."""
        ...

    async def sweep(self, rate: int, progress: Callable[[int, int], None]) -> Swept:
        """View.sweep."""
        ...

    async def savings(self, since: int | date | None = None, by: str | Sequence[str] = ()) -> Savings:
        """View.savings."""
        ...

    async def why(self, key: str = "", **asked: Any) -> Why:
        """View.why."""
        ...

    async def misses(self, limit: int = 20) -> list[Miss]:
        """View.misses."""
        ...

    async def pulse(self) -> Pulse:
        """View.pulse."""
        ...

    async def flights(self) -> list[Flight]:
        """View.flights."""
        ...


@contextmanager
def looking(url: str | None, prefix: str | None) -> Iterator[Viewed]:
    """What a command with these options looks at."""
    with looking_at(find_kept(url, prefix)) as view:
        yield view


@contextmanager
def looking_at(where: Place) -> Iterator[Viewed]:
    """What is at a place (`place.find_kept`)."""
    if is_gateway(where.url):
        from askonce.cli.remote import Gateway, GatewayView  # late: a store needs no HTTP, and a gateway no cache

        yield GatewayView(Gateway(where.url))
        return
    from askonce.cache.base import base_of
    from askonce.cache.cache import Cache
    from askonce.gateway.view import View

    with config.naming(where.variable):
        cache = Cache(where.url, prefix=where.prefix, **patience(where.url))
    try:
        yield View(cache)
    finally:
        drive(base_of(cache).shut(0.0))
