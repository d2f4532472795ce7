"""What lifetimes that slide and early refreshes cost a plain fresh hit.

Against the hit path without them: the same engine, with the counting of hits and the look at an entry's end taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from askonce import Cache
from bench.hits import hits_of, turns
from bench.pairs import pair
from bench.places import BOTH
from bench.row import Reading

BAR = 1.05


def cost(quick: bool) -> Iterator[Reading]:
    """Two caches on one store, in turn."""
    for opener in BOTH:
        with opener() as place, Cache(place.url) as cache, Cache(place.url) as plain:
            _bare(plain)
            found = pair(hits_of(cache), hits_of(plain), turns(quick))
        yield found.reading(place.name, "with all", "without", BAR)


class _Cold:
    """A Heat that never warms."""

    def hit(self, *_: Any) -> None:
        return None


def _bare(cache: Cache) -> None:
    reader: Any = cache._engine._reader  # noqa: SLF001 - there is no switch for this, and no user would want one
    reader._heat = _Cold()  # noqa: SLF001
    reader._early = lambda *_: False  # noqa: SLF001
