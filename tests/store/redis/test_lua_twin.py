"""The law that ties the scripts to core.lease: over random states, both decide and leave behind the same.

A test of this test: if any one check of a script is removed, the law is broken.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from askonce.core import lease
from askonce.core.lease import Follow, Hit, Lead, Stale
from askonce.core.model import pack_fields
from askonce.store import PARTITIONS, ledger
from askonce.store.redis import address
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import Connection
from askonce.store.redis.scripts import Scripts, pack
from askonce.testing.servers import Server
from tests.store import twin
from tests.store.draw import Draw

pytestmark = pytest.mark.servers
SEED = 2026


@pytest.fixture(params=["valkey", "redis_server"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    server: Server = request.getfixturevalue(request.param)
    opened = open_connection(address.from_url(server.url, {"socket_timeout": 10.0}))
    yield opened
    opened.close()


@pytest.fixture
def valkey_connection(valkey: Server) -> Iterator[Connection]:
    opened = open_connection(address.from_url(valkey.url, {"socket_timeout": 10.0}))
    yield opened
    opened.close()


def teach(connection: Connection, known: Scripts) -> None:
    scripts = [known.claim, known.renew, known.fill, known.release, known.extend, known.invalidate, known.count]
    connection.exchange(b"".join(pack(b"SCRIPT", b"LOAD", script.text) for script in scripts), len(scripts))


def broken(
    connection: Connection, verb: twin.Verb, count: int, known: Scripts | None = None, seed: int = SEED
) -> list[str]:
    """The first differences over so many random states, told in full."""
    known = known or twin.scripts()
    teach(connection, known)
    told = []
    for case, what, expected, found in twin.run(connection, twin.cases(Draw(seed), verb, count, known)):
        told.append(f"case {case.number}: {what}: {expected!r} expected, {found!r} found\n{case.state}\n{case.now_us}")
        if len(told) == 3:
            break
    return told


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("verb", "count"),
    [(twin.claim, 10_000), (twin.fill, 2_000), (twin.release, 2_000), (twin.renew, 2_000), (twin.extend, 2_000)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_script_and_core_lease_decide_and_leave_behind_the_same(
    connection: Connection, verb: twin.Verb, count: int, share: int
):
    assert not broken(connection, verb, count // share)


def test_the_random_states_reach_every_outcome_many_times():
    seen: Counter[str] = Counter()
    known = Scripts()
    for case in twin.cases(Draw(SEED), twin.claim, 10_000, known):
        said, held = case.expected, case.state.lease
        own = held is not None and getattr(said, "grant", None) is not None and said.grant.order == held.order
        seen[f"{type(said).__name__}{'+lease' if getattr(said, 'grant', None) else ''}{' again' if own else ''}"] += 1
        seen["idle"] += isinstance(said, Stale) and held is not None and held.idle and not said.grant
        seen["new epoch"] += not case.state.generations.epoch
        seen["want"] += isinstance(said, Follow) and held is not None and not held.want
    wanted = ["Lead+lease", "Lead+lease again", "Hit", "Hit+lease", "Hit+lease again", "Stale", "Stale+lease", "Follow"]
    assert {name: seen[name] for name in [*wanted, "idle", "new epoch", "want"] if seen[name] < 50} == {}, seen
    assert {Hit.__name__, Lead.__name__} <= {name.partition("+")[0] for name in seen}


def test_invalidate_moves_the_counter_the_fields_and_the_floor_as_core_lease_does(connection: Connection):
    known, draw = twin.scripts(), Draw(SEED)
    teach(connection, known)
    for number in range(2_000 // PARTITIONS):
        sent, expected = [], []
        for partition in range(PARTITIONS):
            name = b"%d:%d:g" % (number, partition)
            before = draw.generations()
            fields, everything = draw.fields(), draw.chance(0.3)
            sent += twin.load_generations(name, before)
            sent.append(known.invalidate.call((name,), (int(everything), pack_fields(fields), 0)))
            sent.append(pack(b"HGETALL", name))
            expected.append(lease.invalidate(before, fields, everything))
        replies = [reply for reply in connection.exchange(b"".join(sent), len(sent)) if isinstance(reply, dict)]
        assert [twin.read_generations(reply) for reply in replies] == expected


@pytest.mark.parametrize("partition", [0, 5, 63])
@pytest.mark.parametrize("spread", [1, 7, 5_000])
def test_of_too_many_fields_the_older_half_goes_as_core_lease_has_it_when_the_partition_has_its_turn(
    connection: Connection, partition: int, spread: int
):
    known, name = twin.scripts(), b"{p:%d}:g1" % partition
    teach(connection, known)
    connection.exchange(pack(b"DEL", name), 1)
    # As if fields had moved in groups, one group in each move; and the counter is before this partition's turn.
    clock = 64 * 200 - partition - 1
    fields = range(lease.FIELDS + 100)
    before = lease.Generations(b"an epoch", clock, 3, {field: clock - field * spread // 5_000 for field in fields})
    expected = lease.invalidate(before, (9_000, 9_001), everything=False)
    sent = [*twin.load_generations(name, before), known.invalidate.call((name,), (0, pack_fields((9_000, 9_001)), 0))]
    reply = connection.exchange(b"".join([*sent, pack(b"HGETALL", name)]), len(sent) + 1)[-1]
    assert twin.read_generations(reply) == expected
    assert expected.floor > before.floor
    assert len(expected.moved) <= lease.FIELDS or spread == 1


def test_count_counts_as_the_other_stores_do(connection: Connection):
    known, choose = twin.scripts(), random.Random(SEED)
    teach(connection, known)
    for number in range(100):
        row, now, window = None, 1_800_000_000_000, choose.choice([1, 2, 1_000, 3_600_000])
        for _ in range(20):
            now += choose.choice([0, 1, window // 4, window // 2, window, 3 * window])
            hits = choose.randrange(1, 100)
            row = ledger.counted(row, hits, window, now)
            call = known.count.call((b"%d:h" % number,), (hits, window, now * 1000))
            # A window of few ms is over for the server, whose own clock ends what is kept.
            if window >= 1_000:
                assert connection.exchange(call, 1) == [row[1] + row[2]]


# Without two lines that repeat, like core.lease, what was checked before (a caller's max_stale ends at the hard end,
# and Follow's remaining at a heartbeat).
FAULTS = [
    ("claim", "if head and (now >= head.hard or not valid(g, head, fields)) then head = nil end", ""),
    ("claim", "now >= head.hard or not valid", "not valid"),
    ("claim", "if not lease or now >= lease.deadline then return false end", "if not lease then return false end"),
    ("claim", "if lease.deadline - now > (lease.idle and BACKOFF_CAP or heartbeat) then return false end", ""),
    ("claim", "  return valid(g, lease, fields)\nend", "  return true\nend"),
    ("claim", "if max_age ~= NEVER and math.max(0, now - head.created) >= max_age then return false end", ""),
    ("claim", "return now + min_fresh < fresh + max_stale", "return now < fresh + max_stale"),
    ("claim", "not lease.idle and valid(g, lease, fields) and lease\n", "valid(g, lease, fields) and lease\n"),
    ("claim", "not lease.idle and valid(g, lease, fields) and lease\n", "not lease.idle and lease\n"),
    ("claim", "found and found.order + 1 or 0", "0"),
    ("claim", "lease and lease.order + 1 or 0", "0"),
    ("claim", " or (after ~= 0 and head.order >= after)", ""),
    ("claim", "head.order >= after", "head.order > after"),
    ("claim", "if head.ttl > math.min(ttl, TTL_CAP) then", "if false then"),
    ("claim", "min_fresh == 0 and ", ""),
    ("claim", "if not held or held.idle then", "if not held then"),
    ("claim", "  redis.call('HSET', KEYS[2], 'want', '1')\n", ""),
    ("claim", "if not held.want then\n", "do\n"),
    ("claim", "redis.call('PEXPIRE', KEYS[2], LEASE_LIFE)", ""),
    ("claim", "    indexed(KEYS[4], KEYS[2], now)\n", ""),
    ("claim", "of.clock < g.floor", "false"),
    ("claim", "of.epoch ~= g.epoch or ", ""),
    ("claim", "moved(g, of.fields, of.clock) or ", ""),
    ("claim", " or moved(g, fields, of.clock)", ""),
    ("claim", "(flags % 32 >= 16 and flags % 128 < 64) or ", ""),
    ("claim", " and flags % 128 < 64", ""),
    ("claim", "whose ~= digest or ", ""),
    ("claim", "'%.0f'", "'%.14g'"),
    ("claim", "whole and now < lease.expire and lease", "whole and lease"),
    ("renew", " or not valid(generations(KEYS[2]), lease, '')", ""),
    ("renew", "lease.order == order and ", ""),
    ("renew", " and not lease.idle", ""),
    ("fill", "if not valid(g, lease, '') then return 'moved', true end", ""),
    ("fill", "if hard <= now then return 'unkept', lease.want end", ""),
    ("fill", " or head.order ~= order", ""),
    ("fill", "if valid(g, head, '') then return 'stored', false end", "return 'stored', false"),
    ("fill", "if held then redis.call('DEL', KEYS[2]) end", ""),
    ("fill", "if held then unindexed(KEYS[5], KEYS[2]) end", ""),
    ("fill", "lease.order == order and ", ""),
    ("release", "if failed and head and now < head.hard and valid(g, head, lease.fields) then", "if failed then"),
    ("release", "if not lease or lease.id ~= flight then return 'OK' end", ""),
    ("release", "math.min(math.max(grown, hint), BACKOFF_CAP)", "math.max(grown, hint)"),
    ("release", " 'want', '0',", ""),
    ("release", "  unindexed(KEYS[5], KEYS[2])\n", ""),
    ("release", "'NX', ", ""),
    ("release", "ARGV[8] ~= 's' and ", ""),
    ("extend", " or head.order ~= tonumber(ARGV[4])", ""),
    ("extend", " or now >= head.fresh", ""),
    ("extend", "if not valid(generations(KEYS[2]), head, '') then return 0 end", ""),
    ("extend", "if gain <= 0 then return 0 end", ""),
    ("extend", "math.min(now + ARGV[5], last)", "now + ARGV[5]"),
]


@pytest.mark.parametrize(("name", "old", "new"), FAULTS, ids=[f"{name}: {old[:50]}" for name, old, _ in FAULTS])
def test_the_law_is_broken_when_a_check_is_dropped(valkey_connection: Connection, name: str, old: str, new: str):
    known = twin.scripts(name, old, new)
    verb = getattr(twin, name)
    assert any(broken(valkey_connection, verb, 2_500, known, seed) for seed in range(4))
