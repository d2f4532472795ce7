"""The places of a memory's entries (core.eviction): which one is evicted next, and which ones were evicted lately."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from askonce.core.eviction import MOVES, OVERHEAD, Candidate, chosen, frequency, oldest_ghost, stored

GHOST = 128  # bytes that a ghost costs
_SLACK = 64  # places that are out of date and stay in the heap


class Places:
    """The places and frequencies of entries by their names. The memory's lock is held while its methods run."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._heap: list[tuple[int, bytes]] = []  # an entry that moved or was dropped is still here, and is skipped
        self._frequencies: dict[bytes, int] = {}
        self._evicted = 0  # bytes, since this memory was made
        self._level = 0  # the highest place that was evicted
        self.ghosts: dict[int, int] = {}  # the number of an entry: `_evicted` when it was evicted

    def store(self, name: bytes, worth: int, now: int) -> None:
        """Give a place to an entry that is stored. One that replaces another falls behind it in nothing."""
        known = self.ghosts.pop(_number(name), None) is not None
        place = stored(self._level, worth, now, known=known)
        self._put(name, max(place, self._places.get(name, 0)))

    def visit(self, name: bytes, times: int) -> None:
        """Add visits to an entry."""
        self._frequencies[name] = frequency(self._frequencies.get(name, 0), times)

    def drop(self, name: bytes) -> None:
        """Forget an entry that was deleted."""
        self._places.pop(name, None)
        self._frequencies.pop(name, None)

    def victim(self, worth_of: Callable[[bytes], int], now: int) -> bytes | None:
        """The next entry to evict; None if there is none. Those that are reached before, and were visited, move."""
        patience = MOVES
        while self._clean():
            place, name = self._heap[0]
            one = Candidate(name, place, 1, self._frequencies.get(name, 0))
            victims, moved, patience = chosen([one], 1, worth_of, now, patience)
            if victims:
                return name
            for again in moved:
                self._frequencies[name] = again.frequency
                self._put(name, again.place)
        return None

    def evict(self, name: bytes, size: int) -> None:
        """Forget an entry that is evicted, except that it was."""
        self._level = max(self._level, self._places.get(name, 0))
        self.drop(name)
        self._evicted += size + OVERHEAD
        self.ghosts[_number(name)] = self._evicted

    def forget(self, room: int) -> None:
        """Drop the ghosts of entries that were evicted long ago."""
        oldest = oldest_ghost(self._evicted, room)
        while self.ghosts and self.ghosts[first := next(iter(self.ghosts))] <= oldest:
            del self.ghosts[first]

    def _put(self, name: bytes, place: int) -> None:
        self._places[name] = place
        heapq.heappush(self._heap, (place, name))
        if len(self._heap) > 2 * len(self._places) + _SLACK:
            self._heap = [(place, name) for name, place in self._places.items()]
            heapq.heapify(self._heap)

    def _clean(self) -> bool:
        """Make the lowest place the first of the heap; return whether there is one."""
        while self._heap and self._places.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return bool(self._heap)


def _number(name: bytes) -> int:
    return int.from_bytes(name[-7:], "big")  # the end of the digest, and the form
