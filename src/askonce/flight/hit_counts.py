"""The hits counted in this process, sent to the store, and the longer lives that follow from them.

They are sent in batches, one round trip each: a thousand hot keys must not delay a heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import NamedTuple

from askonce.core.heat import Warmth
from askonce.core.keys import Key
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PUSH = 1.0  # s that hits are gathered before they are sent
BATCH = 128  # keys


class _Told(NamedTuple):
    key: Key
    warmth: Warmth
    slid: Callable[[Key], None]


class HitCounts:
    """The hits to send. `add` may come from any thread and takes no lock; the background thread calls the rest."""

    def __init__(self) -> None:
        self._warm: dict[Key, tuple[Warmth, Callable[[Key], None]]] = {}
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._warm)

    def add(self, key: Key, warmth: Warmth, slid: Callable[[Key], None]) -> bool:
        """Add a key whose hits are to be sent within a second. True if it is the first."""
        first = not self._warm
        self._warm[key] = (warmth, slid)
        if first:
            self._next = time.monotonic() + PUSH
        return first

    def due(self) -> float:
        """Seconds until there is something to send; inf if there is nothing."""
        return self._next - time.monotonic() if self._warm else float("inf")

    def send(self, store: Store) -> None:
        """Send one batch, oldest first. What the store does not take is dropped: it is a count, not an answer."""
        some = [_Told(key, *self._warm.pop(key)) for key in list(islice(list(self._warm), BATCH))]
        counts = [partial(_count, one.key, one.warmth.taken(), one.warmth.window) for one in some]
        said = drive(store.together(counts))
        hot = [one for one, hits in zip(some, said, strict=True) if _reached(hits, one.warmth)]
        slides = [(one, slide) for one in hot if (slide := one.warmth.slide()) is not None]
        if not slides:
            return
        done = drive(store.together([partial(_slide, one.key, one.warmth, slide) for one, slide in slides]))
        for (one, _), longer in zip(slides, done, strict=True):
            if longer is True:
                one.slid(one.key)

    def forget(self, lost: Callable[[Key], bool]) -> None:
        """Drop what was gathered for keys that are lost: their primary takes no writes."""
        for key in filter(lost, list(self._warm)):
            warmth, _ = self._warm.pop(key)
            warmth.taken()


async def _count(key: Key, hits: int, window: int, store: Store) -> int:
    return await store.count(key, hits, window)


async def _slide(key: Key, warmth: Warmth, slide: tuple[int, int], store: Store) -> bool:
    return await store.extend(key, warmth.head.fill, warmth.head.order, *slide)


def _reached(hits: int | StoreTrouble, warmth: Warmth) -> bool:
    return isinstance(hits, int) and hits >= warmth.terms.hot_threshold
