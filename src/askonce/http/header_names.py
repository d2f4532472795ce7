"""What the names of a message's headers say, worked out once for each sequence of names.

A provider sends the same twenty names again and again, and so does a client. So where several questions are asked about
each of them, the answers are remembered by the names, and only the values that matter are looked at. One plain loop
costs no more than to find what is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TypeVar

from askonce.http.credentials import Header

V = TypeVar("V")
Names = tuple[bytes, ...]

SHAPES = 256  # sequences of names that are remembered of one kind, and the largest of them: bytes
LARGEST = 8192
_OBJECT = 40  # bytes of a name beside its own

_name = itemgetter(0)


class Shapes(dict[Names, V]):
    """What `work` says of the sequences of names met so far; emptied when it is full."""

    def __init__(self, work: Callable[[Names], V]) -> None:
        super().__init__()
        self._work = work

    def of(self, headers: Sequence[Header]) -> V:
        """What the names of these headers say."""
        return self[tuple(map(_name, headers))]

    def __missing__(self, names: Names) -> V:
        found = self._work(names)
        if sum(map(len, names)) + _OBJECT * len(names) <= LARGEST:
            if len(self) >= SHAPES:
                self.clear()
            self[names] = found
        return found


class Places(Shapes[tuple[int, ...]]):
    """At which places those headers stand whose names pass a test."""

    def __init__(self, test: Callable[[bytes], object]) -> None:
        super().__init__(lambda names: tuple([at for at, name in enumerate(names) if test(name)]))
