"""Which keys are hot: hits are counted in each process and reported to the store in batches.

A hit costs a dict look-up and an addition, and no access to the store. A key whose hits reach a fifth of the threshold
is handed on once, to be reported; the store decides by the sum over all processes. So a key is seen as hot late by less
than a fifth of the threshold for each process. One process alone is exact if the threshold is a multiple of the batch.
A key that needs more than half a window for a batch is not hot and is forgotten.
"""

from __future__ import annotations

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.policy import Terms

KEPT = 50_000  # keys counted at once; beyond that, counting restarts


class Warmth:
    """The unreported hits of one key, and its entry as last seen."""

    __slots__ = ("batch", "handed", "head", "hits", "now", "since", "terms")

    def __init__(self, head: Head, terms: Terms, now: int) -> None:
        self.hits = 0
        self.since = self.now = now
        self.batch = max(1, terms.hot_threshold // 5)
        self.handed = False  # for reporting
        self.head = head
        self.terms = terms

    def taken(self) -> int:
        """The hits so far, to be reported; the count restarts at 0."""
        hits, self.hits, self.handed = self.hits, 0, False
        return hits

    @property
    def window(self) -> int:
        """The window in which hits are counted, ms."""
        return int(self.terms.hot_window * 1000)

    def slide(self) -> tuple[int, int] | None:
        """How far its life may slide and its hard end, ms; None while more than half a slide is left."""
        hot_ttl = int(self.terms.hot_ttl * 1000)
        if not self.head.slides or self.head.fresh - self.now >= hot_ttl >> 1:
            return None
        return hot_ttl, int(self.terms.max_age * 1000)


class Heat:
    """The hits of one process that are not reported yet."""

    def __init__(self) -> None:
        self._keys: dict[Key, Warmth] = {}

    def hit(self, key: Key, head: Head, terms: Terms, now: int) -> Warmth | None:
        """Count a hit at `now` (ms, the store's clock); return the key's Warmth when it is due to be reported.

        A race between threads may lose a hit, which makes a key hot a moment later. A lock would slow every hit.
        """
        warmth = self._keys.get(key)
        if warmth is None:
            if len(self._keys) >= KEPT:
                self._keys.clear()
            warmth = self._keys[key] = Warmth(head, terms, now)
        if not warmth.hits or now - warmth.since > terms.hot_window * 500:
            warmth.hits, warmth.since, warmth.terms = 0, now, terms
        warmth.hits += 1
        warmth.head, warmth.now = head, now
        if warmth.handed or warmth.hits < warmth.batch:
            return None
        warmth.handed = True
        return warmth
