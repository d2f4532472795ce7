"""A Write: a verb that waits for a transaction. Those of tasks that wait together share one.

A transaction costs a pair of statements, a page of the log and its locks, whatever is done in it. So of many tasks that
ask at once, a verb costs each a fraction. None of them waits longer for that: only what waits already is joined.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from askonce.store.sqlite.file import File

T = TypeVar("T")


class Write(Generic[T]):
    """`work` for one transaction of a file, asked for at `asked` (monotonic s); see File.transaction for `share`."""

    __slots__ = ("_file", "asked", "share", "work")

    def __init__(self, file: File, work: Callable[[sqlite3.Connection], T], asked: float, share: float) -> None:
        self._file = file
        self.work = work
        self.asked = asked
        self.share = share

    def __call__(self) -> T:
        """Do it in its own transaction."""
        return self._file.transaction(self.work, self.asked, share=self.share)

    def joins(self, other: object) -> bool:
        """Whether both may be done in one transaction: they have the same file, and may fill its log as far."""
        return isinstance(other, Write) and other._file is self._file and other.share == self.share  # noqa: SLF001

    def with_others(self, writes: Sequence[Write[Any]]) -> list[Any]:
        """Do all of them in one transaction, wholly or not at all."""
        asked = min(write.asked for write in writes)
        return self._file.transaction(
            lambda connection: [write.work(connection) for write in writes], asked, share=self.share
        )
