"""Waiters: how a caller hears what other processes say about a key.

All callers of a process that wait for one key are a WaitList. A notice about the flight they follow wakes them all.
Only a notice of failure wakes a single caller: it claims, and the others claim after the reply, so that they join its
call instead of making their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.tape import ENDED, FAILED, Notice
from askonce.runtime.mode import Owner, Signal


class Waiter:
    """One caller that waits for a key. `notices` are about the flight it follows; `again`: claim again.

    `owner`: the waiter is removed when this ends.
    """

    def __init__(self, wait_list: WaitList, signal: Signal, owner: Owner | None = None) -> None:
        self.signal = signal
        self.owner = owner
        self.notices: deque[Notice] = deque()
        self.again = False
        self.follows: tuple[bytes, int] | None = None
        self.until = 0.0  # monotonic s: the followed flight is under way until then, as far as the store has told
        self.over: tuple[bytes, int] | None = None  # a flight that it followed, and that is known to be over
        self.parked = False
        self.leads = False  # a leader's waiter: it hears that its stream is wanted, and is never the one woken to claim
        self.wait_list = wait_list  # changed by the background thread only

    def wake(self, notice: Notice | None) -> None:
        """Wake the caller with a notice about the followed flight; None: claim again."""
        if notice is None:
            if self.parked:  # behind one that was told that the flight has failed
                self.over = self.follows
            self.again = True
        else:
            self.notices.append(notice)
        self.parked = False
        self.signal.wake()

    def ended(self, flight: tuple[bytes, int]) -> bool:
        """Whether nothing more will come of a flight, also by a notice that is not read yet: it failed."""
        unread = [(one.flight, one.order) for one in list(self.notices) if (one.kind, one.outcome) == (ENDED, FAILED)]
        return self.over == flight or flight in unread

    @property
    def brought(self) -> tuple[bytes, Head] | None:
        """The entry of the followed flight and its head, if another caller of this process has read it."""
        found = self.wait_list.brought
        return found if found is not None and (found[1].fill, found[1].order) == self.follows else None

    def share(self, data: bytes, head: Head) -> None:
        """Give the flight's entry to the other callers here that follow it, so that they need not read it."""
        self.wait_list.brought = (data, head)

    def claimed(self) -> None:
        """The caller's claim has a reply: wake the callers that were parked behind it."""
        self.wait_list.unpark(self)

    def close(self) -> None:
        """The caller waits no more: wake the callers that were parked behind it."""
        left = None
        while left is not self.wait_list:
            left = self.wait_list
            left.leave(self)


class WaitList:
    """All callers of this process that wait for one key.

    It has no lock, because a finaliser might need one that its own thread holds. Callers add and remove their waiters,
    each by one step of a dict. Only the background thread subscribes, passes notices on, and ends a list.
    """

    def __init__(self, key: Key, look: Callable[[WaitList], None]) -> None:
        self.key = key
        self.waiters: dict[Waiter, None] = {}
        self.subscribed = False
        self.in_force = False
        self.brought: tuple[bytes, Head] | None = None
        self._look = look

    def unpark(self, but: Waiter) -> None:
        """Wake the waiters that were parked when another one was woken to claim."""
        for waiter in list(self.waiters):
            if waiter.parked and waiter is not but:
                waiter.wake(None)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter; the subscription ends with the last one."""
        self.waiters.pop(waiter, None)
        self.unpark(waiter)
        if not self.waiters:
            self._look(self)

    def notify(self, notice: Notice) -> None:
        """Pass a notice on. A failure wakes one waiter: the others claim after its claim has a reply."""
        flight = (notice.flight, notice.order)
        waiters = list(self.waiters)
        addressed = [waiter for waiter in waiters if waiter.follows == flight]
        if notice.kind == ENDED:
            for waiter in waiters:
                if waiter.follows != flight:
                    # A claim under way may be about to name this flight as the one to follow.
                    waiter.notices.append(notice)
                    waiter.signal.wake()
            if notice.outcome == FAILED:
                addressed = self._first_only([waiter for waiter in addressed if not waiter.leads])
        for waiter in addressed:
            waiter.wake(notice)
        if addressed and addressed[0] not in self.waiters:
            self.unpark(addressed[0])  # it has just left, perhaps before the others were parked behind it

    @staticmethod
    def _first_only(waiters: list[Waiter]) -> list[Waiter]:
        for waiter in waiters[1:]:
            waiter.parked = True
        return waiters[:1]
