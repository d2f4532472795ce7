"""The hits counted in this process, sent to the store, and the longer lives that follow from them.

They are sent in batches, one round trip each: a thousand hot keys must not delay a heartbeat.

A store that evicts is also told which entries were visited, about once a second while there is something to tell, and a
bounded number: a process with very many hot keys tells each of them more rarely.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from itertools import islice

from askonce.core.hot_keys import KeyHits, Visits
from askonce.core.keys import Key
from askonce.core.providers.named_tuples import NamedTuple
from askonce.flight.schedule import Schedule
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PUSH = 1.0  # s that hits are gathered before they are sent
BATCH = 128  # keys
TOLD = 1024  # keys whose visits are told at a time: some milliseconds


class _Told(NamedTuple):
    key: Key
    key_hits: KeyHits
    slid: Callable[[Key], None]


class HitCounts:
    """The hits to send. `add` may come from any thread and takes no lock; the background thread calls the rest."""

    def __init__(self, visits: Visits | None, start: Callable[[], None]) -> None:
        self._warm: dict[Key, tuple[KeyHits, Callable[[Key], None]]] = {}
        self._visits = visits
        self._schedule = Schedule(start)
        self._telling = Schedule(start)
        if visits is not None:
            visits.take(0)  # so that the next one is reported here, and not to a thread that ended

    def __len__(self) -> int:
        return len(self._warm)

    def add(self, key: Key, key_hits: KeyHits, slid: Callable[[Key], None]) -> None:
        """Add a key whose hits are to be sent within a second."""
        first = not self._warm
        self._warm[key] = (key_hits, slid)
        if first:
            self._schedule.begin(PUSH)

    def visited(self) -> None:
        """There are visits to tell, within a second."""
        self._telling.begin(PUSH)

    def due(self) -> float:
        """Seconds until there is something to send; inf if there is nothing."""
        return min(self._tell_due(), self._schedule.due(gathered=bool(self._warm)))

    def _tell_due(self) -> float:
        return self._telling.due(gathered=bool(self._visits))

    def send(self, store: Store) -> None:
        """Send one batch, oldest first. What the store does not take is dropped: it is a count, not an answer."""
        if self._tell_due() <= 0:
            self._tell_visits(store)
        elif self._warm:
            self._send_counts(store)

    def _tell_visits(self, store: Store) -> None:
        with contextlib.suppress(StoreTrouble):
            drive(store.tell(TOLD))
        if self._visits:
            self.visited()

    def _send_counts(self, store: Store) -> None:
        some = [_Told(key, *self._warm.pop(key)) for key in list(islice(list(self._warm), BATCH))]
        counts = [partial(_count, one.key, one.key_hits.taken(), one.key_hits.window) for one in some]
        said = drive(store.together(counts))
        hot = [one for one, hits in zip(some, said, strict=True) if _reached(hits, one.key_hits)]
        slides = [(one, slide) for one in hot if (slide := one.key_hits.slide()) is not None]
        if not slides:
            return
        done = drive(store.together([partial(_slide, one.key, one.key_hits, slide) for one, slide in slides]))
        for (one, _), longer in zip(slides, done, strict=True):
            if longer is True:
                one.slid(one.key)

    def forget(self, lost: Callable[[Key], bool]) -> None:
        """Drop what was gathered for keys that are lost: their primary takes no writes."""
        for key in filter(lost, list(self._warm)):
            key_hits, _ = self._warm.pop(key)
            key_hits.taken()
        if self._visits and any(lost(key) for key, _ in self._visits.take(TOLD)):
            self._visits.take(len(self._visits))


async def _count(key: Key, hits: int, window: int, store: Store) -> int:
    return await store.count(key, hits, window)


async def _slide(key: Key, key_hits: KeyHits, slide: tuple[int, int], store: Store) -> bool:
    return await store.extend(key, key_hits.head.fill, key_hits.head.order, *slide)


def _reached(hits: int | StoreTrouble, key_hits: KeyHits) -> bool:
    return isinstance(hits, int) and hits >= key_hits.terms.hot_threshold
