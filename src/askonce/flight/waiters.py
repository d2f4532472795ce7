"""Waiters: how a caller hears what other processes say about a key.

All callers of a process that wait for one key are a WaitList. A notice about the flight they follow wakes them all.
Only the notice of a failure wakes a single one: it claims, and the others look once its claim has an answer, so that
they join its call instead of making their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.tape import ENDED, FAILED, Notice
from askonce.runtime.mode import Owner, Signal


class Waiter:
    """One caller's share in what is said about a key. `notices` are for the flight it follows; `again`: look again.

    `owner`: whose it is, if it is to be taken away when that ends.
    """

    def __init__(self, wait_list: WaitList, signal: Signal, owner: Owner | None = None) -> None:
        self.signal = signal
        self.owner = owner
        self.notices: deque[Notice] = deque()
        self.again = False
        self.follows: tuple[bytes, int] | None = None
        self.parked = False
        self.leads = False  # a leader's: it hears who wants its stream, and is never sent ahead to claim
        self.wait_list = wait_list  # changed by the background thread alone

    def ring(self, notice: Notice | None) -> None:
        """A notice about the flight followed; None: look again."""
        if notice is None:
            self.again = True
        else:
            self.notices.append(notice)
        self.parked = False
        self.signal.ring()

    @property
    def brought(self) -> tuple[bytes, Head] | None:
        """The entry of the flight followed, with its head, if another caller of this process has read it."""
        found = self.wait_list.brought
        return found if found is not None and (found[1].fill, found[1].order) == self.follows else None

    def tell(self, data: bytes, head: Head) -> None:
        """This is the entry: whoever else follows its flight here need not read it again."""
        self.wait_list.brought = (data, head)

    def claimed(self) -> None:
        """The caller's claim returned: those that left it to this one to try may look themselves."""
        self.wait_list.unpark(self)

    def close(self) -> None:
        """The caller waits no more; whatever was parked behind it is woken."""
        left = None
        while left is not self.wait_list:
            left = self.wait_list
            left.leave(self)


class WaitList:
    """All callers of this process who wait for one key.

    Without a lock, which a finaliser might want while its own thread holds it. Callers add and take away their waiters,
    each by one step of a dict; all else is the background thread's: it alone subscribes, passes notices on, and ends a
    list.
    """

    def __init__(self, key: Key, look: Callable[[WaitList], None]) -> None:
        self.key = key
        self.waiters: dict[Waiter, None] = {}
        self.subscribed = False
        self.in_force = False
        self.brought: tuple[bytes, Head] | None = None
        self._look = look

    def unpark(self, but: Waiter) -> None:
        """Wake those who were left waiting when one of them was sent ahead."""
        for waiter in list(self.waiters):
            if waiter.parked and waiter is not but:
                waiter.ring(None)

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter away, and the subscription with the last one."""
        self.waiters.pop(waiter, None)
        self.unpark(waiter)
        if not self.waiters:
            self._look(self)

    def hear(self, notice: Notice) -> None:
        """Pass a notice on. A failure wakes one: the others look again once its claim has an answer."""
        mine = (notice.flight, notice.order)
        waiters = list(self.waiters)
        told = [waiter for waiter in waiters if waiter.follows == mine]
        if notice.kind == ENDED:
            for waiter in waiters:
                if waiter.follows != mine:
                    # It may be about to learn, from a claim under way, that this is the flight to follow.
                    waiter.notices.append(notice)
                    waiter.signal.ring()
            if notice.outcome == FAILED:
                told = self._ahead([waiter for waiter in told if not waiter.leads])
        for waiter in told:
            waiter.ring(notice)
        if told and told[0] not in self.waiters:
            self.unpark(told[0])  # it left just now, perhaps before the others were parked behind it

    @staticmethod
    def _ahead(waiters: list[Waiter]) -> list[Waiter]:
        for waiter in waiters[1:]:
            waiter.parked = True
        return waiters[:1]
