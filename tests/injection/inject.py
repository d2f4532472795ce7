"""An exception at one line or one call of askonce: what a signal, a cancellation or full memory may cause at any
moment.

`points` runs something once, and notes which lines of askonce it passes and which functions it enters, in this thread.
`raising` runs it again and raises at one of them. Both use the interpreter's tracing, so that foreign code (the
standard library, a client, a test) is never interrupted.

An exception between the making of a coroutine and its first step leaves the coroutine to nobody. No code can avoid that,
and the interpreter warns when the coroutine is collected: perhaps in a later test. So a file of tests that injects has
INJECTS among its marks: what an injected exception left is collected in the same test.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ClassVar, NamedTuple

import pytest

import askonce

OURS = str(Path(askonce.__file__).parent)

INJECTS = (
    pytest.mark.usefixtures("contained"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
)

DEEP = 3  # lines of askonce that identify a place: the running one, and those that called it

Place = tuple[tuple[str, int], ...]  # of a file and a line each, the innermost first; and the event there


class Point(NamedTuple):
    """A moment of a run: before the `nth` time that a line of ours runs, or a function of ours is entered."""

    file: str
    line: int
    event: str  # line or call
    nth: int
    place: Place = ()

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)[1:]}:{self.line} ({self.event} {self.nth})"


class _Trace:
    """A trace function that tells of each moment in a file of ours."""

    def __init__(self, met: Callable[[FrameType, str], object], within: str) -> None:
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
            self._met(frame, event)
        return self


def traced(met: Callable[[FrameType, str], object], within: str = OURS) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that calls `met` at each moment."""
    return _Trace(met, within)


@contextmanager
def tracing(met: Callable[[FrameType, str], object], within: str = OURS) -> Iterator[None]:
    """Call `met` at each moment of this thread."""
    before = sys.gettrace()
    sys.settrace(_Trace(met, within))
    try:
        yield
    finally:
        sys.settrace(before)


def place_of(frame: FrameType | None, within: str) -> Place:
    """Where a frame is, and how it came there."""
    lines: list[tuple[str, int]] = []
    while frame is not None and len(lines) < DEEP:
        if frame.f_code.co_filename.startswith(within):
            lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)


def noted(found: list[Point], most: int, within: str) -> Callable[[FrameType, str], None]:
    """What notes points, at each place the first `most` of them."""
    times: Counter[tuple[str, int, str]] = Counter()
    places: Counter[tuple[Place, str]] = Counter()

    def met(frame: FrameType, event: str) -> None:
        moment = (frame.f_code.co_filename, frame.f_lineno, event)
        times[moment] += 1
        place = place_of(frame, within)
        places[place, event] += 1
        if places[place, event] <= most:
            found.append(Point(*moment, times[moment], place))

    return met


@contextmanager
def noting(most: int = 1, within: str = OURS) -> Iterator[list[Point]]:
    """Note the points that are passed, at each place the first `most` of them."""
    found: list[Point] = []
    with tracing(noted(found, most, within), within):
        yield found


class Injection:
    """One exception, at one point; `done` when it was raised."""

    raised: ClassVar[int] = 0  # by all of them, so far

    def __init__(self, point: Point, error: type[BaseException]) -> None:
        self.point = point
        self.error = error
        self.done = False
        self._left = point.nth

    def met(self, frame: FrameType, event: str) -> None:
        """Raise, if this is the moment."""
        point = self.point
        if self.done or frame.f_lineno != point.line or event != point.event:
            return
        if frame.f_code.co_filename != point.file:
            return
        self._left -= 1
        if not self._left:
            self.done = True
            Injection.raised += 1
            raise self.error(f"injected at {self.point}")


@contextmanager
def raising(point: Point, error: type[BaseException], within: str = OURS) -> Iterator[Injection]:
    """Raise at that point of what runs inside."""
    injection = Injection(point, error)
    with tracing(injection.met, within):
        yield injection


@contextmanager
def contained() -> Iterator[None]:
    """Collect, before this ends, what the exceptions injected inside left in reference cycles: in their tracebacks."""
    before = Injection.raised
    yield
    if Injection.raised > before:
        gc.collect()
