"""The observer: was any answer born before an invalidation that its lookup had to respect?

Promise 3: after `invalidate()` returned, no lookup that starts later, in any process, gets an answer whose call began
before `invalidate()` was called. Every call puts the moment at which it began into its answer; callers note when their
lookup began, and when they called `invalidate` and when it returned. All on the one monotonic clock of the machine, so
that the processes' notes can be laid over each other afterwards. Touching moments are no violation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class Lookup(NamedTuple):
    """A lookup of a question, and the birth of the answer it got."""

    question: int
    began: float
    born: float


class Invalidation(NamedTuple):
    """An acknowledged invalidation that reaches a question."""

    question: int
    called: float
    returned: float


def violations(lookups: Iterable[Lookup], invalidations: Iterable[Invalidation]) -> list[Lookup]:
    """The lookups that got what they must not."""
    returned: dict[int, list[float]] = defaultdict(list)
    latest: dict[int, list[float]] = defaultdict(list)  # of those returned so far, the last moment one was called
    for one in sorted(invalidations, key=lambda one: one.returned):
        before = latest[one.question][-1] if latest[one.question] else 0.0
        returned[one.question].append(one.returned)
        latest[one.question].append(max(before, one.called))
    return [one for one in lookups if _violates(one, returned[one.question], latest[one.question])]


def _violates(lookup: Lookup, returned: list[float], latest: list[float]) -> bool:
    before = bisect_left(returned, lookup.began)
    return before > 0 and lookup.born < latest[before - 1]
