"""Which keys are hot: hits counted where they happen, told to the store in batches.

A hit costs a dict look-up and an addition here, and nothing in the store. A key that has gathered a fifth part of its
threshold is handed on, once, to whoever tells the store; there the sum over all processes decides. So the fleet sees a
key late by less than a fifth of the threshold for each process that has it, and one process alone is exact wherever the
threshold is a multiple of the batch. What gathers slower than a batch in half a window is forgotten: it is not hot.
"""

from __future__ import annotations

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.policy import Terms

KEPT = 50_000  # keys counted at once; over that, counting starts afresh


class Warmth:
    """The hits of one key that the store was not told of, and its entry as it was last seen."""

    __slots__ = ("batch", "handed", "head", "hits", "now", "since", "terms")

    def __init__(self, head: Head, terms: Terms, now: int) -> None:
        self.hits = 0
        self.since = self.now = now
        self.batch = max(1, terms.hot_threshold // 5)
        self.handed = False  # to whoever tells the store
        self.head = head
        self.terms = terms

    def taken(self) -> int:
        """The hits so far, to be told to the store; counting goes on from none."""
        hits, self.hits, self.handed = self.hits, 0, False
        return hits

    @property
    def window(self) -> int:
        """Over which hits are counted, ms."""
        return int(self.terms.hot_window * 1000)

    def slide(self) -> tuple[int, int] | None:
        """By how much its life may slide, and its hard end, ms; None while more than half a slide is left of it."""
        hot_ttl = int(self.terms.hot_ttl * 1000)
        if not self.head.slides or self.head.fresh - self.now >= hot_ttl >> 1:
            return None
        return hot_ttl, int(self.terms.max_age * 1000)


class Heat:
    """The hits of one process that nobody was told of yet."""

    def __init__(self) -> None:
        self._keys: dict[Key, Warmth] = {}

    def hit(self, key: Key, head: Head, terms: Terms, now: int) -> Warmth | None:
        """Count a hit at `now` (ms, the store's clock); the key's Warmth when it is to be handed on.

        Not exact under threads: a hit lost to a race makes a key hot a moment later, and a lock would cost every hit.
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
