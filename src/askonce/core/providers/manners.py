"""What a client learns of its hosts: whether they answer under the names, and repeat the ids, that they are asked with.

A gateway may call a model what it likes. One that answered rightly before and now differs has brought another request's
answer, or its operator has moved the name meanwhile; who moves a name says so every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

IN_A_ROW = 16  # answers that differ in the same way, and none right among them, after which that is what is right
KEPT = 1024  # of each kind of thing

Line = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")


class Manners:
    """What was learned, within bounds. Threads that learn at once may lose a line, which is learned again."""

    def __init__(self) -> None:
        self._asked: dict[str, dict[str, None]] = {}
        self._sent: dict[str, None] = {}
        self._learned: dict[Line, _Learned] = {}

    def going(self, where: str, model: str, ids: Iterable[str]) -> None:
        """A request goes upstream: `where` it goes, for which model, with ids of its own."""
        _kept(_kept(self._asked, where, {}), model, None)
        for one in ids:
            _kept(self._sent, one, None)

    @property
    def ids(self) -> bool:
        """Whether a request went upstream with an id of its own."""
        return bool(self._sent)

    def asked(self, where: str) -> list[str]:
        """The models that were asked for there."""
        return [*self._asked.get(where, ())]

    def sent(self, text: str) -> bool:
        """Whether it is the id of a request that went upstream."""
        return text in self._sent

    def knows(self, line: Line) -> bool:
        """Whether an answer was right in this respect before."""
        return self._learned.get(line, _NOTHING).right

    def right(self, line: Line) -> None:
        """An answer was right in this respect."""
        if self._learned.get(line) != _RIGHT:
            _put(self._learned, line, _RIGHT)

    def wrong(self, line: Line, how: str) -> bool:
        """An answer differed in this respect, in this way; whether that is wrong, and not what is right now."""
        was = self._learned.get(line, _NOTHING)
        times = was.times + 1 if was.how == how else 1
        _put(self._learned, line, _Learned(was.right, how, times))
        return times <= IN_A_ROW


class _Learned(NamedTuple):
    """`right`: it was once. `how`: it differed last, so many `times` in a row."""

    right: bool
    how: str = ""
    times: int = 0


_NOTHING, _RIGHT = _Learned(right=False), _Learned(right=True)


def _kept(into: dict[K, V], name: K, value: V) -> V:
    found = into.get(name)
    return _put(into, name, value) if found is None else found


def _put(into: dict[K, V], name: K, value: V) -> V:
    if len(into) >= KEPT and name not in into:
        into.clear()
    into[name] = value
    return value
