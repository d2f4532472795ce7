"""An exception at one line of ours, or at one call: what a signal, a cancellation or a full memory does at any moment.

`points` runs something once and notes which lines of askonce it passes through and which functions it enters, in this
thread. `raising` runs it again, and raises at one of them. The interpreter's tracing does both, so that what is not ours
(the standard library, a client, a test) is never cut.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import askonce

OURS = str(Path(askonce.__file__).parent)


class Point(NamedTuple):
    """A moment of a run: before the `nth` time that a line of ours runs, or a function of ours is entered."""

    file: str
    line: int
    event: str  # line or call
    nth: int

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)[1:]}:{self.line} ({self.event} {self.nth})"


class _Trace:
    """A trace function that tells of each moment in a file of ours."""

    def __init__(self, met: Callable[[str, int, str], object], within: str) -> None:
        self._met = met
        self._within = within
        self._known: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        ours = self._known.get(code)
        if ours is None:
            ours = self._known[code] = code.co_filename.startswith(self._within)
        if not ours:
            return None
        if event in {"line", "call"}:
            self._met(code.co_filename, frame.f_lineno, event)
        return self


@contextmanager
def tracing(met: Callable[[str, int, str], object], within: str = OURS) -> Iterator[None]:
    """Call `met` at each moment of this thread."""
    before = sys.gettrace()
    sys.settrace(_Trace(met, within))
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def noting(most: int = 1, within: str = OURS) -> Iterator[list[Point]]:
    """Note the points that are passed, each of a line's first `most` times."""
    counts: Counter[tuple[str, int, str]] = Counter()
    found: list[Point] = []

    def met(file: str, line: int, event: str) -> None:
        moment = (file, line, event)
        counts[moment] += 1
        if counts[moment] <= most:
            found.append(Point(*moment, counts[moment]))

    with tracing(met, within):
        yield found


class Injection:
    """One exception, at one point; `done` when it was raised."""

    def __init__(self, point: Point, error: type[BaseException]) -> None:
        self.point = point
        self.error = error
        self.done = False
        self._left = point.nth

    def met(self, *moment: Any) -> None:
        """Raise, if this is the moment."""
        if self.done or moment != self.point[:3]:
            return
        self._left -= 1
        if not self._left:
            self.done = True
            raise self.error(f"injected at {self.point}")


@contextmanager
def raising(point: Point, error: type[BaseException], within: str = OURS) -> Iterator[Injection]:
    """Raise at that point of what runs inside."""
    injection = Injection(point, error)
    with tracing(injection.met, within):
        yield injection
