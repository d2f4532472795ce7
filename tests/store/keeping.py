"""Questions, leases and answers for the tests of a store, each as small as possible."""

from __future__ import annotations

from askonce.core.hot_keys import HotKeys
from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Grant, Lead, Limits
from askonce.core.model import Lifetime, Sealed, read_head, seal
from askonce.core.policy import Policy, resolve
from askonce.runtime.drive import drive
from askonce.store import Store

DAY = 86_400_000
LIMITS = Limits(ttl=DAY, grace=0, error=0)
TERMS = resolve(Policy())
LIFE = Lifetime(ttl=DAY, grace=0, error=0, cap=7 * DAY)


class Clock:
    """A clock that stands still until told otherwise, us."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.us

    def forward(self, ms: int) -> None:
        self.us += 1000 * ms


def key(number: int, form: Form = "v") -> Key:
    return Key(number.to_bytes(32, "big"), form)


def ask(number: int) -> Ask:
    return Ask(number.to_bytes(16, "big"), b"cand", (), LIMITS)


def lead(store: Store, of: Key, number: int) -> Grant:
    said = drive(store.claim(of, ask(number)))
    assert isinstance(said, Lead)
    return said.grant


def sealed(of: Key, grant: Grant, body: bytes = b"answer") -> Sealed:
    return seal(of.form, of.digest, grant.id, grant.order, grant.snapshot, DAY, {}, body)


def put(store: Store, of: Key, number: int, body: bytes = b"answer") -> Grant:
    grant = lead(store, of, number)
    assert drive(store.fill(of, grant.id, grant.order, sealed(of, grant, body), LIFE)) == "stored"
    return grant


def visit(store: Store, of: Key, times: int = 1) -> None:
    """Note visits of an entry as a reader does."""
    entry = drive(store.entry(of))
    assert entry is not None
    heat = HotKeys(store.visits)
    for _ in range(times):
        heat.hit(of, read_head(entry), TERMS, 0)


def lose(store: Store) -> None:
    """Delete all entries, as a full store does."""
    cursor = b""
    while True:
        cursor, seen = drive(store.scan(cursor, 1000))
        drive(store.discard(seen))
        if not cursor:
            return
