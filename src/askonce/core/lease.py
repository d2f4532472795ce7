"""The decisions of the lease protocol about one key: pure functions from a Slot and the time to a reply.

A Slot is what the store holds about one key: the head of its entry, its lease, the generations of its partition. Every
function takes the store's own clock as an argument. It replaces what it changes and mutates nothing, so that a store
finds what to write by comparing identities. Memory and SQLite run these functions in their transaction. Redis runs a
twin in Lua; a test over random states checks that both agree.

The rules: (id, order) names the flight that may fill; each flight has its own id, each grant its own order. A lease
ends by a competitor's claim, an invalidation, or after 15 minutes; a passed deadline only lets others take it. A filled
entry carries the generation that was read when the lease was granted. An absent lease is a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from askonce.core.model import Dates, Head, Snapshot
from askonce.core.providers.named_tuples import NamedTuple

# ms from the grant, never re-armed: frees the followers of a hung upstream whose lease is still renewed.
LEASE_LIFE = 15 * 60_000
FIELDS = 4096  # moved fields that one partition remembers, some 100 bytes each
BACKOFF_FIRST = 1_000
BACKOFF_LAST = 30_000
BACKOFF_CAP = 300_000  # ms: the most that an upstream's own retry-after may ask for
NEVER = -1


class Limits(NamedTuple):
    """What one lookup accepts, ms, from the policy and the caller's directives. `max_age` NEVER: no limit."""

    ttl: int
    grace: int
    error: int
    max_age: int = NEVER
    min_fresh: int = 0
    max_stale: int = 0


class Ask(NamedTuple):
    """The arguments of a claim: `id` of the new flight, `candidate` for a new epoch, `fields` of the caller's tags.

    `after`: an entry of this order or later is fresh for this caller in any case, because it waited for it. `early`:
    take the lease although the entry is fresh, if it ends within so many ms; NEVER: do not.
    """

    id: bytes
    candidate: bytes
    fields: tuple[int, ...]
    limits: Limits
    after: int = 0
    early: int = NEVER
    heartbeat: int = 5_000


class Generations(NamedTuple):
    """The generations of a partition, or of the fields that were read. An empty `epoch`: there are none."""

    epoch: bytes = b""
    clock: int = 0
    floor: int = 0
    moved: Mapping[int, int] = {}


class Lease(NamedTuple):
    """The right to fill one key. `idle`: given back after a failure, and kept until `deadline` so that nobody tries."""

    id: bytes
    order: int
    deadline: int
    snapshot: Snapshot
    fields: tuple[int, ...]
    expire: int
    want: bool = False
    idle: bool = False
    fails: int = 0


class Slot(NamedTuple):
    """All that a decision about one key reads. `entry_fields`: the tags in the entry's own header."""

    head: Head | None
    entry_fields: tuple[int, ...]
    lease: Lease | None
    generations: Generations


class Grant(NamedTuple):
    """A granted lease: what the leader shows to fill, renew or release, and the generation to seal with."""

    id: bytes
    order: int
    snapshot: Snapshot


class Hit(NamedTuple):
    """The entry (fill, order) may be served. With a grant, the caller also refreshes it early."""

    fill: bytes
    order: int
    now: int
    grant: Grant | None = None


class Stale(NamedTuple):
    """The stale entry (fill, order) may be served. With a grant, the caller must refresh it."""

    fill: bytes
    order: int
    now: int
    grant: Grant | None = None


class Lead(NamedTuple):
    """There is nothing to serve, and the caller has the lease."""

    grant: Grant


class Follow(NamedTuple):
    """Another caller's flight is under way; look again after at most `remaining` ms."""

    id: bytes
    order: int
    remaining: int


Claim = Hit | Stale | Lead | Follow


class Windows(NamedTuple):
    """For one caller's limits, in ms: until when an entry is fresh, servable during a refresh, servable on error."""

    fresh: int
    stale: int
    error: int


def valid(snapshot: Snapshot, fields: Iterable[int], generations: Generations) -> bool:
    """Whether nothing with this snapshot and these tags was invalidated since."""
    epoch, clock, floor, moved = generations
    if not epoch or snapshot.epoch != epoch or snapshot.clock < floor:
        return False
    return snapshot.clock == clock or all(moved.get(field, 0) <= snapshot.clock for field in fields)


def fresh_until(head: Head, limits: Limits) -> int:
    """When the entry stops being fresh: the earlier of its own end and the caller's ttl."""
    return min(head.fresh, head.created + limits.ttl) if head.ttl > limits.ttl else head.fresh


def windows(head: Head, limits: Limits) -> Windows:
    """The times of an entry for one caller."""
    fresh = fresh_until(head, limits)
    return Windows(fresh, min(head.stale, fresh + limits.grace), min(head.error, fresh + limits.error))


def fresh_for(head: Head, limits: Limits, now: int) -> bool:
    """Whether the caller takes this entry without a call upstream."""
    # Not `>`: "no-cache" is max_age 0, and an entry made in this very millisecond does not answer it.
    if limits.max_age != NEVER and max(0, now - head.created) >= limits.max_age:
        return False
    if limits.max_stale and now >= head.hard:
        return False
    return now + limits.min_fresh < fresh_until(head, limits) + limits.max_stale


def taken_until(head: Head, limits: Limits) -> int:
    """When the caller stops to take this entry without a call upstream, as far as no invalidation reaches it."""
    end = fresh_until(head, limits) + limits.max_stale - limits.min_fresh
    return end if limits.max_age == NEVER else min(end, head.created + limits.max_age)


def within_age(head: Head, limits: Limits, now: int) -> bool:
    """Whether the caller's own directives allow a stale answer of this age."""
    return not limits.min_fresh and (limits.max_age == NEVER or max(0, now - head.created) < limits.max_age)


def live(lease: Lease | None, fields: Iterable[int], generations: Generations, now: int, heartbeat: int) -> bool:
    """Whether a lease keeps others out: no invalidation outdated it, and its deadline is ahead.

    No heartbeat (or backoff) sets a deadline so far ahead, unless the clock stepped back: such a lease is dead.
    """
    if lease is None or now >= lease.deadline or now >= lease.expire:
        return False
    if lease.deadline - now > (BACKOFF_CAP if lease.idle else heartbeat):
        return False
    return valid(lease.snapshot, {*lease.fields, *fields}, generations)


def claim(slot: Slot, ask: Ask, now_us: int) -> tuple[Claim, Slot]:
    """What a lookup may do that plain reads could not serve: serve, serve stale, lead, or follow. `now_us` in us."""
    now = now_us // 1000
    if not slot.generations.epoch:
        epoch = ask.candidate[:4] + (now_us & 0xFFFFFFFF).to_bytes(4, "big")
        slot = slot._replace(generations=slot.generations._replace(epoch=epoch))
    lease, head, gens = slot.lease, slot.head, slot.generations
    if lease is not None and now >= lease.expire:
        lease = None
        slot = slot._replace(lease=None)
    if head is not None and (
        now >= head.hard or not valid(Snapshot(head.epoch, head.clock), {*slot.entry_fields, *ask.fields}, gens)
    ):
        head = None
    held = lease if live(lease, ask.fields, gens, now, ask.heartbeat) else None
    own = lease is not None and lease.id == ask.id and not lease.idle
    if own and lease and valid(lease.snapshot, {*lease.fields, *ask.fields}, gens):
        return _decide(head, None, ask, now, Grant(lease.id, lease.order, lease.snapshot)), slot
    decision = _decide(head, held, ask, now, None)
    if isinstance(decision, Follow):
        return decision, slot if held is None or held.want else slot._replace(lease=held._replace(want=True))
    if isinstance(decision, Lead) or decision.grant:
        return _granted(decision, slot, ask, now_us)
    return decision, slot


_OPEN = Grant(b"", 0, Snapshot(b"", 0))  # stands for a grant that _granted makes


def _decide(head: Head | None, held: Lease | None, ask: Ask, now: int, grant: Grant | None) -> Claim:
    """The decision table. `head`: servable by its generation; `held`: keeps others out; `grant`: the caller's own."""
    free = grant or (None if held else _OPEN)
    if head is not None:
        window = windows(head, ask.limits)
        if fresh_for(head, ask.limits, now) or (ask.after and head.order >= ask.after):
            early = ask.early != NEVER and window.fresh - now <= ask.early
            return Hit(head.fill, head.order, now, grant or (free if early else None))
        if within_age(head, ask.limits, now):
            if now < window.stale:
                return Stale(head.fill, head.order, now, free)
            if held and held.idle and now < window.error:
                return Stale(head.fill, head.order, now)
    if free or held is None or held.idle:
        return Lead(free or _OPEN)
    return Follow(held.id, held.order, min(held.deadline - now, ask.heartbeat))


def _granted(decision: Hit | Stale | Lead, slot: Slot, ask: Ask, now_us: int) -> tuple[Claim, Slot]:
    old, head, gens = slot.lease, slot.head, slot.generations
    # Also above the entry's order: a DEL of the lease forgets the last one, and the clock may have stepped back.
    order = max(now_us, old.order + 1 if old else 0, head.order + 1 if head else 0)
    now = now_us // 1000
    snapshot = Snapshot(gens.epoch, gens.clock)
    lease = Lease(
        ask.id, order, now + ask.heartbeat, snapshot, ask.fields, now + LEASE_LIFE, fails=old.fails if old else 0
    )
    return decision._replace(grant=Grant(ask.id, order, snapshot)), slot._replace(lease=lease)


def holds(lease: Lease | None, flight: bytes, order: int, now: int) -> bool:
    """Whether this very flight still has the lease, even past its deadline."""
    return lease is not None and lease[:2] == (flight, order) and not lease.idle and now < lease.expire


def flying(lease: Lease, now: int) -> bool:
    """Whether the call that a lease was granted for still runs, as far as its renewals tell."""
    return not lease.idle and now < lease.deadline and now < lease.expire


def renew(slot: Slot, flight: bytes, order: int, heartbeat: int, now: int) -> tuple[str, Slot]:
    """``ok``, ``want`` (another process waits) or ``lost``. Never makes a lease and never lengthens its life."""
    if slot.lease is None or not holds(slot.lease, flight, order, now):
        return "lost", slot
    if not valid(slot.lease.snapshot, slot.lease.fields, slot.generations):
        return "lost", slot
    lease = slot.lease._replace(deadline=now + heartbeat)
    return ("want" if lease.want else "ok"), slot._replace(lease=lease)


def fill(slot: Slot, flight: bytes, order: int, ends: int, now: int) -> tuple[str, bool, Slot]:
    """Whether a flight may store: (verdict, whether its tape must be written, the slot). `ends`: hard end, ms.

    ``stored``; ``unkept`` (its life is over at once); ``moved`` (invalidated since the grant); ``lost`` (the lease is
    gone or another's). The tape serves the followers of this flight. It is written if one of them asked for it and the
    entry will not tell it, and always if the lease that knew of them is gone.
    """
    lease, head = slot.lease, slot.head
    if lease is None or not holds(lease, flight, order, now):
        if head is None or (head.fill, head.order) != (flight, order):
            return "lost", True, slot
        if valid(Snapshot(head.epoch, head.clock), slot.entry_fields, slot.generations):
            return "stored", False, slot
        return "moved", True, slot
    slot = slot._replace(lease=None)
    if not valid(lease.snapshot, lease.fields, slot.generations):
        return "moved", True, slot
    if ends <= now:
        return "unkept", lease.want, slot
    return "stored", False, slot


def backoff(fails: int, hint: int) -> int:
    """How long no caller tries again after `fails` failures in a row, ms; `hint`: upstream's own retry-after, ms."""
    grown = min(BACKOFF_FIRST << min(fails - 1, 5), BACKOFF_LAST)
    return min(max(grown, hint), BACKOFF_CAP)


def ordered(lease: Lease | None, flight: bytes, order: int) -> int:
    """The order that a release means: 0 stands for the order granted to this id, and is returned if there is none.

    Followers know the flight by its granted order, so the store names tape and notices by it too.
    """
    return lease.order if lease is not None and not order and lease.id == flight else order


def release(slot: Slot, flight: bytes, order: int, failed: bool, hint: int, now: int) -> tuple[bool, Slot]:
    """Give the lease back: (whether its tape must be written, the slot). `failed`: upstream was in trouble.

    After a failure, if an answer is still servable on error, the lease stays idle for the backoff. Otherwise every
    stale lookup of all processes would pay for a failing call.
    """
    lease, head = slot.lease, slot.head
    order = ordered(lease, flight, order)
    if not order:
        return False, slot
    if lease is None or not holds(lease, flight, order, now):
        return True, slot
    servable = (
        head is not None
        and now < head.hard
        and valid(Snapshot(head.epoch, head.clock), {*slot.entry_fields, *lease.fields}, slot.generations)
    )
    if not (failed and servable):
        return lease.want, slot._replace(lease=None)
    fails = lease.fails + 1
    until = now + backoff(fails, hint)
    idle = lease._replace(deadline=until, expire=until + BACKOFF_LAST, idle=True, fails=fails, want=False)
    return lease.want, slot._replace(lease=idle)


def extend(slot: Slot, flight: bytes, order: int, hot_ttl: int, cap: int, now: int) -> Dates | None:
    """The dates of an entry that slides, or None. They only move later, and never past `cap` ms from its birth."""
    head = slot.head
    if head is None or (head.fill, head.order) != (flight, order) or now >= head.fresh:
        return None
    if not valid(Snapshot(head.epoch, head.clock), slot.entry_fields, slot.generations):
        return None
    end = head.created + cap
    fresh = min(now + hot_ttl, end)
    gain = fresh - head.fresh
    if gain <= 0:
        return None
    return Dates(
        head.created, fresh, max(head.stale, min(head.stale + gain, end)), max(head.error, min(head.error + gain, end))
    )


def invalidate(generations: Generations, fields: Iterable[int], everything: bool) -> Generations:
    """Move the counter of the partition, and with it the named fields (or the floor, for everything)."""
    clock = generations.clock + 1
    moved = {**generations.moved, **dict.fromkeys(fields, clock)}
    after = generations._replace(clock=clock, moved=moved, floor=clock if everything else generations.floor)
    return compacted(after) if len(moved) > FIELDS else after


def compacted(generations: Generations) -> Generations:
    """The older half of the fields forgotten, and the floor above them: entries made before they moved become invalid.

    Fields that moved just now stay, however many they are: forgetting them would invalidate everything.
    """
    moved = generations.moved
    middle = sorted(moved.values())[len(moved) // 2]
    floor = max(generations.floor, min(middle, generations.clock - 1))
    return generations._replace(floor=floor, moved={field: when for field, when in moved.items() if when > floor})
