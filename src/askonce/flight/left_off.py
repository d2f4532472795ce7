"""Whether a flight ends because nobody wants it, as all who look for its callers and readers say it."""

from __future__ import annotations

from collections.abc import Callable

_CANCELLED = object()  # the mark of who cancels a call


class LeftOff:
    """True if a flight has no caller or reader, takes no other, and is being cancelled or closed.

    Each who looks whether it is wanted has a mark of its own. With one flag for all, who finds it wanted would take
    back what another has decided.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: dict[object, None] = {}

    def __bool__(self) -> bool:
        return bool(self._marks)

    def unless(self, wanted: Callable[[], object]) -> bool:
        """Leave it off for good, unless it is `wanted`: whether it is. May be asked by several threads at a time.

        It is said first, and then looked: who comes later finds that said, and takes another call.
        """
        mark = object()
        stays: object = True
        self._marks[mark] = None
        try:
            stays = wanted()
        finally:
            if stays:
                del self._marks[mark]
        return not stays

    def cancelled(self, so: bool = True) -> None:
        """Say that its call is being cancelled, or (`so` False) that it is not after all."""
        if so:
            self._marks[_CANCELLED] = None
        else:
            self._marks.pop(_CANCELLED, None)
