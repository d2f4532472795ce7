"""The background threads of a process, one for each store's address, shared by all caches that use it.

A thread that never started is collected with its last user. A running one ends when it has no user left: a cache that
is dropped without being closed leaves no thread and no connection behind.
"""

from __future__ import annotations

import weakref
from functools import partial

from askonce.flight.background import BackgroundThread
from askonce.flight.users import User
from askonce.runtime.forks import around_forks
from askonce.runtime.ownership import OwnedLock
from askonce.store import Store

_known: weakref.WeakValueDictionary[str, BackgroundThread] = weakref.WeakValueDictionary()
_lock = OwnedLock()


def join(store: Store, user: User) -> BackgroundThread:
    """The background thread for this store's address, with one more user: until `leave` or until it is dropped."""
    background = _known.get(store.address)
    while background is None or not background.users.add(user):
        background = _lock.nested(partial(_posted, store.address, BackgroundThread(store), background))
    return background


def _posted(address: str, made: BackgroundThread, instead: BackgroundThread | None) -> BackgroundThread:
    """The registered thread, or else `made`, which replaces `instead`. Nothing in here takes another lock."""
    found = _known.get(address)
    if found is not instead and found is not None:
        return found
    _known[address] = made
    return made


def leave(background: BackgroundThread, user: User) -> None:
    """Remove a user; the last one ends the thread."""
    background.users.remove(user)
    if background.users.over():
        background.stop()


def _after_fork() -> None:
    # The parent's threads do not exist here, and its links belong to it: drop them without sending anything.
    global _lock  # noqa: PLW0603
    _lock = OwnedLock()
    _known.clear()


around_forks(in_child=_after_fork)
