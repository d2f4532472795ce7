"""Probes find out whether a store in trouble works again: they do what lookups need, over a connection of their own.

An open connection proves nothing about the next one, and a PING proves nothing about writes. So a probe connects,
reads a key that nothing uses, claims it, and fills it with an answer that expires at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable

from askonce.core.breaker import Breaker, StoreBreakers
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Follow, Limits
from askonce.core.model import Lifetime, seal
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PROBE = 0.5  # s between two probes
RARELY = 1.5  # s at most: with a wrong password, every probe is a line in the server's log
BRIEF = 1  # ms
HEARTBEAT = 1_000  # ms
Closed = Callable[[str, Breaker, str], object]  # gets a primary, its breaker that was closed, and the trouble it had


class Probes:
    """The probes of one store: one after another, of each primary that has an open breaker."""

    def __init__(self, breakers: StoreBreakers, place: Store) -> None:
        self._breakers = breakers
        self._place = place
        self._stores: dict[str, Store] = {}  # of probes that are not over: they may still be connecting; by primary
        self._next = 0.0
        self._pause = PROBE

    def begin(self) -> None:
        """Start probing: a breaker opened."""
        self._pause = PROBE
        self._next = time.monotonic() + PROBE

    def hurry(self) -> None:
        """Probe next: the store answered on another connection."""
        self._next = 0.0

    def due(self) -> float:
        """Seconds until the next probe; inf if none is needed."""
        return self._next - time.monotonic() if self._breakers.shut else float("inf")

    def probe(self, closed: Closed) -> None:
        """Try what the open breakers hold back. Close those that work again, and call `closed` for each."""
        try:
            for primary in self._breakers.troubled():
                with contextlib.suppress(StoreTrouble):
                    self._probed(primary, closed)
        finally:
            self._pause = min(self._pause * 1.5, RARELY)
            self._next = time.monotonic() + self._pause

    def _probed(self, primary: str, closed: Closed) -> None:
        if primary not in self._place.primaries():
            self._close_all(primary, closed)  # another one has its keys now, and breakers of its own
            return
        store = self._stores.pop(primary, None) or self._place.blocking()
        try:
            self._tried(store, primary, closed)
        except StoreTrouble as trouble:
            if trouble.at == "connecting" and trouble.kind == "store-timeout":
                self._stores[primary] = store
            raise
        finally:
            if primary not in self._stores:
                drive(store.close())

    def _tried(self, store: Store, primary: str, closed: Closed) -> None:
        breakers, key = self._breakers.of(primary), key_at(store, primary)
        drive(store.look(key, ()))
        self._close(primary, breakers.connect, closed)
        self._close(primary, breakers.read, closed)
        if breakers.write.open:
            write(store, key)
            self._close(primary, breakers.write, closed)

    def _close_all(self, primary: str, closed: Closed) -> None:
        for breaker in self._breakers.of(primary).all():
            self._close(primary, breaker, closed)

    def _close(self, primary: str, breaker: Breaker, closed: Closed) -> None:
        if breaker.open:
            kind = breaker.kind
            self._breakers.close(primary, breaker)
            closed(primary, breaker, kind)

    def end(self) -> None:
        """Stop probing."""
        while self._stores:
            drive(self._stores.popitem()[1].close())


def key_at(store: Store, primary: str) -> Key:
    """A key that nothing uses, at this primary: keys are spread by their first byte."""
    rest = os.urandom(31)
    keys = [Key(bytes((first,)) + rest, "v") for first in random.sample(range(256), 256)]
    return next((key for key in keys if store.primary(key) == primary), keys[0])


def write(store: Store, key: Key) -> None:
    """Write what a flight writes; StoreTrouble if that fails."""
    flight = os.urandom(16)
    ask = Ask(flight, flight[:4], (), Limits(BRIEF, 0, 0), 0, NEVER, HEARTBEAT)
    said = drive(store.claim(key, ask))
    if isinstance(said, Follow) or said.grant is None:
        raise StoreTrouble("store-error", "the lease of a free key was not granted")
    grant = said.grant
    sealed = seal("v", key.digest, grant.id, grant.order, grant.snapshot, BRIEF, {}, b"null")
    drive(store.fill(key, grant.id, grant.order, sealed, Lifetime(BRIEF, 0, 0, BRIEF)))
