"""Counts by labels, within bounds: what others send must not make a metric grow.

A label has a limit of different values; all others are counted as OTHER. A value that stands for answers (a hit, or a
stored answer) takes the place of one that never had an answer, so that a caller who invents names cannot hide real
ones. Text that looks like a secret is never a label.

There are no locks: a lookup of a signal handler or a finaliser may come in the middle. Each step is one of a dict's
atomic methods, or an addition, at which Python does not switch threads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from askonce.core.labels import looks_secret
from askonce.events import printable

OTHER = "other"
VALUES = 100  # different values of a label
ROWS = 2000  # different combinations of a metric's labels
LONGEST = 200  # characters of a value

Row = tuple[str, ...]


def presentable(text: str) -> str:
    """A text as the value of a label: printable, without surrogates; OTHER if it is long or looks like a secret."""
    if len(text) > LONGEST or looks_secret(text):
        return OTHER
    return printable(text)


class LabelValues:
    """The values of one label that are counted apart. `proven`: those that ever stood for an answer."""

    def __init__(self, limit: int = VALUES) -> None:
        self._limit = limit
        self._proven: dict[str, bool] = {}
        self._on_gone: list[Callable[[str], object]] = []

    def on_gone(self, act: Callable[[str], object]) -> None:
        """Call `act` with each value that loses its place."""
        self._on_gone.append(act)

    def of(self, text: str, *, proven: bool = False) -> str:
        """The value that a text is counted under."""
        text = presentable(text)
        if text in self._proven:
            self._proven[text] |= proven
        elif len(self._proven) < self._limit or (proven and self._displace()):
            self._proven[text] = proven
        else:
            return OTHER
        return text

    def _displace(self) -> bool:
        """Make room for a proven value; False if all values are proven."""
        for text, proven in list(self._proven.items()):
            if not proven:
                self._proven.pop(text, None)
                for act in self._on_gone:
                    act(text)
                return True
        return False

    def clear(self) -> None:
        """Forget all values."""
        self._proven.clear()


class Series:
    """Counts by rows of labels. A label of None takes any value: it comes from a closed list."""

    def __init__(self, *labels: LabelValues | None, limit: int = ROWS) -> None:
        self.counts: dict[Row, float] = {}
        self._owed: dict[Row, float] = {}
        self._labels = labels
        self._limit = limit
        for at, label in enumerate(labels):
            if label is not None:
                label.on_gone(lambda text, at=at: self._fold(at, text))  # type: ignore[misc]  # bound at once

    def add(self, row: Row, by: float = 1, *, proven: bool = False) -> None:
        """Count `by` more. The row is in `counts` itself after its first time, unless it is counted as OTHER."""
        while True:  # another thread may take the row away before it is counted in
            try:
                self.counts[row] += by
            except KeyError:
                row = self.row_of(row, proven=proven)
                self.counts.setdefault(row, 0)
            else:
                return

    def clear(self) -> None:
        """Begin anew."""
        self.counts.clear()
        self._owed.clear()

    def settle(self, row: Row, by: float) -> None:
        """`add` for one thread, which may also take back: less than nothing is owed until more comes, for a counter
        never goes down.
        """
        owed = self._owed.pop(row, 0) + by
        if owed < 0:
            self._owed[row] = owed
        else:
            self.add(row, owed, proven=True)

    def row_of(self, row: Row, *, proven: bool = False) -> Row:
        """The row that another is counted in."""
        made = tuple(
            text if label is None else label.of(text, proven=proven)
            for text, label in zip(row, self._labels, strict=True)
        )
        if made in self.counts or len(self.counts) < self._limit:
            return made
        return tuple(text if label is None else OTHER for text, label in zip(row, self._labels, strict=True))

    def _fold(self, at: int, text: str) -> None:
        """Count the rows that have this value at this place as OTHER from now on."""
        for row in [row for row in list(self.counts) if row[at] == text]:
            there = (*row[:at], OTHER, *row[at + 1 :])
            moved = self.counts.pop(row, 0)  # a line of its own: in an addition, Python may switch threads at a call
            self.counts.setdefault(there, 0)
            self.counts[there] += moved


class Durations:
    """Histograms of seconds by one label; `bounds`: the upper bounds of the buckets, ascending, without +Inf."""

    def __init__(self, bounds: Sequence[float], label: LabelValues | None) -> None:
        self.bounds = tuple(bounds)
        self.rows: dict[str, list[int]] = {}
        self.sums: dict[str, float] = {}
        self._label = label
        if label is not None:
            label.on_gone(self._fold)

    def observe(self, text: str, seconds: float) -> None:
        """Count one duration."""
        at = bisect_left(self.bounds, seconds)
        while True:  # as in Series.add
            try:  # all or nothing: without a call in between, no other thread runs
                row = self.rows[text]
                self.sums[text] += seconds
                row[at] += 1
            except KeyError:
                text = text if self._label is None else self._label.of(text)
                self.sums.setdefault(text, 0.0)
                self.rows.setdefault(text, [0] * (len(self.bounds) + 1))
            else:
                return

    def copied(self) -> dict[str, tuple[list[int], float]]:
        """The counts of the buckets, and the sum, by the label's value."""
        return {text: (buckets.copy(), self.sums.get(text, 0.0)) for text, buckets in self.rows.copy().items()}

    def _fold(self, text: str) -> None:
        gone = self.rows.pop(text, None)
        if gone is not None:
            there = self.rows.setdefault(OTHER, [0] * (len(self.bounds) + 1))
            for at, count in enumerate(gone):
                there[at] += count
            moved = self.sums.pop(text, 0.0)
            self.sums.setdefault(OTHER, 0.0)
            self.sums[OTHER] += moved
