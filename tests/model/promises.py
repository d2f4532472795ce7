"""The Promises, as a small model with which a walk through a store is compared.

The model knows what a store may not need to know: when each call began, and every past invalidation. From these it
judges the store's replies by the Promises, not by the store's reasons: it has no epochs, counters or floors, only "was
there an invalidation that covers this, after that?".

It also knows what is alive (a lease, an entry, their dates), so it knows what the store must say: a caller must be
served, lead or follow; otherwise a call is paid twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from askonce.core.lease import (
    BACKOFF_CAP,
    BACKOFF_FIRST,
    BACKOFF_LAST,
    LEASE_LIFE,
    NEVER,
    Ask,
    Claim,
    Follow,
    Grant,
    Hit,
    Limits,
    Stale,
)
from askonce.core.model import Lifetime

SLACK = 3_500  # ms that the store's clock may be ahead of the model's (see walk: no border is nearer than 4 s)
EVERYTHING: frozenset[int] = frozenset({-1})
Name = tuple[bytes, int]


class Broken(AssertionError):
    """A promise was broken."""


def must(condition: object, promise: str, *facts: object) -> None:
    """Raise Broken, with the facts, unless it holds."""
    if not condition:
        raise Broken(promise + "".join(f"\n  {fact}" for fact in facts))


@dataclass(frozen=True)
class Lease:
    """A lease as the model sees it; `at`: the step at which it was granted."""

    grant: Grant
    at: int
    fields: frozenset[int]
    deadline: int
    expire: int
    want: bool = False
    idle: bool = False
    fails: int = 0

    @property
    def name(self) -> Name:
        return self.grant.id, self.grant.order


@dataclass(frozen=True)
class Entry:
    """An entry as the model sees it; `at`: the step at which the lease that it was filled under was granted."""

    grant: Grant
    at: int
    fields: frozenset[int]
    ttl: int
    created: int
    fresh: int
    stale: int
    error: int
    body: bytes

    @property
    def name(self) -> Name:
        return self.grant.id, self.grant.order

    def over(self, now: int) -> bool:
        """Whether it can serve nobody any more; the store may have dropped it, or not yet."""
        return now >= max(self.fresh, self.stale, self.error)

    def until(self, limits: Limits) -> tuple[int, int, int]:
        """Fresh, stale, on error: for these limits."""
        fresh = min(self.fresh, self.created + limits.ttl) if self.ttl > limits.ttl else self.fresh
        return fresh, min(self.stale, fresh + limits.grace), min(self.error, fresh + limits.error)


@dataclass
class Question:
    """All that is known about one key."""

    lease: Lease | None = None
    entry: Entry | None = None
    followed: set[Name] = field(default_factory=set)  # flights with a follower


@dataclass(frozen=True)
class Invalidation:
    """What was invalidated, and when."""

    at: int
    fields: frozenset[int]
    key: Any = None

    def covers(self, key: Any, fields: Iterable[int]) -> bool:
        if self.key is not None:
            return bool(self.key == key)
        return self.fields == EVERYTHING or not self.fields.isdisjoint(fields)


class Promises:
    """One walk's model."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self.step = 0
        self.questions = {key: Question() for key in keys}
        self.invalidations: list[Invalidation] = []
        self.lost_at = -1  # the last step at which the generations were lost
        self.began: dict[Name, int] = {}  # when the call of each flight began; late grants have none
        self.bodies: dict[Name, bytes] = {}

    # what was invalidated

    def dead(self, key: Any, at: int, fields: Iterable[int]) -> bool:
        """Whether what was granted at this step, with these tags and the caller's, may serve nobody any more."""
        covered = (one.at > at and one.covers(key, fields) for one in self.invalidations if one.key is None)
        return self.lost_at > at or any(covered)

    def third_promise(self, key: Any, name: Name, fields: Iterable[int]) -> None:
        """No answer, in whatever way, whose call began before an invalidation that was acknowledged before this."""
        began = self.began.get(name)
        must(began is not None, "an answer of a call that never began under this grant", name)
        for one in self.invalidations:
            if one.covers(key, fields):
                must(began > one.at, "P3: an answer older than an invalidation", name, one, self)  # type: ignore[operator]

    # claims

    def live(self, key: Any, ask: Ask, now: int) -> Lease | None:
        """The lease that keeps this caller out."""
        lease = self.questions[key].lease
        if lease is None or not now < lease.deadline or not now < lease.expire:
            return None
        if lease.deadline - now > (BACKOFF_CAP if lease.idle else ask.heartbeat):
            return None
        return None if self.dead(key, lease.at, lease.fields | set(ask.fields)) else lease

    def servable(self, key: Any, fields: Iterable[int], now: int) -> Entry | None:
        """The entry, if it may serve anybody with these tags."""
        entry = self.questions[key].entry
        if entry is None or entry.over(now):
            return None
        return None if self.dead(key, entry.at, entry.fields | set(fields)) else entry

    def expected(self, key: Any, ask: Ask, now: int, own: bool) -> tuple[str, bool]:
        """What a claim must say, and whether with a lease."""
        limits, entry = ask.limits, self.servable(key, ask.fields, now)
        held = None if own else self.live(key, ask, now)
        if entry is not None:
            fresh, stale, error = entry.until(limits)
            young = limits.max_age == NEVER or max(0, now - entry.created) < limits.max_age
            if (young and now + limits.min_fresh < fresh + limits.max_stale) or (
                ask.after and entry.name[1] >= ask.after
            ):
                early = ask.early != NEVER and fresh - now <= ask.early
                return "Hit", own or (early and held is None)
            if young and not limits.min_fresh:
                if now < stale:
                    return "Stale", held is None
                if held is not None and held.idle and now < error:
                    return "Stale", False
        return ("Lead", True) if held is None or held.idle else ("Follow", False)

    def claimed(self, key: Any, ask: Ask, said: Claim, now: int, *, delivered: bool) -> None:
        """Judge what a claim said. `delivered`: the reply arrived, and if it is a lease, the call begins now."""
        question = self.questions[key]
        lease = question.lease if question.lease and now < question.lease.expire else None
        own = (
            lease is not None
            and lease.grant.id == ask.id
            and not lease.idle
            and not self.dead(key, lease.at, lease.fields | set(ask.fields))
        )
        wanted = self.expected(key, ask, now, own)
        grant = None if isinstance(said, Follow) else said.grant
        must(wanted == (type(said).__name__, grant is not None), f"P1: {wanted} expected", said, ask, question, self)
        if isinstance(said, Hit | Stale):
            entry = self.servable(key, ask.fields, now)
            must(entry is not None and entry.name == (said.fill, said.order), "another entry", said, entry)
            assert entry is not None
            self.third_promise(key, entry.name, entry.fields | set(ask.fields))
        if isinstance(said, Follow):
            self._follows(key, ask, said, now)
        if grant is not None and own:
            assert lease is not None
            must(grant == lease.grant, "a repeated claim is the same grant again", grant, lease)
        elif grant is not None:
            self._granted(key, ask, grant, now)
        if grant is not None and delivered:
            self.began[grant.id, grant.order] = self.step

    def _follows(self, key: Any, ask: Ask, said: Follow, now: int) -> None:
        question = self.questions[key]
        assert question.lease is not None
        lease = question.lease
        must(lease.name == (said.id, said.order), "told to follow another flight", said, lease)
        left = min(lease.deadline - now, ask.heartbeat)
        must(0 < said.remaining <= left + SLACK, "waits longer than the lease is sure to live", said, lease, now)
        if lease.name in self.began:
            self.third_promise(key, lease.name, lease.fields | set(ask.fields))
        question.lease = replace(lease, want=True)
        question.followed.add(lease.name)

    def _granted(self, key: Any, ask: Ask, grant: Grant, now: int) -> None:
        question = self.questions[key]
        must(grant.id == ask.id, "a grant in another's name", grant, ask)
        lease = question.lease if question.lease and now < question.lease.expire else None
        # Above the orders of what is still there; where nothing is, the id tells flights apart.
        orders = [one.name[1] for one in (lease, self.servable(key, (), now)) if one is not None]
        must(grant.order > max(orders, default=0), "an order that is not above all before", grant, orders)
        fails = lease.fails if lease else 0
        fields = frozenset(ask.fields)
        question.lease = Lease(grant, self.step, fields, now + ask.heartbeat, now + LEASE_LIFE, fails=fails)

    # the holder's verbs

    def holder(self, key: Any, name: Name, now: int) -> Lease | None:
        """The lease, if this very flight holds it."""
        lease = self.questions[key].lease
        held = lease is not None and lease.name == name and not lease.idle and now < lease.expire
        return lease if held else None

    def renewed(self, key: Any, name: Name, heartbeat: int, said: str, now: int) -> None:
        """Judge a renewal."""
        lease = self.holder(key, name, now)
        if lease is None or self.dead(key, lease.at, lease.fields):
            must(said == "lost", "a renewal of a lease that is not held", said, name, self.questions[key])
            return
        must(said == ("want" if lease.want else "ok"), "a held lease that was not renewed", said, lease)
        self.questions[key].lease = replace(lease, deadline=now + heartbeat)

    def verdict(self, key: Any, name: Name, life: Lifetime, now: int) -> str:
        """What a fill must say."""
        lease, entry = self.holder(key, name, now), self.questions[key].entry
        if lease is not None:
            if self.dead(key, lease.at, lease.fields):
                return "moved"
            return "stored" if life.cap and max(life.ttl, life.grace, life.error) else "unkept"
        if entry is None or entry.name != name:
            return "lost"
        return "moved" if self.dead(key, entry.at, entry.fields) else "stored"

    def filled(self, key: Any, grant: Grant, sealed: tuple[int, bytes], life: Lifetime, said: str, now: int) -> None:
        """Judge a fill; `sealed`: its ttl and body."""
        name = (grant.id, grant.order)
        wanted, question = self.verdict(key, name, life, now), self.questions[key]
        lease = self.holder(key, name, now)
        dropped = said == "lost" and lease is None and question.entry is not None and question.entry.over(now)
        must(said == wanted or dropped, f"not {wanted}", said, name, self)
        if lease is None:
            return
        question.lease = None
        if said == "stored":
            old = question.entry
            must(old is None or old.name[1] < name[1], "P2: a stored answer replaced a later lease's", old, name)
            question.entry = Entry(grant, lease.at, lease.fields, sealed[0], *life.dates(now), sealed[1])

    def released(self, key: Any, name: Name, now: int, *, failed: bool, hint: int) -> None:
        """What a release does; it says nothing."""
        question = self.questions[key]
        if not name[1] and question.lease is not None and question.lease.grant.id == name[0]:
            name = question.lease.name
        lease = self.holder(key, name, now)
        if lease is None:
            return
        question.lease = None
        if failed and self.servable(key, lease.fields, now) is not None:
            fails = lease.fails + 1
            rest = min(max(min(BACKOFF_FIRST * 2 ** (fails - 1), BACKOFF_LAST), hint), BACKOFF_CAP)
            question.lease = replace(
                lease, deadline=now + rest, expire=now + rest + BACKOFF_LAST, idle=True, fails=fails, want=False
            )

    def extended(self, key: Any, name: Name, hot_ttl: int, cap: int, said: bool, now: int) -> None:
        """Judge a slide."""
        question = self.questions[key]
        entry = self.servable(key, (), now)
        if entry is not None and (entry.name != name or now >= entry.fresh):
            entry = None
        end = entry.created + cap if entry else 0
        gain = min(now + hot_ttl, end) - entry.fresh if entry else 0
        # A slide repeated in the same moment gains the ms that a real clock advanced meanwhile.
        must(said == (gain > 0) or abs(gain) < SLACK, "a slide that should not, or did not, happen", said, entry, gain)
        if entry is not None and gain > 0:
            stale, error = (max(date, min(date + gain, end)) for date in (entry.stale, entry.error))
            question.entry = replace(entry, fresh=entry.fresh + gain, stale=stale, error=error)

    # what is lost

    def invalidated(self, fields: Iterable[int]) -> None:
        """An invalidation was executed, and acknowledged unless it is late."""
        self.invalidations.append(Invalidation(self.step, frozenset(fields)))

    def forgotten(self, key: Any) -> None:
        """An invalidation of one question."""
        self.questions[key] = Question(followed=self.questions[key].followed)
        self.invalidations.append(Invalidation(self.step, frozenset(), key))

    def lost_entry(self, key: Any) -> None:
        """An entry was evicted."""
        self.questions[key].entry = None

    def lost_lease(self, key: Any) -> None:
        """A lease was evicted."""
        self.questions[key].lease = None

    def lost_generations(self) -> None:
        """The generations were evicted: everything misses from now on, and nothing ever comes back."""
        self.lost_at = self.step

    def __repr__(self) -> str:
        said: Mapping[str, object] = {"step": self.step, "lost": self.lost_at, "invalidations": self.invalidations}
        return f"Promises({said})"
