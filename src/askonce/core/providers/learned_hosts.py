"""What a client learns of its hosts: whether they answer under the requested names and repeat the ids.

A gateway may give a model any name. If its answers matched before and one now differs, then that is another request's
answer, or the operator has moved the name; a moved name differs every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from askonce.core.providers.named_tuples import NamedTuple

IN_A_ROW = 16  # answers in a row that differ in the same way; after them that way is taken as right
KEPT = 1024  # of each kind

Line = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")


class LearnedHosts:
    """What was learned, within bounds. Threads that learn at once may lose a line, which is learned again."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[str, None]] = {}
        self._sent: dict[str, None] = {}
        self._learned: dict[Line, _Learned] = {}

    def going(self, where: str, model: str, ids: Iterable[str]) -> None:
        """Note a request that goes upstream: where, for which model, with which ids of its own."""
        _get_or_put(_get_or_put(self._asked, where, {}), model, None)
        for one in ids:
            _get_or_put(self._sent, one, None)

    @property
    def ids(self) -> bool:
        """Whether any request went upstream with an id of its own."""
        return bool(self._sent)

    def asked(self, where: str) -> list[str]:
        """The models that were requested there."""
        return [*self._asked.get(where, ())]

    def sent(self, text: str) -> bool:
        """Whether it is the id of a request that went upstream."""
        return text in self._sent

    def knows(self, line: Line) -> bool:
        """Whether an answer matched in this respect before."""
        return self._learned.get(line, _NOTHING).right

    def right(self, line: Line) -> None:
        """Note an answer that matched in this respect."""
        if self._learned.get(line) != _RIGHT:
            _put(self._learned, line, _RIGHT)

    def wrong(self, line: Line, how: str) -> bool:
        """Note an answer that differed in this respect, in this way; False if that way is now taken as right."""
        before = self._learned.get(line, _NOTHING)
        times = before.times + 1 if before.how == how else 1
        _put(self._learned, line, _Learned(before.right, how, times))
        return times <= IN_A_ROW


class _Learned(NamedTuple):
    """`right`: it matched once. `how`: the last difference, seen `times` times in a row."""

    right: bool
    how: str = ""
    times: int = 0


_NOTHING, _RIGHT = _Learned(right=False), _Learned(right=True)


def _get_or_put(into: dict[K, V], name: K, value: V) -> V:
    found = into.get(name)
    return _put(into, name, value) if found is None else found


def _put(into: dict[K, V], name: K, value: V) -> V:
    if len(into) >= KEPT and name not in into:
        into.clear()
    into[name] = value
    return value
