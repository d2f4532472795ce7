"""The table of bars: which rows there are, in the order of the issues that ask for them."""

from __future__ import annotations

from bench import (
    cancels,
    clone,
    collapse,
    entries,
    failures,
    files,
    forks,
    freshness,
    hits,
    imports,
    leaders,
    outages,
    scopes,
    storm,
    wakeups,
)
from bench.row import Row

TABLE = (
    Row(
        "clone",
        "fresh clone, nothing installed: make demo, make test",
        "both pass; make test <= 5 min",
        clone.fresh,
        heavy=True,
    ),
    Row(
        "cold",
        "8 processes x 25 callers, one cold key, a 12 s call",
        "1 call; all answered within 0.25 s of each other",
        collapse.cold,
        heavy=True,
    ),
    Row(
        "killed",
        "leader SIGKILLed in the middle of its call",
        "2 calls; a waiter is served within the deadline + 1 s + the call",
        leaders.killed,
        heavy=True,
    ),
    Row(
        "replaced",
        "leader SIGSTOPped past its deadline, a successor fills, SIGCONT",
        "the successor's answer stays; the late fill is refused and counted",
        leaders.replaced,
        heavy=True,
    ),
    Row(
        "unreplaced",
        "leader stopped, nobody else asks, continues",
        "its answer is stored: no second call",
        leaders.unreplaced,
        heavy=True,
    ),
    Row(
        "failures",
        "a call that raises, or returns a refused answer, with 25 callers in one process, and in 4",
        "1 call in the process; elsewhere one successor at a time for an exception, 1 call for a refused answer;"
        " nothing stored",
        failures.shared,
        heavy=True,
    ),
    Row(
        "cancels",
        "callers cancelled at random (leader's, followers')",
        "the others are served; no task, thread, connection left",
        cancels.at_random,
        heavy=True,
    ),
    Row(
        "forks",
        "parent with open connections and a flight, 4 forked children, 1,000 lookups each",
        "no wrong reply; parent undisturbed",
        forks.children,
        heavy=True,
    ),
    Row(
        "blocked",
        "an event loop blocked for 10 s while it leads",
        "lease kept: 1 call",
        leaders.blocked,
        heavy=True,
    ),
    Row(
        "outages",
        "Redis closed; Redis frozen; Redis restarted empty; idle connection cut",
        "at most 0.25 s over the call's own time, then <= 1 ms (p99) while the breaker is open; back within 2 s; never"
        " an exception; an idle cut costs no paid call",
        outages.any_way,
        heavy=True,
    ),
    Row(
        "storm",
        "invalidate(request=) racing lookups, fills, joins from 4 processes, 30 s",
        "0 answers born before an acknowledged invalidation that preceded the lookup; planted faults are caught",
        storm.requests,
        heavy=True,
    ),
    Row(
        "hit",
        "a whole hit through fetch on loopback, 2 KB question and answer, sync, against redis.Redis.get of these bytes",
        "<= 1.2",
        hits.valkey,
    ),
    Row(
        "hit-sqlite",
        "a hit on SQLite against orjson.loads(diskcache.get(sha256(orjson.dumps(request))))",
        "<= 1.5",
        hits.sqlite,
    ),
    Row("hit-async", "the same on Valkey in tasks, against redis.asyncio.Redis.get", "none", hits.tasks),
    Row("wake-valkey", "waiters' wake-up on Valkey", "p50 <= 2 ms", wakeups.on_valkey),
    Row(
        "wake-sqlite",
        "waiters' wake-up on SQLite; 200 of them waiting",
        "p50 <= 50 ms; with 200 waiters under 5 % of a core",
        wakeups.on_sqlite,
        heavy=True,
    ),
    Row("import", "import askonce against import asyncio, sqlite3, orjson", "<= 1.3", imports.ratio),
    Row("opens", "1,000 simultaneous opens of one new SQLite file by 8 processes", "0 failures", files.opens),
    Row("bound", "3 x max_bytes written to SQLite", "file with its log <= 1.2 x max_bytes", files.bound),
    Row("flaky", "concurrency tests 20 times over (make flaky)", "0 failures", clone.flaky, heavy=True),
    Row(
        "storm-all",
        "a storm of lookups, fills, refreshes and invalidations by scope, tag, model from 4 processes for 60 s",
        "0 answers born before an acknowledged invalidation that preceded the lookup; planted faults are caught",
        storm.everything,
        heavy=True,
    ),
    Row(
        "fresh-cost",
        "cost of lifetimes, early refresh and all that on a plain fresh hit, against the hit path without",
        "<= 1.05",
        freshness.cost,
    ),
    Row("header", "header and extensions of an entry with 2 tags and a 20-byte scope", "<= 200 bytes", entries.header),
    Row(
        "memory",
        "used_memory over 100,000 entries of corpus bodies against plain SET of 64-hex names and bodies with a TTL",
        "<= 1.25",
        entries.memory,
        heavy=True,
    ),
    Row(
        "scope",
        "invalidate a scope holding 1,000 and 1,000,000 entries, Valkey",
        "the same time within 1.5x; under 5 ms with 64 partitions on one primary",
        scopes.invalidate,
        heavy=True,
    ),
)
ROWS = {row.name: row for row in TABLE}
