"""The transport behind ours, and what a fork makes of it.

A forked child has a copy of its parent's open connections. Who asks over one of them may read the reply to what another
child asked. So where askonce made the transport, it makes another in each process. Where the user brought it, askonce
tells of each response whether it came over a connection that was opened before the fork. Such a response is its
caller's, who would have got it without askonce too, and is never stored or shared.

A socket is known by its inode. In a child, all that is open when it begins is the parent's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

INHERITED = "inherited"  # a status detail
Socket = tuple[int, int]
_parents: list[object] = []  # transports of a parent's: kept, so that no destructor speaks on a connection of its


class _Mine(NamedTuple):
    """The transport of one process, and the sockets that were open when it began; None: all there are."""

    own: Any
    inherited: frozenset[Socket] | None


class Inner:
    """One inner transport, in whatever process it is asked for.

    `remake` makes another like it; None for one that the user brought. `suspect`: the next answer may well come over a
    connection of a parent's.
    """

    def __init__(self, own: Any, remake: Callable[[], Any] | None = None) -> None:
        self.suspect = False
        self._used = False
        self._remake = remake
        self._of = {os.getpid(): _Mine(own, frozenset())}  # a dict, because its methods are atomic
        _inners.add(self)

    def here(self) -> Any:
        """The transport of this process, to ask upstream."""
        self._used = True
        return self._mine().own

    def mine(self) -> Any:
        """The transport, if it is this process's to close."""
        made = self._of.get(os.getpid())
        return made.own if made is not None else None if self._remake else self._mine().own

    def inherited(self, response: Any) -> bool:
        """Whether this answer may be another process's."""
        sockets = self._mine().inherited
        if sockets is not None and not sockets:
            return False
        found = _socket_of(response)
        self.suspect = found is None or sockets is None or found in sockets
        return self.suspect

    def _mine(self) -> _Mine:
        return self._of.get(os.getpid()) or self._after_fork()

    def _after_fork(self) -> _Mine:
        """In a child: made anew, or else what is open now is mistrusted. Of two threads the first one counts."""
        (old,) = list(self._of.values())[:1]
        made = self._anew()
        mine = self._of.setdefault(os.getpid(), _Mine(old.own, _open_sockets()) if made is None else made)
        for pid in self._of.keys() - {os.getpid()}:
            if (theirs := self._of.pop(pid, None)) is not None and theirs.own is not mine.own:
                _let_go(theirs.own)
        return mine

    def _anew(self) -> _Mine | None:
        if self._remake is None:
            return None
        try:
            return _Mine(self._remake(), frozenset())
        except Exception:  # noqa: BLE001 - its certificates may be out of this process's reach: as if it was brought
            return None

    def begin(self) -> None:
        """At the beginning of a child: note what is open. One that is to be made anew is so when it is needed."""
        if self._remake is None:
            self.suspect = self._used
            self._after_fork()


def _let_go(own: Any) -> None:
    """Give up a parent's transport without a word on its connections.

    Only the descriptors of a blocking one are closed, or a connection that the parent closes would stay open here. Not
    by the pool's own close, whose lock another thread may have held at the fork. What belongs to an event loop is the
    parent's loop's too, with whom this process shares its poll set.
    """
    _parents.append(own)
    if hasattr(own, "handle_request"):
        for connection in getattr(getattr(own, "_pool", None), "_connections", ()):
            with contextlib.suppress(Exception):
                connection.close()


def _socket_of(response: Any) -> Socket | None:
    """The socket that a response came by; None where that cannot be told."""
    try:
        stream = response.extensions["network_stream"]
        return _named(os.fstat(stream.get_extra_info("socket").fileno()))
    except Exception:  # noqa: BLE001 - whatever a transport of the user's answers to that
        return None


def _open_sockets() -> frozenset[Socket] | None:
    """All sockets that are open now, None where they cannot be listed, or told apart."""
    found = set()
    try:
        descriptors = [int(one.name) for one in Path("/dev/fd").iterdir()]
    except (OSError, ValueError):
        return None
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode):
                found.add(_named(status))
    return frozenset(found) if all(inode for _, inode in found) else None


def _named(status: os.stat_result) -> Socket:
    return status.st_dev, status.st_ino


_inners: weakref.WeakSet[Inner] = weakref.WeakSet()


def _after_fork() -> None:
    for inner in list(_inners):
        inner.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
