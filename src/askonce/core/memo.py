"""A Memo keeps computed values by key; all memos of a process share one budget of bytes.

A bound for each memo bounds nothing: each plan of a cache has a memo, and each tenant has a plan. A value in a memo can
be computed again, so when the budget is spent all memos are emptied. That needs no order of use on the hit path.
"""

from __future__ import annotations

import weakref
from typing import TypeVar

BUDGET = 16 * 2**20  # bytes: keys, and an estimate of the rest
PIECE = 1_000  # bytes that one item costs beside its key, unless its memo says otherwise

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """A dict that is emptied when it holds `most` items, or when all memos together exceed the budget.

    `piece`: the bytes that one item costs beside its key.
    """

    __slots__ = ("__weakref__", "_most", "_piece", "_spent")
    __hash__ = object.__hash__  # type: ignore[assignment]  # by identity: it is counted, and never a key

    def __init__(self, most: int, piece: int = PIECE) -> None:
        super().__init__()
        self._most = most
        self._piece = piece
        self._spent = 0
        _memos.add(self)  # type: ignore[arg-type]

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep `value` under a key of `size` bytes."""
        if key not in self:
            if len(self) >= self._most:
                _spend(-self.forget())
            _spend(size + self._piece)
            self._spent += size + self._piece
        self[key] = value

    def forget(self) -> int:
        """Forget everything; return the bytes that it took."""
        self.clear()
        spent, self._spent = self._spent, 0
        return spent


_memos: weakref.WeakSet[Memo[object, object]] = weakref.WeakSet()
_spent = 0


def _spend(size: int) -> None:
    global _spent  # noqa: PLW0603 - one for the process is the point; two threads that add at once err by one piece
    if _spent + size > BUDGET:
        for one in list(_memos):
            one.forget()
        _spent = 0
    _spent += size
