"""Heartbeats of a process: the leases that it holds, renewed in the background for as long as something runs their
flights.
"""

from __future__ import annotations

import time

from askonce.core.keys import Key
from askonce.core.tape import ALIVE, FAILED, Ending, Notice
from askonce.flight.heartbeat import Heartbeat
from askonce.store import Link, Store

AGAIN = 0.25  # s after a renewal that failed


class Heartbeats:
    """All of them. `renew` is the background thread's; all else may come from any thread, and takes no lock."""

    def __init__(self) -> None:
        self.next = 0.0  # when they are due (monotonic s)
        self._all: dict[Heartbeat, None] = {}
        self._urgent: set[tuple[bytes, int]] = set()  # (id, order)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, heartbeat: Heartbeat) -> None:
        """Keep it alive from now on."""
        self._all[heartbeat] = None

    def discard(self, heartbeat: Heartbeat) -> None:
        """Its flight is over."""
        self._all.pop(heartbeat, None)

    def renew_now(self, flight: tuple[bytes, int]) -> None:
        """Renew this one as soon as possible, and so learn whether it is waited for."""
        self._urgent.add(flight)

    @property
    def urgent(self) -> bool:
        """Whether one cannot wait for the others."""
        return bool(self._urgent)

    def reap(self) -> None:
        """Take those from owners who do not live any more, before they are renewed once more."""
        now = time.monotonic()
        for heartbeat in list(self._all):
            if not heartbeat.alive():
                heartbeat.gone()
            elif now >= heartbeat.until:
                self.discard(heartbeat)

    def renew(self, link: Link, life: float, rhythm: float) -> None:
        """All of them, in one go, whatever else there is to do."""
        self._urgent.clear()
        # Where it fails, not the whole rhythm later: a lease lives for three of them, and a new connection may do.
        self.next = time.monotonic() + AGAIN
        self._renew(link, [heartbeat for heartbeat in list(self._all) if heartbeat.order], life)
        self.next = time.monotonic() + rhythm

    def renew_urgent(self, link: Link, life: float) -> None:
        """Those that cannot wait for the others."""
        urgent = {self._urgent.pop() for _ in range(len(self._urgent))}
        self._renew(
            link, [heartbeat for heartbeat in list(self._all) if (heartbeat.id, heartbeat.order) in urgent], life
        )

    @staticmethod
    def _renew(link: Link, due: list[Heartbeat], life: float) -> None:
        held = [heartbeat for heartbeat in due if not heartbeat.lost]
        said = link.renew([heartbeat.held for heartbeat in held], int(life * 1000)) if held else []
        for heartbeat, notice in zip(held, said, strict=True):
            if notice == "lost":
                heartbeat.lose()
            elif notice == "want":
                heartbeat.want()
        # Those who were told to follow a flight that lost its lease may still have its answer, and can learn of it
        # only from here.
        lost = [(heartbeat.key, Notice(ALIVE, heartbeat.id, heartbeat.order)) for heartbeat in due if heartbeat.lost]
        if lost:
            link.say_all(lost)


async def give_back(key: Key, flight: bytes, failed: bool, store: Store) -> None:
    """Give back a lease that may have been granted to `flight`."""
    await store.release(key, flight, 0, Ending(FAILED), failed=failed)
