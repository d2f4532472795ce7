"""Checks of core.lease to remove: a name, the original source, the source without the check.

A mutant is omitted if its removal changes nothing that a store can show (a missing epoch also differs from that of
every snapshot), or if the store sweeps what the check would have refused (an entry past its hard end).
"""

from __future__ import annotations

MUTANTS: dict[str, tuple[str, str]] = {
    # the fence
    "fence without the order": ("lease[:2] == (flight, order)", "lease.id == flight"),
    "fence without the id": ("lease[:2] == (flight, order)", "lease.order == order"),
    "an idle lease may fill": (" and not lease.idle and now < lease.expire", " and now < lease.expire"),
    "a lease outlives its quarter of an hour": (" and not lease.idle and now < lease.expire", " and not lease.idle"),
    "an absent lease permits": (
        '            return "lost", True, slot',
        '            return "stored" if lease is None else "lost", True, slot',
    ),
    "renewals are not fenced": (
        "if slot.lease is None or not holds(slot.lease, flight, order, now):",
        "if slot.lease is None:",
    ),
    "releases are not fenced": (
        "    if lease is None or not holds(lease, flight, order, now):\n        return True, slot\n    servable",
        "    if lease is None:\n        return True, slot\n    servable",
    ),
    "order 0 is nobody's": (
        "lease.order if lease is not None and not order and lease.id == flight else order",
        "order",
    ),
    "order 0 is anybody's": (" and not order and lease.id == flight", " and not order"),
    "orders ignore the entry's": ("head.order + 1 if head else 0", "0"),
    "orders ignore the lease's": ("old.order + 1 if old else 0", "0"),
    # who is kept out
    "two leases": ("free = grant or (None if held else _OPEN)", "free = grant or _OPEN"),
    "an outdated lease keeps others out": (
        "        return False\n    return valid(lease.snapshot, {*lease.fields, *fields}, generations)",
        "        return False\n    return True",
    ),
    "the lease's tags do not count": (
        "return valid(lease.snapshot, {*lease.fields, *fields}, generations)",
        "return valid(lease.snapshot, fields, generations)",
    ),
    "the caller's tags do not count for the lease": (
        "return valid(lease.snapshot, {*lease.fields, *fields}, generations)",
        "return valid(lease.snapshot, lease.fields, generations)",
    ),
    "a dead leader keeps others out": ("now >= lease.deadline or ", ""),
    "a deadline beyond any heartbeat is believed": (
        "    if lease.deadline - now > (BACKOFF_CAP if lease.idle else heartbeat):\n        return False\n",
        "",
    ),
    "followers wait longer than the lease lives": ("min(held.deadline - now, ask.heartbeat)", "ask.heartbeat"),
    "nobody is told that somebody waits": (
        "slot if held is None or held.want else slot._replace(lease=held._replace(want=True))",
        "slot",
    ),
    # repeated claims
    "a repeated claim is stamped anew": (
        "Grant(lease.id, lease.order, lease.snapshot)",
        "Grant(lease.id, lease.order, Snapshot(gens.epoch, gens.clock))",
    ),
    "a repeated claim of an outdated lease is the same grant": (
        "if own and lease and valid(lease.snapshot, {*lease.fields, *ask.fields}, gens):",
        "if own and lease:",
    ),
    "a repeated claim is nothing special": ("own = lease is not None and lease.id == ask.id and", "own = False and"),
    "an idle lease is granted to its flight again": ("lease.id == ask.id and not lease.idle", "lease.id == ask.id"),
    # generations
    "an invalidated entry is served": (
        "now >= head.hard or not valid(Snapshot(head.epoch, head.clock), {*slot.entry_fields, *ask.fields}, gens)",
        "now >= head.hard",
    ),
    "the entry's own tags do not count": ("{*slot.entry_fields, *ask.fields}", "ask.fields"),
    "the caller's tags do not count": ("{*slot.entry_fields, *ask.fields}", "slot.entry_fields"),
    "epochs are not compared": ("snapshot.epoch != epoch or ", ""),
    "the floor is not compared": (" or snapshot.clock < floor", ""),
    "tags are not compared": (
        "snapshot.clock == clock or all(moved.get(field, 0) <= snapshot.clock for field in fields)",
        "True",
    ),
    "a tag that moved just before is a reason": (
        "moved.get(field, 0) <= snapshot.clock",
        "moved.get(field, 0) < snapshot.clock",
    ),
    "an epoch has the candidate's name alone": (
        'ask.candidate[:4] + (now_us & 0xFFFFFFFF).to_bytes(4, "big")',
        "ask.candidate[:4] * 2",
    ),
    "everything is not everything": ("floor=clock if everything else generations.floor", "floor=generations.floor"),
    "an invalidation does not move the counter": ("clock = generations.clock + 1", "clock = generations.clock"),
    # fills
    "a fill looks at the generation of now": (
        '    if not valid(lease.snapshot, lease.fields, slot.generations):\n        return "moved"',
        '    if not valid(Snapshot(*slot.generations[:2]), lease.fields, slot.generations):\n        return "moved"',
    ),
    "a fill leaves its lease": (
        "    slot = slot._replace(lease=None)\n    if not valid(lease",
        "    if not valid(lease",
    ),
    "a repeated fill of an invalidated entry says stored": (
        'if valid(Snapshot(head.epoch, head.clock), slot.entry_fields, slot.generations):\n            return "stored"',
        'if True:\n            return "stored"',
    ),
    "what has no life is kept": ("    if ends <= now:", "    if ends < 0:"),
    "a lost fill leaves no tape": ('return "lost", True, slot', 'return "lost", False, slot'),
    "a moved fill leaves no tape": (
        'lease.fields, slot.generations):\n        return "moved", True, slot',
        'lease.fields, slot.generations):\n        return "moved", False, slot',
    ),
    "an answer not kept leaves no tape": ('return "unkept", lease.want, slot', 'return "unkept", False, slot'),
    # renewals
    "an invalidated lease is renewed": (
        '    if not valid(slot.lease.snapshot, slot.lease.fields, slot.generations):\n        return "lost", slot\n',
        "",
    ),
    "a renewal lengthens the quarter of an hour": (
        "_replace(deadline=now + heartbeat)",
        "_replace(deadline=now + heartbeat, expire=now + LEASE_LIFE)",
    ),
    # failures
    "nobody rests after a failure": ("    if not (failed and servable):", "    if True:"),
    "everybody rests, though there is nothing to serve": ("    if not (failed and servable):", "    if not failed:"),
    "an invalidated answer is a reason to rest": (
        "        and now < head.hard\n        and valid(Snapshot(head.epoch, head.clock), {*slot.entry_fields, *lease.fields}, slot.generations)\n",
        "        and now < head.hard\n",
    ),
    "the answer kept for errors is not served meanwhile": (
        "if held and held.idle and now < window.error:",
        "if False:",
    ),
    "it is served whoever is at work": (
        "if held and held.idle and now < window.error:",
        "if held and now < window.error:",
    ),
    "who cannot be served waits for the rest to end": (
        "if free or held is None or held.idle:",
        "if free or held is None:",
    ),
    "failures are not counted": ("fails = lease.fails + 1", "fails = 1"),
    "failures are forgotten by the next lease": ("fails=old.fails if old else 0", "fails=0"),
    # windows
    "no-cache takes what was made this millisecond": (
        "if limits.max_age != NEVER and max(0, now - head.created) >= limits.max_age:",
        "if limits.max_age != NEVER and max(0, now - head.created) > limits.max_age:",
    ),
    "max-age does not bound a stale answer": ("if within_age(head, ask.limits, now):", "if True:"),
    "a shorter ttl of the caller does not count": (
        "if head.ttl > limits.ttl else head.fresh",
        "if False else head.fresh",
    ),
    "the caller's grace does not count": ("min(head.stale, fresh + limits.grace)", "head.stale"),
    "min-fresh does not count": ("return now + limits.min_fresh < ", "return now < "),
    "who waited takes an older entry": ("(ask.after and head.order >= ask.after)", "ask.after"),
    "who waited must find a later entry": (
        "(ask.after and head.order >= ask.after)",
        "(ask.after and head.order > ask.after)",
    ),
    "every hit is refreshed": ("grant or (free if early else None)", "grant or free"),
    "no hit is refreshed": ("grant or (free if early else None)", "grant"),
    # slides
    "any entry slides": ("(head.fill, head.order) != (flight, order) or now >= head.fresh", "now >= head.fresh"),
    "a stale entry slides": (" != (flight, order) or now >= head.fresh", " != (flight, order)"),
    "an invalidated entry slides": (
        "    if not valid(Snapshot(head.epoch, head.clock), slot.entry_fields, slot.generations):\n        return None\n",
        "",
    ),
    "an entry slides past its cap": ("fresh = min(now + hot_ttl, end)", "fresh = now + hot_ttl"),
    "an entry slides backwards": ("    if gain <= 0:", "    if gain == 0:"),
}
