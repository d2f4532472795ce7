"""When a failing store is left alone: one breaker for each direction, so that none hides what another meets.

Each primary of a store has breakers of its own: a failing one is trouble for its keys alone.

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

    @property
    def failing(self) -> bool:
        """Whether it has failed since it last succeeded."""
        return self._row > 0

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
    """The breakers of one primary. `shut`: any of them is open."""

    def __init__(self) -> None:
        self.read, self.write, self.connect = Breaker("read"), Breaker("write"), Breaker("connect")
        self.shut = False

    def of(self, direction: Direction) -> Breaker:
        """The breaker of one direction."""
        return self.read if direction == "read" else self.write if direction == "write" else self.connect

    def all(self) -> tuple[Breaker, Breaker, Breaker]:
        """All three breakers."""
        return self.connect, self.read, self.write

    def failed(self, direction: Direction, kind: str, *, connecting: bool = False) -> list[Breaker]:
        """The breakers that a trouble opens. `direction`: where it was met; `connecting`: while a connection was made.

        Silence while connecting counts for the direction too. A store that is silent to reads would be silent to
        writes, each for its whole timeout; so silence that opens the reads opens the writes.
        """
        breaker = self.of(direction)
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


class StoreBreakers:
    """The breakers of all primaries of one store. Every lookup reads the two flags.

    `shut`: any breaker is open. `failing`: any has failed since it last succeeded, so successes must be told.
    """

    def __init__(self) -> None:
        self.shut = self.failing = False
        self._primaries: dict[str, Breakers] = {}

    def of(self, primary: str) -> Breakers:
        """The breakers of one primary."""
        return self._primaries.get(primary) or self._primaries.setdefault(primary, Breakers())

    def open_at(self, primary: str, direction: Direction) -> bool:
        """Whether this direction of a primary is left alone."""
        return self.shut and self.of(primary).of(direction).open

    def failed(self, primary: str, direction: Direction, kind: str, *, connecting: bool = False) -> list[Breaker]:
        """The breakers of a primary that a trouble opens; as Breakers.failed."""
        opened = self.of(primary).failed(direction, kind, connecting=connecting)
        self.failing, self.shut = True, self.shut or bool(opened)
        return opened

    def worked(self, primary: str, direction: Direction) -> None:
        """A command of this direction succeeded there."""
        self.of(primary).of(direction).worked()
        self.failing = any(breaker.failing for one in list(self._primaries.values()) for breaker in one.all())

    def troubled(self) -> list[str]:
        """The primaries that have an open breaker."""
        return [name for name, one in list(self._primaries.items()) if one.shut]

    def close(self, primary: str, breaker: Breaker) -> None:
        """A probe of a primary succeeded in this direction."""
        self.of(primary).close(breaker)
        self.shut = any(one.shut for one in list(self._primaries.values()))

    def _first(self) -> Breakers:
        return next((one for one in list(self._primaries.values()) if one.shut), None) or Breakers()

    def kind(self) -> str:
        """The trouble of the first open breaker, or ``closed``."""
        return self._first().kind()

    def kinds(self) -> dict[str, str]:
        """For each direction, the trouble that opened a breaker at some primary, or ``closed``."""
        return self._first().kinds()
