"""Which keys are hot: hits counted where they happen, told to the store in batches.

A hit costs one dict operation here and nothing in the store. Every fifth part of the threshold that a key gathers is
handed on as a Warm, which the fleet thread adds to the key's count in the store; the sum there, over all processes,
decides. So the fleet sees a key late by less than a fifth of the threshold for each process that has it, and one
process alone is exact wherever the threshold is a multiple of the batch. What gathers slower than a batch in half a
window is forgotten: it is not hot.
"""

from __future__ import annotations

from typing import NamedTuple

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.policy import Terms

KEPT = 50_000  # keys counted at once; over that, counting starts afresh


class Warm(NamedTuple):
    """Hits to be added to a key's count; and the slide it gets if that makes it hot. Durations in ms."""

    hits: int
    window: int
    threshold: int
    fill: bytes
    order: int
    hot_ttl: int
    cap: int
    due: bool  # whether what is left of its life is less than half a slide


class Heat:
    """The hits of one process that nobody was told of yet."""

    def __init__(self) -> None:
        self._gathered: dict[Key, tuple[int, int]] = {}

    def hit(self, key: Key, head: Head, terms: Terms, now: int) -> Warm | None:
        """Count a hit at `now` (ms, the store's clock); a Warm when a batch is full. Not exact under threads: a
        hit lost to a race makes a key hot a moment later, and a lock would cost every hit.
        """
        hits, since = self._gathered.get(key, (0, now))
        window = int(terms.hot_window * 1000)
        if now - since > window >> 1:
            hits, since = 0, now
        hits += 1
        if hits < max(1, terms.hot_threshold // 5):
            if len(self._gathered) >= KEPT:
                self._gathered.clear()
            self._gathered[key] = (hits, since)
            return None
        self._gathered.pop(key, None)
        hot_ttl = int(terms.hot_ttl * 1000)
        due = head.fresh - now < hot_ttl >> 1
        return Warm(hits, window, terms.hot_threshold, head.fill, head.order, hot_ttl, int(terms.max_age * 1000), due)
