"""When a failing store is left alone: one breaker for each direction, so that none hides what another meets.

A successful read says nothing about writes (a full server, a replica). An open connection says nothing about the next
one (a wrong password, too many clients). The reverse also holds.

A refusal opens a breaker at once, because the store will repeat it. A timeout, a broken connection or an unknown
trouble opens a breaker when it happens twice in a row. Only a probe closes a breaker.
"""

from __future__ import annotations

from typing import Literal

Direction = Literal["read", "write", "connect"]

UNSURE = frozenset({"store-timeout", "store-closed", "store-error", "store-corrupt"})  # may be gone the next time
SILENT = frozenset({"store-timeout", "store-closed"})


class Breaker:
    """The breaker of one direction. While it is `open`, nothing is tried; `kind` is the trouble that opened it."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.open = False
        self.kind = ""
        self._row = 0  # failures in a row

    def worked(self) -> None:
        """The store succeeded."""
        self._row = 0

    def failed(self, kind: str) -> bool:
        """The store failed; True if that opened the breaker."""
        self._row += 1
        if self.open or (kind in UNSURE and self._row < 2):
            return False
        self.open, self.kind = True, kind
        return True

    def close(self) -> None:
        """A probe succeeded."""
        self.open, self.kind, self._row = False, "", 0


class Breakers:
    """The breakers of one store. `shut`: any of them is open; every lookup reads this flag."""

    def __init__(self) -> None:
        self.read, self.write, self.connect = Breaker("read"), Breaker("write"), Breaker("connect")
        self.shut = False

    def all(self) -> tuple[Breaker, Breaker, Breaker]:
        """All three breakers."""
        return self.connect, self.read, self.write

    def failed(self, direction: Direction, kind: str, *, connecting: bool = False) -> list[Breaker]:
        """The breakers that a trouble opens. `direction`: where it was met; `connecting`: while a connection was made.

        Silence while connecting counts for the direction too. A store that is silent to reads would be silent to
        writes, each for its whole timeout; so silence that opens the reads opens the writes.
        """
        breaker: Breaker = getattr(self, direction)
        failed = [self.connect, *([breaker] if kind in SILENT else [])] if connecting else [breaker]
        opened = [one for one in failed if one.failed(kind)]
        if self.read in opened and kind in SILENT and not self.write.open:
            self.write.open, self.write.kind = True, kind
            opened.append(self.write)
        self.shut = self.shut or bool(opened)
        return opened

    def close(self, breaker: Breaker) -> None:
        """A probe succeeded in its direction."""
        breaker.close()
        self.shut = any(one.open for one in self.all())

    def kind(self) -> str:
        """The trouble of the first open breaker, or ``closed``."""
        return next((breaker.kind for breaker in self.all() if breaker.open), "closed")

    def kinds(self) -> dict[str, str]:
        """For each direction, the trouble that opened its breaker, or ``closed``."""
        return {breaker.direction: breaker.kind if breaker.open else "closed" for breaker in self.all()}
