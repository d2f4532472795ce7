"""The Users of something shared, by weak reference: a user that is dropped without leaving has left all the same."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Protocol

from askonce.core.breaker import Direction
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.store import Store, StoreTrouble


class User(Protocol):
    """A user of the background thread."""

    def recovered(self, direction: Direction, kind: str) -> None:
        """The store answers again, in a direction that had this trouble."""

    def disconnected(self, trouble: StoreTrouble) -> None:
        """The background thread lost its connection."""

    def unreachable(self, trouble: StoreTrouble) -> None:
        """The background thread cannot make a new connection."""

    def reconnected(self) -> None:
        """The background thread has a connection again."""


class Unflushed(Protocol):
    """What writes to the store in the background."""

    async def flush(self, store: Store) -> None:
        """Write what is new."""
        ...


class Users:
    """Users by weak reference. `wake` is called when one is dropped, from a finaliser: it may take no lock.

    Once `over` has found no user, no user can be added: what is shared is about to end.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = weakref.WeakMethod(wake)
        self._known: dict[int, weakref.ref[User]] = {}
        self._over = False
        self._lock = OwnedLock()

    def add(self, user: User) -> bool:
        """Add a user, until `remove` or until it is dropped. False if this is over, or may be about to end."""
        wake = self._wake

        def dropped(_: object) -> None:
            if (found := wake()) is not None:
                found()

        def add() -> bool:
            if not self._over:
                self._known[id(user)] = weakref.ref(user, dropped)
            return not self._over

        try:
            return self._lock.run(add)
        except Busy:  # a signal handler interrupted this very code, and made a cache
            return False

    def remove(self, user: User) -> None:
        """Remove a user."""
        self._known.pop(id(user), None)

    def alive(self) -> list[User]:
        """The users that still exist."""
        return [user for one in list(self._known.values()) if (user := one()) is not None]

    def over(self) -> bool:
        """Whether there is no user, and so never will be one again."""
        if self._over or any(one() is not None for one in list(self._known.values())):
            return self._over
        with contextlib.suppress(Busy):  # a finaliser inside `add`: the background thread asks again
            return self._lock.run(self._end)
        return False

    def _end(self) -> bool:
        for name, one in list(self._known.items()):
            if one() is None:
                self._known.pop(name, None)
        self._over = not self._known
        return self._over
