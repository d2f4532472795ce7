"""Fresh headers: those whose value is new whenever the same request comes again, so that none of them can be a hit.

No list knows every id that somebody's program sends along. So whoever counts headers notes here what it counted, and is
told the name of one that was new AGAIN times in a row: at the same URL, with the same body, and each time with a value
that had not been there before the time before. The last part tells ids of calls from ids of users: those come back, be
it with another question.

AGAIN is 5, so the sixth identical request is the one that tells. Up to five users who take turns never cause it; ten at
random do so once in six times, and only while all are new. More would spare them, and would say nothing in the runs of
a few calls in which people look for the reason of their misses.

Bounded: what is forgotten can only be told later. Two threads that note at once may lose a count, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

AGAIN = 5
REQUESTS, NAMES, VALUES = 1024, 16, 256  # kept in mind, twice as many at most: about 2 MB if all of it is used
TOLD = 64  # names

Headers = Callable[[], Iterable[tuple[str, Hashable]]]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A dict of what was used last: of `size` entries at least, and twice as many at most."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """What stands there, which stays the longer for it."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep in mind."""
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = value


@dataclass(slots=True)
class _Request:
    """A request met before: when it came last, with what, and of each header its value and how often it was new."""

    last: int
    carried: int
    headers: dict[str, tuple[int, int]]


class Freshness:
    """What one client has sent lately, by digests that hold no value."""

    def __init__(self) -> None:
        self._requests: Recent[int, _Request] = Recent(REQUESTS)
        self._carried: Recent[int, int] = Recent(REQUESTS)  # when all that a request carries first came together
        self._first: Recent[str, Recent[int, int]] = Recent(NAMES)  # by name and value: when it was first there
        self._told: set[str] = set()
        self._clock = 0

    def note(self, request: Hashable, carried: Hashable, headers: Headers) -> list[str]:
        """A request comes and carries something, in these headers; the names of those found to be fresh, each once."""
        self._clock = now = self._clock + 1
        met, whole = self._requests.get(which := hash(request)), hash(carried)
        since = self._carried.get(whole)
        if since is None:
            self._carried.put(whole, now)
        elif met is None or since <= met.last:  # nothing is new: by far the most, and the headers are not looked at
            return self._again(met, whole, now)
        values = _merged(headers())
        first = {name: self._since(name, value, now) for name, value in values.items()}
        if met is None:
            self._requests.put(which, _Request(now, whole, {name: (value, 0) for name, value in values.items()}))
            return []
        met.headers = {name: _counted(met, name, value, first[name]) for name, value in values.items()}
        met.last, met.carried = now, whole
        return [name for name, (_, again) in met.headers.items() if again >= AGAIN and self._tell(name)]

    @staticmethod
    def _again(met: _Request | None, whole: int, now: int) -> list[str]:
        """A request comes with what was there before; a retry, with what it had the last time, breaks no row."""
        if met is not None:
            if met.carried != whole:
                met.headers = {name: (value, 0) for name, (value, _) in met.headers.items()}
            met.last, met.carried = now, whole
        return []

    def _since(self, name: str, value: int, now: int) -> int:
        values = self._first.get(name)
        if values is None:
            self._first.put(name, values := Recent(VALUES))
        since = values.get(value)
        if since is None:
            values.put(value, since := now)
        return since

    def _tell(self, name: str) -> bool:
        if name in self._told or len(self._told) >= TOLD:
            return False
        self._told.add(name)
        return True


def _merged(headers: Iterable[tuple[str, Hashable]]) -> dict[str, int]:
    """One digest a name: a header that comes in several lines is one."""
    values: dict[str, int] = {}
    for name, value in headers:
        values[name] = hash((values.get(name), value))
    return values


def _counted(met: _Request, name: str, value: int, first: int) -> tuple[int, int]:
    before, again = met.headers.get(name, (value, 0))
    if value == before:  # a retry, or another call of the same session
        return value, again
    return value, again + 1 if first > met.last else 0
