"""A judge that shows which credentials upstream accepted: those whose answer is one that may be stored.

A status of 200 would not show it. Some hosts answer a bad credential with an error in a 200, whole or in a stream. An
answer that upstream forbids to store shows it too, and is not stored if a rule obeys upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from askonce.core.judge import Judge, Verdict, refused
from askonce.http.credentials import Header

FORBIDDEN = "upstream-no-store"
_FORBID = frozenset({b"no-store", b"private"})


def forbids(headers: Iterable[Header]) -> bool:
    """Whether the headers of an answer say that a cache which several callers share may not store it."""
    said = (value for name, value in headers if name.lower() == b"cache-control")
    words = (word.partition(b"=")[0] for value in said for word in value.replace(b";", b",").split(b","))
    return not _FORBID.isdisjoint(word.strip(b' \t"').lower() for word in words)


def _unnoticed() -> None:
    """Nobody listens."""


if TYPE_CHECKING:
    _Base = Judge
else:
    _Base = object


class Accepting(_Base):
    """Judges, and calls `accepted` after each answer that may be stored. `forbidden`: upstream forbids to store it."""

    accepted: Callable[[], None] = staticmethod(_unnoticed)
    forbidden = False

    def reply(self, status: int, body: bytes, now: float) -> Verdict:
        """The verdict on a whole answer of HTTP."""
        return self._told(super().reply(status, body, now))

    def scanned(self, scan: Any, now: float) -> Verdict:
        """The verdict on a stream that was scanned to its end."""
        return self._told(super().scanned(scan, now))

    def _told(self, verdict: Verdict) -> Verdict:
        if verdict.reason:
            return verdict
        self.accepted()
        return refused(FORBIDDEN) if self.forbidden else verdict


_made: dict[type[Judge], type[Judge]] = {}


def accepting(kind: type[Judge]) -> type[Judge]:
    """A judge of this kind that also calls `accepted`."""
    if kind not in _made:
        _made[kind] = type(f"Accepting{kind.__name__}", (Accepting, kind), {})
    return _made[kind]
