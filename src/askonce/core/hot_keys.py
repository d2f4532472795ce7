"""Which keys are hot: hits are counted in each process and reported to the store in batches.

A hit costs a dict look-up and an addition, and no access to the store. A key whose hits reach a fifth of the threshold
is handed on once, to be reported; the store decides by the sum over all processes. So a key is seen as hot late by less
than a fifth of the threshold for each process. One process alone is exact if the threshold is a multiple of the batch.
A key that needs more than half a window for a batch is not hot and is forgotten.

A store that evicts also wants to know which entries were used at all (core.eviction). Up to three uses of an entry are
noted between two times that the store is told. More would change nothing, so the next hits cost one comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from askonce.core.eviction import MOST
from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.policy import Terms

KEPT = 50_000  # keys counted at once; beyond that, counting restarts
NEVER = MOST  # visits of a key whose store does not want to know


class KeyHits:
    """The unreported hits of one key, and its entry as last seen."""

    __slots__ = ("batch", "handed", "head", "hits", "now", "since", "terms", "visits")

    def __init__(self, head: Head, terms: Terms, now: int, visits: int = NEVER) -> None:
        self.hits = 0
        self.visits = visits  # noted and not told
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
        """How far its life may slide and its hard end, ms; None while more than half a slide is left.

        None also for lookups of a longer ttl than that of the entry, whose writer limited it.
        """
        hot_ttl, ttl = int(self.terms.hot_ttl * 1000), int(self.terms.ttl * 1000)
        if not self.head.slides or ttl > self.head.ttl or self.head.fresh - self.now >= hot_ttl >> 1:
            return None
        return hot_ttl, int(self.terms.max_age * 1000)


class Visits:
    """The visits that a store was not told of yet. `note` may come from any thread and takes no lock."""

    def __init__(self) -> None:
        self._untold: dict[Key, KeyHits] = {}
        self._awaited = False  # whether somebody knows that there is something to tell

    def __len__(self) -> int:
        return len(self._untold)

    def note(self, key: Key, key_hits: KeyHits) -> bool:
        """Note a visit. True if it is the first since `take`: the caller sees to it that the store is told."""
        key_hits.visits += 1
        if len(self._untold) < KEPT:
            self._untold[key] = key_hits
        awaited, self._awaited = self._awaited, True
        return not awaited

    def take(self, count: int) -> list[tuple[Key, int]]:
        """The visits of up to `count` keys, oldest first, to be told to the store. It counts anew from here on."""
        self._awaited = False
        taken = []
        for key in list(islice(list(self._untold), count)):
            if key_hits := self._untold.pop(key, None):  # another thread may take too
                taken.append((key, key_hits.visits))
                key_hits.visits = 0
        return taken


class HotKeys:
    """The hits of one process that are not reported yet.

    `visits`: where they are noted for a store that evicts. `tell` is called when there is something to tell it.
    """

    def __init__(self, visits: Visits | None = None, tell: Callable[[], None] = lambda: None) -> None:
        self._keys: dict[Key, KeyHits] = {}
        self._visits = visits
        self._tell = tell
        self._untold = NEVER if visits is None else 0

    def hit(self, key: Key, head: Head, terms: Terms, now: int) -> KeyHits | None:
        """Count a hit at `now` (ms, the store's clock); return the key's KeyHits when it is due to be reported.

        A race between threads may lose a hit, which makes a key hot a moment later. A lock would slow every hit.
        """
        key_hits = self._keys.get(key)
        if key_hits is None:
            if len(self._keys) >= KEPT:
                self._keys.clear()
            key_hits = self._keys[key] = KeyHits(head, terms, now, self._untold)
        if not key_hits.hits or now - key_hits.since > terms.hot_window * 500:
            key_hits.hits, key_hits.since, key_hits.terms = 0, now, terms
        key_hits.hits += 1
        key_hits.head, key_hits.now = head, now
        if key_hits.visits < MOST and self._visits is not None and self._visits.note(key, key_hits):
            self._tell()
        if key_hits.handed or key_hits.hits < key_hits.batch:
            return None
        key_hits.handed = True
        return key_hits
