"""The part of the background thread that listens: which keys callers wait for, and the subscriptions to their notices.

Callers open and close waiters, each by one step of a dict. Only the background thread subscribes, passes notices on,
and ends a list.
"""

from __future__ import annotations

from collections import deque

from askonce.core.keys import Key
from askonce.flight.waiters import Waiter, WaitList
from askonce.runtime.mode import Owner, Signal
from askonce.store import Link


class Listening:
    """The wait lists of a process, and their subscriptions on its link."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._wait_lists: dict[Key, WaitList] = {}
        self._changed: deque[WaitList] = deque()  # lists that have their first waiter, or no waiter any more

    def start(self, *, wake: bool = True) -> None:
        """Make sure that the thread runs, and looks again."""
        raise NotImplementedError

    def wake(self) -> None:
        """Make the thread look again."""
        raise NotImplementedError

    def _due(self) -> None:
        raise NotImplementedError

    # called from any thread

    def listen(self, key: Key, signal: Signal, owner: Owner | None = None) -> Waiter:
        """Open a waiter for notices about `key`. Its signal is set when the subscription works."""
        self._due()
        while True:
            wait_list = self._wait_lists.get(key) or self._wait_lists.setdefault(key, WaitList(key, self._look))
            waiter = Waiter(wait_list, signal, owner)
            wait_list.waiters[waiter] = None
            if self._wait_lists.get(key) is wait_list:
                break
            wait_list.waiters.pop(waiter, None)  # the list ended before this waiter was added to it
        waiter.again = wait_list.in_force
        if not wait_list.subscribed:
            self._changed.append(wait_list)
        self.start()
        return waiter

    def _look(self, wait_list: WaitList) -> None:
        """Have the thread check whether a wait list is over."""
        self._changed.append(wait_list)
        self.wake()

    def waiting(self) -> int:
        """The number of callers that wait for other processes."""
        return sum(len(wait_list.waiters) for wait_list in list(self._wait_lists.values()))

    def waited(self) -> dict[Key, int]:
        """How many callers of this process wait for another's flight, by key."""
        return {
            one.key: sum(not waiter.leads for waiter in list(one.waiters)) for one in list(self._wait_lists.values())
        }

    # runs in the thread

    def _update_subscriptions(self) -> None:
        while self._changed:
            wait_list = self._changed[0]
            if wait_list.waiters:
                self._open(wait_list)
            elif self._wait_lists.get(wait_list.key) is wait_list:
                self._end(wait_list)
            self._changed.popleft()

    def _open(self, wait_list: WaitList) -> None:
        assert self._link is not None
        if not wait_list.subscribed:
            self._link.subscribe(wait_list.key)
            wait_list.subscribed = True

    def _end(self, wait_list: WaitList) -> None:
        assert self._link is not None
        del self._wait_lists[wait_list.key]
        if not wait_list.waiters:
            self._link.unsubscribe(wait_list.key)
            return
        # A waiter came while the list was being ended, or another caller made a new list: keep one list for all.
        other = self._wait_lists.setdefault(wait_list.key, wait_list)
        if other is not wait_list:
            other.subscribed, other.in_force = wait_list.subscribed, wait_list.in_force
            for waiter in list(wait_list.waiters):
                other.waiters[waiter] = None
                waiter.wait_list = other
            for waiter in list(other.waiters):
                waiter.wake(None)

    def _in_force(self, key: Key) -> None:
        wait_list = self._wait_lists.get(key)
        if wait_list is not None:
            wait_list.in_force = True
            for waiter in list(wait_list.waiters):
                waiter.wake(None)

    def _unsubscribed(self) -> None:
        """The next link has no subscriptions yet."""
        for wait_list in list(self._wait_lists.values()):
            wait_list.subscribed = False
            self._changed.append(wait_list)
