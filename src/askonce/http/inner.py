"""The inner transport, and what a fork does to it.

A forked child has a copy of its parent's open connections. A request over one of them may read the reply to another
child's request. So a transport made by askonce is made anew in each process. For a user's transport, askonce finds out
whether each response came over a connection opened before the fork. Such a response goes to its caller, as it would
without askonce, and is never stored or shared.

A socket is identified by its inode. In a child, every socket open at its start is the parent's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from askonce.core.providers.named_tuples import NamedTuple

INHERITED = "inherited"  # a status detail
Socket = tuple[int, int]
_parents: list[object] = []  # a parent's transports, kept so that no destructor writes to a connection of its


class _OfProcess(NamedTuple):
    """The transport of one process, and the sockets open at its start; None: all sockets."""

    own: Any
    inherited: frozenset[Socket] | None


class Inner:
    """One inner transport, in any process.

    `remake` makes another like it; None for a user's transport. `suspect`: the next answer may come over a parent's
    connection.
    """

    def __init__(self, own: Any, remake: Callable[[], Any] | None = None) -> None:
        self.suspect = False
        self._used = False
        self._remake = remake
        self._of = {os.getpid(): _OfProcess(own, frozenset())}  # a dict, because its methods are atomic
        _inners.add(self)

    def here(self) -> Any:
        """The transport of this process, for calls upstream."""
        self._used = True
        return self._of_process().own

    def mine(self) -> Any:
        """The transport, if this process may close it; else None."""
        made = self._of.get(os.getpid())
        return made.own if made is not None else None if self._remake else self._of_process().own

    def inherited(self, response: Any) -> bool:
        """Whether this answer may belong to another process."""
        sockets = self._of_process().inherited
        if sockets is not None and not sockets:
            return False
        found = _socket_of(response)
        self.suspect = found is None or sockets is None or found in sockets
        return self.suspect

    def _of_process(self) -> _OfProcess:
        return self._of.get(os.getpid()) or self._after_fork()

    def _after_fork(self) -> _OfProcess:
        """In a child: make a new one, or else distrust what is open now. Of two threads, the first one decides."""
        (old,) = list(self._of.values())[:1]
        made = self._remade()
        mine = self._of.setdefault(os.getpid(), _OfProcess(old.own, _open_sockets()) if made is None else made)
        for pid in self._of.keys() - {os.getpid()}:
            if (theirs := self._of.pop(pid, None)) is not None and theirs.own is not mine.own:
                _drop(theirs.own)
        return mine

    def _remade(self) -> _OfProcess | None:
        if self._remake is None:
            return None
        try:
            return _OfProcess(self._remake(), frozenset())
        except Exception:  # noqa: BLE001 - its certificates may be out of this process's reach: as if it was brought
            return None

    def begin(self) -> None:
        """Note the open sockets at the start of a child. A transport that is remade is made when it is needed."""
        if self._remake is None:
            self.suspect = self._used
            self._after_fork()


def _drop(own: Any) -> None:
    """Drop a parent's transport without a byte on its connections.

    Only the descriptors of a blocking transport are closed; otherwise a connection that the parent closes stays open
    here. The pool's own close is not used, because another thread may have held its lock at the fork. Objects of an
    event loop belong to the parent's loop too, which shares its poll set with this process.
    """
    _parents.append(own)
    if hasattr(own, "handle_request"):
        for connection in getattr(getattr(own, "_pool", None), "_connections", ()):
            with contextlib.suppress(Exception):
                connection.close()


def _socket_of(response: Any) -> Socket | None:
    """The socket of a response; None if it cannot be found."""
    try:
        stream = response.extensions["network_stream"]
        return _named(os.fstat(stream.get_extra_info("socket").fileno()))
    except Exception:  # noqa: BLE001 - whatever a transport of the user's answers to that
        return None


def _open_sockets() -> frozenset[Socket] | None:
    """All open sockets; None if they cannot be listed or told apart."""
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
