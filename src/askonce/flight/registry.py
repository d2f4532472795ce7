"""The fleets of a process, one for each address, found by those who come next for as long as anybody uses them.

A fleet without a thread is collected with its last user. One with a thread ends when its thread finds no user left: a
cache that is dropped without being closed leaves no thread and no connection behind.
"""

from __future__ import annotations

import weakref
from functools import partial

from askonce.flight.background import Fleet
from askonce.flight.users import User
from askonce.runtime.forks import around_forks
from askonce.runtime.ownership import OwnedLock
from askonce.store import Store

_fleets: weakref.WeakValueDictionary[str, Fleet] = weakref.WeakValueDictionary()
_lock = OwnedLock()


def enlist(store: Store, user: User) -> Fleet:
    """The process's fleet for this store's address, with one user more: until `leave`, or until it is dropped."""
    fleet = _fleets.get(store.address)
    while fleet is None or not fleet.users.add(user):
        fleet = _lock.nested(partial(_posted, store.address, Fleet(store), fleet))
    return fleet


def _posted(address: str, made: Fleet, instead: Fleet | None) -> Fleet:
    """The one that is there, or else `made`, as `instead` is over. Nothing in here takes another lock."""
    found = _fleets.get(address)
    if found is not instead and found is not None:
        return found
    _fleets[address] = made
    return made


def leave(fleet: Fleet, user: User) -> None:
    """Give a fleet back; the last user ends its thread."""
    fleet.users.remove(user)
    if fleet.users.over():
        fleet.stop()


def _after_fork() -> None:
    # The parent's threads do not exist here, and its links are its own: forget, without a word on their sockets.
    global _lock  # noqa: PLW0603
    _lock = OwnedLock()
    _fleets.clear()


around_forks(in_child=_after_fork)
