"""Fresh headers: a header whose value is new each time the same request comes again, so that no request can be a hit.

No list knows every id that programs send. So a client notes here the headers it counts, and is told the name of a
header whose value was new AGAIN times in a row, for the same URL and body. A value that came back in between is the id
of a user, not of a call.

AGAIN is 5, so the sixth identical request reports the header. Up to five users in turn never cause a report; ten random
users cause one in six runs, and only while all are new. A higher AGAIN would report nothing in runs of a few calls,
where people search for the reason of their misses.

Memory is bounded: forgetting only delays a report. Two threads that note at once may lose a count, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

AGAIN = 5
REQUESTS, NAMES, VALUES = 1024, 16, 256  # kept, at most twice as many: about 2 MB if all of it is used
TOLD = 64  # names reported

Headers = Callable[[], Iterable[tuple[str, Hashable]]]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A dict of recently used items: at least `size` of them, at most twice as many."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value, which is then kept for longer; None if absent."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Store a value; an old one may be dropped."""
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = value


@dataclass(slots=True)
class _Request:
    """A request seen before: when it last came, and each header's last value and how often in a row it was new."""

    last: int
    carried: int
    headers: dict[str, tuple[int, int]]


class FreshHeaders:
    """What one client sent lately, as digests from which no value can be read."""

    def __init__(self) -> None:
        self._requests: Recent[int, _Request] = Recent(REQUESTS)
        self._carried: Recent[int, int] = Recent(REQUESTS)  # by all that a request carries: when it first came
        self._first: Recent[str, Recent[int, int]] = Recent(NAMES)  # by name and value: when it first came
        self._reported: set[str] = set()
        self._clock = 0

    def note(self, request: Hashable, carried: Hashable, headers: Headers) -> list[str]:
        """Note a request and its headers; return the names of headers found to be fresh, each reported once."""
        self._clock = now = self._clock + 1
        met, whole = self._requests.get(which := hash(request)), hash(carried)
        since = self._carried.get(whole)
        if since is None:
            self._carried.put(whole, now)
        elif met is None or since <= met.last:  # the usual case: nothing is new, and no header is looked at
            return self._again(met, whole, now)
        values = _merged(headers())
        first = {name: self._since(name, value, now) for name, value in values.items()}
        if met is None:
            self._requests.put(which, _Request(now, whole, {name: (value, 0) for name, value in values.items()}))
            return []
        met.headers = {name: _counted(met, name, value, first[name]) for name, value in values.items()}
        met.last, met.carried = now, whole
        return [name for name, (_, again) in met.headers.items() if again >= AGAIN and self._report(name)]

    @staticmethod
    def _again(met: _Request | None, whole: int, now: int) -> list[str]:
        """Note a request that came before; a retry with the same values ends no row."""
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

    def _report(self, name: str) -> bool:
        if name in self._reported or len(self._reported) >= TOLD:
            return False
        self._reported.add(name)
        return True


def _merged(headers: Iterable[tuple[str, Hashable]]) -> dict[str, int]:
    """One digest for each name; a header may come in several lines."""
    values: dict[str, int] = {}
    for name, value in headers:
        values[name] = hash((values.get(name), value))
    return values


def _counted(met: _Request, name: str, value: int, first: int) -> tuple[int, int]:
    before, again = met.headers.get(name, (value, 0))
    if value == before:  # a retry, or another call of the same session
        return value, again
    return value, again + 1 if first > met.last else 0
