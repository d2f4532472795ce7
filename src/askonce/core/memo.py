"""A Memo keeps what was worked out of something, to find it again by that; all memos of a process share one budget.

A bound for each is none: a cache has a memo for each plan, and a plan for each tenant. What is in a memo can be worked
out again, so when the budget is spent all of them are emptied, which needs no order to be kept on the way of a hit.
"""

from __future__ import annotations

import weakref
from typing import TypeVar

BUDGET = 16 * 2**20  # bytes, keys and a guess at the rest
PIECE = 1_000  # bytes that one thing kept costs beside its key

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """A dict that is emptied when it holds `most` things, or all memos together too many bytes."""

    __slots__ = ("__weakref__", "_most")
    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity: it is counted, and never a key

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep `value` under a key of so many bytes."""
        if len(self) >= self._most:
            self.clear()
        _spend(self, size + PIECE)
        self[key] = value


_memos: weakref.WeakSet[Memo[object, object]] = weakref.WeakSet()
_spent = 0


def _spend(memo: Memo[K, V], size: int) -> None:
    global _spent  # noqa: PLW0603 - one for the process is the point; two threads that add at once err by one piece
    if _spent + size > BUDGET:
        _spent = 0
        for one in list(_memos):
            one.clear()
    _spent += size
    _memos.add(memo)  # type: ignore[arg-type]
