"""Beats of a process: the leases that it holds, renewed in the background for as long as somebody flies them."""

from __future__ import annotations

import time

from askonce.core.tape import ALIVE, Word
from askonce.flight.heartbeat import Beat
from askonce.store import Link

AGAIN = 0.25  # s after a renewal that failed


class Beats:
    """All of them. `renew` is the background thread's; all else may come from any thread, and takes no lock."""

    def __init__(self) -> None:
        self.next = 0.0  # when they are due (monotonic s)
        self._all: dict[Beat, None] = {}
        self._hurried: set[tuple[bytes, int]] = set()  # (id, order)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, beat: Beat) -> None:
        """Keep it alive from now on."""
        self._all[beat] = None

    def discard(self, beat: Beat) -> None:
        """Its flight is over."""
        self._all.pop(beat, None)

    def hurry(self, flight: tuple[bytes, int]) -> None:
        """Renew this one as soon as possible, and so learn whether it is waited for."""
        self._hurried.add(flight)

    @property
    def hurried(self) -> bool:
        """Whether one cannot wait for the others."""
        return bool(self._hurried)

    def bury(self) -> None:
        """Take those from owners who do not live any more, before they are renewed once more."""
        now = time.monotonic()
        for beat in list(self._all):
            if not beat.alive():
                beat.gone()
            elif now >= beat.until:
                self.discard(beat)

    def renew(self, link: Link, heartbeat: float, rhythm: float) -> None:
        """All of them, in one go, whatever else there is to do."""
        self._hurried.clear()
        # Where it fails, not the whole rhythm later: a lease lives for three of them, and a new connection may do.
        self.next = time.monotonic() + AGAIN
        self._renew(link, [beat for beat in list(self._all) if beat.order], heartbeat)
        self.next = time.monotonic() + rhythm

    def renew_hurried(self, link: Link, heartbeat: float) -> None:
        """Those that cannot wait for the others."""
        hurried = {self._hurried.pop() for _ in range(len(self._hurried))}
        self._renew(link, [beat for beat in list(self._all) if (beat.id, beat.order) in hurried], heartbeat)

    @staticmethod
    def _renew(link: Link, due: list[Beat], heartbeat: float) -> None:
        held = [beat for beat in due if not beat.lost]
        said = link.renew([beat.held for beat in held], int(heartbeat * 1000)) if held else []
        for beat, word in zip(held, said, strict=True):
            if word == "lost":
                beat.lose()
            elif word == "want":
                beat.want()
        # Those who were told to follow a flight that lost its lease may still have its answer, and can learn of it
        # only from here.
        lost = [(beat.key, Word(ALIVE, beat.id, beat.order)) for beat in due if beat.lost]
        if lost:
            link.say_all(lost)
