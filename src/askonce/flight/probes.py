"""Probes find out whether a store in trouble works again: they do what lookups need, over a connection of their own.

An open connection proves nothing about the next one, and a PING proves nothing about writes. So a probe connects,
reads a key that nothing uses, claims it, and fills it with an answer that expires at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from askonce.core.breaker import Breaker, Breakers
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Follow, Limits
from askonce.core.model import Lifetime, seal
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PROBE = 0.5  # s between two probes
RARELY = 1.5  # s at most: with a wrong password, every probe is a line in the server's log
BRIEF = 1  # ms
HEARTBEAT = 1_000  # ms
Closed = Callable[[Breaker, str], object]  # gets a breaker that was closed, and the kind of trouble it had


class Probes:
    """The probes of one store."""

    def __init__(self, breakers: Breakers, place: Store) -> None:
        self._breakers = breakers
        self._place = place
        self._store: Store | None = None  # of a probe that is not over: it may still be connecting
        self._next = 0.0
        self._pause = PROBE

    def begin(self) -> None:
        """Start probing: a breaker opened."""
        self._pause = PROBE
        self._next = time.monotonic() + PROBE

    def due(self) -> float:
        """Seconds until the next probe; inf if none is needed."""
        return self._next - time.monotonic() if self._breakers.shut else float("inf")

    def probe(self, closed: Closed) -> None:
        """Try what the open breakers hold back. Close those that work again, and call `closed` for each."""
        store = self._store or self._place.blocking()
        self._store = None
        try:
            self._tried(store, closed)
        except StoreTrouble as trouble:
            if trouble.at == "connecting" and trouble.kind == "store-timeout":
                self._store = store
        finally:
            if self._store is None:
                drive(store.close())
            self._pause = min(self._pause * 1.5, RARELY)
            self._next = time.monotonic() + self._pause

    def _tried(self, store: Store, closed: Closed) -> None:
        read(store)
        self._close(self._breakers.connect, closed)
        self._close(self._breakers.read, closed)
        if self._breakers.write.open:
            write(store)
            self._close(self._breakers.write, closed)

    def _close(self, breaker: Breaker, closed: Closed) -> None:
        if breaker.open:
            kind = breaker.kind
            self._breakers.close(breaker)
            closed(breaker, kind)

    def end(self) -> None:
        """Stop probing."""
        if self._store is not None:
            drive(self._store.close())
            self._store = None


def read(store: Store) -> None:
    """Read what a lookup reads; StoreTrouble if that fails."""
    drive(store.look(Key(os.urandom(32), "v"), ()))


def write(store: Store) -> None:
    """Write what a flight writes; StoreTrouble if that fails."""
    key, flight = Key(os.urandom(32), "v"), os.urandom(16)
    ask = Ask(flight, flight[:4], (), Limits(BRIEF, 0, 0), 0, NEVER, HEARTBEAT)
    said = drive(store.claim(key, ask))
    if isinstance(said, Follow) or said.grant is None:
        raise StoreTrouble("store-error", "the lease of a free key was not granted")
    grant = said.grant
    sealed = seal("v", key.digest, grant.id, grant.order, grant.snapshot, BRIEF, {}, b"null")
    drive(store.fill(key, grant.id, grant.order, sealed, Lifetime(BRIEF, 0, 0, BRIEF)))
