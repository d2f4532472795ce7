"""The heartbeats of a process: its leases, renewed in the background while something runs their flights."""

from __future__ import annotations

import math
import time

from askonce.core.keys import Key
from askonce.core.tape import ALIVE, FAILED, Ending, Notice
from askonce.flight.heartbeat import Heartbeat
from askonce.store import Link, Store

AGAIN = 0.25  # s until the next attempt after a failed renewal
LINGERS = 10.0  # s after the last lease was due in which the thread looks again and again, without being woken


class Heartbeats:
    """All heartbeats. Only the background thread calls `renew`; any thread may call the rest, which takes no lock."""

    def __init__(self) -> None:
        self.next = 0.0  # when they are due (monotonic s)
        self._all: dict[Heartbeat, None] = {}
        self._urgent: set[tuple[bytes, int]] = set()  # (id, order)
        self._looks = math.inf  # when the thread looks at them next, by itself (monotonic s); inf if it may not

    def __len__(self) -> int:
        return len(self._all)

    def add(self, heartbeat: Heartbeat) -> None:
        """Keep this lease alive from now on."""
        self._all[heartbeat] = None

    def discard(self, heartbeat: Heartbeat) -> None:
        """Forget it: its flight is over."""
        self._all.pop(heartbeat, None)

    def renew_now(self, flight: tuple[bytes, int]) -> None:
        """Renew this lease as soon as possible; the reply says whether another process waits for it."""
        self._urgent.add(flight)

    @property
    def urgent(self) -> bool:
        """Whether a lease must be renewed before the others are due."""
        return bool(self._urgent)

    @property
    def watched(self) -> bool:
        """Whether the thread looks at them by itself before they are due. Waking it costs a tenth of a miss."""
        return self._looks <= self.next

    def unwatched(self) -> None:
        """The thread is about to work out how long it sleeps: a lease added from now on may not be seen in that."""
        self._looks = math.inf

    def watch(self, rest: float, rhythm: float, *, waited_for: bool) -> float:
        """How long the thread may sleep, at most `rest` s; for a while after the last lease, never past a rhythm."""
        now = time.monotonic()
        if self._all or waited_for:
            rest = min(rest, self.next - now)
        elif now - self.next < LINGERS:
            rest = min(rest, rhythm)
        rest = max(0.0, rest)
        self._looks = now + rest
        return rest

    def reap(self) -> None:
        """Take back the leases of owners that no longer live, before they are renewed again."""
        now = time.monotonic()
        for heartbeat in list(self._all):
            if not heartbeat.alive():
                heartbeat.gone()
            elif now >= heartbeat.until:
                self.discard(heartbeat)

    def renew(self, link: Link, life: float, rhythm: float) -> None:
        """Renew all leases in one batch, before any other work."""
        self._urgent.clear()
        # After a failure, not a whole rhythm later: a lease lives for three of them, and a new connection may work.
        self.next = time.monotonic() + AGAIN
        if self._renew(link, [heartbeat for heartbeat in list(self._all) if heartbeat.order], life):
            self.next = time.monotonic() + rhythm

    def renew_urgent(self, link: Link, life: float) -> None:
        """Renew the leases that cannot wait for the others."""
        urgent = {self._urgent.pop() for _ in range(len(self._urgent))}
        self._renew(
            link, [heartbeat for heartbeat in list(self._all) if (heartbeat.id, heartbeat.order) in urgent], life
        )

    @staticmethod
    def _renew(link: Link, due: list[Heartbeat], life: float) -> bool:
        """Renew these; return whether every primary answered."""
        held = [heartbeat for heartbeat in due if not heartbeat.lost]
        said = link.renew([heartbeat.held for heartbeat in held], int(life * 1000)) if held else []
        for heartbeat, notice in zip(held, said, strict=True):
            if notice == "lost":
                heartbeat.lose()
            elif notice == "want":
                heartbeat.want()
        # Followers of a flight that lost its lease may still have its answer, and only this tells them that it goes on.
        lost = [(heartbeat.key, Notice(ALIVE, heartbeat.id, heartbeat.order)) for heartbeat in due if heartbeat.lost]
        if lost:
            link.say_all(lost)
        return "late" not in said


async def give_back(key: Key, flight: bytes, failed: bool, store: Store) -> None:
    """Give back a lease that may have been granted to `flight`."""
    await store.release(key, flight, 0, Ending(FAILED), failed=failed)
