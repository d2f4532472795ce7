"""When a store in trouble is left alone: a breaker for each direction, so that none hides what another meets.

Reads that succeed say nothing of writes (a full server, a replica), a connection that is there says nothing of the next
one that has to be made (a wrong password, too many clients), and the other way round.

A refusal opens a breaker at once: it will be said again. A timeout, a connection that broke, or what nobody knows the
meaning of, opens it when it happens twice in a row. Only a probe closes it.
"""

from __future__ import annotations

from typing import Literal

Direction = Literal["read", "write", "connect"]

UNSURE = frozenset({"store-timeout", "store-closed", "store-error", "store-corrupt"})  # may be over the next time
SILENT = frozenset({"store-timeout", "store-closed"})


class Breaker:
    """Of one direction. `open`: nothing is tried. `kind` is the trouble that opened it."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.open = False
        self.kind = ""
        self._row = 0  # failures in a row

    def worked(self) -> None:
        """The store did it."""
        self._row = 0

    def failed(self, kind: str) -> bool:
        """The store did not; True when that opened the breaker."""
        self._row += 1
        if self.open or (kind in UNSURE and self._row < 2):
            return False
        self.open, self.kind = True, kind
        return True

    def close(self) -> None:
        """A probe succeeded."""
        self.open, self.kind, self._row = False, "", 0


class Breakers:
    """Of one store. `shut`, the one thing that every lookup asks: whether any of them is open."""

    def __init__(self) -> None:
        self.read, self.write, self.connect = Breaker("read"), Breaker("write"), Breaker("connect")
        self.shut = False

    def all(self) -> tuple[Breaker, Breaker, Breaker]:
        """Each of them."""
        return self.connect, self.read, self.write

    def failed(self, direction: Direction, kind: str, *, connecting: bool = False) -> list[Breaker]:
        """Those that a trouble opened, which was met in a direction, or while connecting for it.

        Silence is silence, whether a connection was asked or asked for. Where reads are met with it, writes would be
        too, each for its whole timeout.
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
        """The trouble that weighs most, ``closed`` where there is none."""
        return next((breaker.kind for breaker in self.all() if breaker.open), "closed")

    def kinds(self) -> dict[str, str]:
        """``closed``, or the trouble that opened it, for each direction."""
        return {breaker.direction: breaker.kind if breaker.open else "closed" for breaker in self.all()}
