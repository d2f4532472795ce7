"""A Trial: a store under test, its clock, the stores that a law opened, and the driver of either mode.

The base of the laws in `contract`. Laws are plain methods that call the store through here and never await. In sync
mode a verb must be over after one ``send(None)``; in async mode it runs in an event loop of the trial.

A store that takes a `clock` gets one that the law moves by hand. Any other store has its own clock (a server's), and a
law waits until the time has passed. So laws let only milliseconds pass; `contract.TimeLaws` has those that need hours.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any, ClassVar, TypeVar, get_args

from askonce.core.keys import Form, Key
from askonce.core.lease import NEVER, Ask, Claim, Follow, Grant, Hit, Lead, Limits, Stale
from askonce.core.model import FIELDS, Head, Lifetime, Sealed, pack_fields, read_entry, seal
from askonce.core.tape import FAILED, SHARED, Ending, Notice
from askonce.store import Link, Store

T = TypeVar("T")
HOUR = 3_600_000
HEARTBEAT = 60_000  # ms; no law waits for it
MOMENT = 3  # ms: the heartbeats and lifetimes that a law waits for
LIMITS = Limits(ttl=HOUR, grace=HOUR, error=HOUR)
LIFE = Lifetime(ttl=HOUR, grace=HOUR, error=HOUR, cap=24 * HOUR)
BRIEF = Lifetime(ttl=MOMENT, grace=HOUR, error=2 * HOUR, cap=24 * HOUR)  # stale after a moment
PATIENCE = 5.0  # s until a law considers a notice lost
REFUSED = Ending(SHARED, "refused", b'"no"')  # an answer that may not be stored
FORMS: tuple[Form, ...] = get_args(Form)


class Clock:
    """A clock moved by hand, in us. Each reading advances it by one, because no two commands are simultaneous."""

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        """The time, us."""
        self.now_us += 1
        return self.now_us

    def tick(self, ms: int) -> None:
        """Let `ms` milliseconds pass."""
        self.now_us += ms * 1000


def drive(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that must end at its first step."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("a verb of a sync store suspended: it must block instead")


class Trial:
    """One store on trial. Define `store_factory`, and say whether its stores are `asynchronous` and take a `clock`."""

    asynchronous: ClassVar[bool] = False
    clocked: ClassVar[bool] = False

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        """A store over this test's own place, a new object in each call; `clock` is for stores that are `clocked`."""
        raise NotImplementedError

    def setup_method(self) -> None:
        """Begin with nothing open, and with an unused prefix."""
        self.clock = Clock()
        self.prefix = f"law-{os.urandom(6).hex()}"
        self._store: Store | None = None
        self._stores: list[Store] = []
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop() if self.asynchronous else None

    def teardown_method(self) -> None:
        """Close what was opened."""
        for link in self._links:
            link.close()
        for store in self._stores:
            self.do(store.close())
        if self._loop is not None:
            self._loop.close()

    # the store, and its modes

    @property
    def store(self) -> Store:
        """The store that most laws use."""
        if self._store is None:
            self._store = self.another()
        return self._store

    def another(self, prefix: str | None = None) -> Store:
        """Another store over the same place, by default with the same prefix."""
        store = self.store_factory(prefix=self.prefix if prefix is None else prefix, clock=self.clock)
        self._stores.append(store)
        return store

    def link(self, store: Store | None = None) -> Link:
        """A link of the store, closed at the end of the law."""
        link = (store or self.store).link()
        self._links.append(link)
        return link

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a verb to its end in this trial's mode."""
        return self._loop.run_until_complete(work) if self._loop is not None else drive(work)

    def wait(self, ms: int) -> None:
        """Let time pass: at once, or by watching the store's own clock for a few ms."""
        if self.clocked:
            self.clock.tick(ms)
            return
        until = self.now_us() + ms * 1000
        while self.now_us() < until:
            pass

    def now_us(self) -> int:
        """The store's clock."""
        return self.do(self.store.look(key("what time is it"), ())).now_us

    # what laws do all the time

    def claim(self, question: Key, ask: Ask, store: Store | None = None) -> Claim:
        """One claim."""
        return self.do((store or self.store).claim(question, ask))

    def lead(self, question: Key, ask: Ask, store: Store | None = None) -> Grant:
        """A claim that must be granted, whether or not there is something to serve."""
        reply = self.claim(question, ask, store)
        assert not isinstance(reply, Follow), f"told to follow where the lease is free: {reply}"
        assert reply.grant is not None, f"no lease where it is free: {reply}"
        assert reply.grant.id == ask.id
        return reply.grant

    def fill(self, question: Key, grant: Grant, sealed: Sealed, life: Lifetime = LIFE) -> str:
        """One fill by the holder of a grant."""
        return self.do(self.store.fill(question, grant.id, grant.order, sealed, life))

    def stored(self, question: Key, *fields: int, life: Lifetime = LIFE, body: bytes = b'"answer"') -> Grant:
        """An answer in the store, made by a flight of its own."""
        grant = self.lead(question, asking(*fields))
        assert self.fill(question, grant, sealed(question, grant, *fields, body=body), life) == "stored"
        return grant

    def release(self, question: Key, grant: Grant, ending: Ending = REFUSED, **how: Any) -> None:
        """One release by the holder of a grant."""
        self.do(self.store.release(question, grant.id, grant.order, ending, **how))

    def raze(self, count: int = 100) -> None:
        """Delete all that the prefix has, in steps of `count`."""
        for _ in range(1_000):
            if not self.do(self.store.raze(count)):
                return
        raise AssertionError("razing without an end")

    def serves(self, question: Key, *fields: int, store: Store | None = None) -> tuple[bytes, int] | None:
        """The fill that another caller is served now, fresh or stale, by its name; the caller's lease is given back."""
        ask = asking(*fields)
        reply = self.claim(question, ask, store)
        if isinstance(reply, Follow):
            return None
        if reply.grant is not None:
            self.do((store or self.store).release(question, ask.id, 0, Ending(FAILED)))
        return (reply.fill, reply.order) if isinstance(reply, Hit | Stale) else None

    def head(self, question: Key) -> Head:
        """The head of the entry, which must be whole."""
        data = self.do(self.store.entry(question))
        assert data is not None, "there is no entry"
        return read_entry(data, question.digest, question.form)

    def hear(
        self, link: Link, wanted: Callable[[list[tuple[Key, Notice]], list[Key]], bool]
    ) -> list[tuple[Key, Notice]]:
        """Poll until the wanted notices or keys in force have come; return all notices."""
        notices: list[tuple[Key, Notice]] = []
        ready: list[Key] = []
        until = time.monotonic() + PATIENCE
        while not wanted(notices, ready):
            left = until - time.monotonic()
            assert left > 0, f"this is all that came within {PATIENCE} s: {notices}, in force: {ready}"
            heard, force = link.poll(left)
            notices += heard
            ready += force
        return notices

    def listening(self, *questions: Key, store: Store | None = None) -> Link:
        """A link whose subscriptions are in force."""
        link = self.link(store)
        for question in questions:
            link.subscribe(question)
        self.hear(link, lambda _, ready: set(questions) <= set(ready))
        return link


def key(question: str, form: Form = "v") -> Key:
    """The key of a question; questions spread over all partitions."""
    return Key(sha256(question.encode()).digest(), form)


def asking(
    *fields: int,
    flight: bytes | None = None,
    limits: Limits = LIMITS,
    after: int = 0,
    early: int = NEVER,
    heartbeat: int = HEARTBEAT,
) -> Ask:
    """The arguments of a claim, by default by a new flight."""
    flight = flight or os.urandom(16)
    return Ask(flight, os.urandom(4), fields, limits, after, early, heartbeat)


def sealed(
    question: Key,
    grant: Grant,
    *fields: int,
    body: bytes = b'"answer"',
    ttl: int = HOUR,
    extensions: dict[int, bytes] | None = None,
) -> Sealed:
    """An answer sealed under a grant."""
    everything = {**({FIELDS: pack_fields(fields)} if fields else {}), **(extensions or {})}
    form, digest = question.form, question.digest
    return seal(form, digest, grant.id, grant.order, grant.snapshot, ttl, everything, body)


def grant_of(reply: Claim) -> Grant | None:
    """The lease that came with a claim's reply."""
    return None if isinstance(reply, Follow) else reply.grant


def must_lead(reply: Claim) -> Grant:
    """The grant of a caller that must find nothing to serve."""
    assert isinstance(reply, Lead), f"expected a lease and nothing to serve, not {reply}"
    return reply.grant
