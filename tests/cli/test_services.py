"""A doctor at services of every kind: what they cannot do is told with what is lost, and the doctor itself never fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.cli import checks_redis
from askonce.cli.check import Check
from askonce.cli.checks import checks
from askonce.cli.checks_abilities import NEEDS, line
from askonce.cli.place import find
from askonce.store.redis.abilities import Ability, abilities
from askonce.store.redis.address import RedisAddress, from_url
from askonce.store.redis.names import Names
from askonce.store.redis.trouble import Refusal
from askonce.testing import RedisServer, ValkeyServer
from askonce.testing.clusters import Cluster
from askonce.testing.sentinels import SentinelGroup
from askonce.testing.servers import Redis8Server, Server
from tests.fixtures import started
from tests.store.filtering import Manner, Service

NAMES = Names("p").unused(0)


def told(url: str, prefix: str = "p") -> dict[str, Check]:
    found: dict[str, Check] = {}
    for check in checks(find(url, prefix)):
        if found.setdefault(check.name, check).state == "ok":
            found[check.name] = check  # of several lines with one name, the first that is not well
    return found


@pytest.fixture(scope="module", params=[ValkeyServer, RedisServer, Redis8Server])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the servers that this page of tests knows."""
    yield from started(request.param())


def address(url: str) -> RedisAddress:
    return from_url(url, {})


# --- servers ------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_whole_server_can_do_all_of_it_and_keeps_nothing_of_the_trials(server: Server):
    assert all(ability.can for ability in abilities(address(server.url), *NAMES).values())
    assert server.command("DBSIZE") == 0


@pytest.mark.servers
def test_a_doctor_has_a_line_for_each_thing_that_askonce_needs(server: Server):
    found = told(server.url)
    lines = {"server", "memory", "persist", "clock", "resp3", *(need.name for need in NEEDS.values()), "rights"}
    assert lines <= found.keys()
    assert {found[name].state for name in lines - {"memory"}} == {"ok"}
    assert "p99" in found["lookup"].said


# --- services that forbid commands --------------------------------------------------------------------------------

# What each ability is lost with.
LOST_WITH = {
    "scripts": {"EVAL", "EVALSHA"},
    "loading": {"SCRIPT LOAD", "SCRIPT EXISTS"},
    "undeclared": {"EVAL"},
    "notices": {"EVAL", "SUBSCRIBE", "PUBLISH"},
    "sharded": {"EVAL", "SSUBSCRIBE", "SPUBLISH"},
    "tracking": {"CLIENT TRACKING", "CLIENT CACHING"},
}
BESIDES = {"INFO", "CONFIG GET", "CLUSTER INFO", "SCAN", "DBSIZE", "TIME", "SCRIPT", "UNLINK"}
FORBIDDEN = sorted(set().union(*LOST_WITH.values(), BESIDES))


@pytest.mark.servers
@pytest.mark.parametrize("word", sorted(set().union(*LOST_WITH.values())))
def test_what_a_service_forbids_is_told_with_what_is_lost(valkey: Server, word: str):
    with Service(valkey, {word}) as service:
        found = abilities(address(service.url), *NAMES)
    for name, words in LOST_WITH.items():
        assert found[name].can is (word not in words), name
        assert found[name].can or found[name].why


@pytest.mark.servers
@pytest.mark.parametrize("manner", ["swallow", "hang up"])
def test_a_service_that_says_nothing_or_hangs_up_leaves_the_doctor_without_a_verdict(valkey: Server, manner: Manner):
    with Service(valkey, {"CLIENT TRACKING", "INFO", "CONFIG GET"}, manner) as service:
        found = told(service.url)
    assert "cannot tell" in found["tracking"].said
    assert "cannot tell" in found["memory"].said
    assert "cannot tell" in found["persist"].said
    assert found["server"].state == "hint"
    assert found["rights"].state == found["scripts"].state == "ok"


@pytest.mark.servers
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.sets(st.sampled_from(FORBIDDEN), max_size=6), manner=st.sampled_from(["refuse", "hang up"]))
def test_whatever_a_service_forbids_the_doctor_goes_through_to_its_end(valkey: Server, words: set[str], manner: Manner):
    with Service(valkey, words, manner) as service:
        found = told(service.url)
    assert {"server", "memory", "persist", "clock", "scripts", "tracking", "rights"} <= found.keys()
    assert all(check.remedy or check.state != "bad" for check in found.values())
    if not words & LOST_WITH["scripts"]:
        assert found["scripts"].state == "ok"
    elif manner == "refuse":
        assert found["scripts"].state == "bad"


@pytest.mark.servers
def test_a_service_without_scripts_is_no_store_and_one_without_tracking_is(valkey: Server):
    with Service(valkey, {"EVAL", "EVALSHA"}) as service:
        found = told(service.url)
    assert found["scripts"].state == found["rights"].state == "bad"
    assert "nothing is cached" in found["scripts"].remedy
    with Service(valkey, {"CLIENT TRACKING"}) as service:
        found = told(service.url)
        assert not abilities(address(service.url), *NAMES)["tracking"].can
    assert found["tracking"].state == "hint"
    assert "near=" in found["tracking"].remedy
    assert found["rights"].state == "ok"


@pytest.mark.servers
def test_what_a_user_may_not_do_is_told_by_the_servers_word(own_valkey: Server):
    own_valkey.command("ACL", "SETUSER", "cat", "on", ">meow", "~{p:*", "&{p:*", "+@all", "-config", "-client|tracking")
    found = told(own_valkey.url.replace("redis://", "redis://cat:meow@"))
    assert "NOPERM" in found["tracking"].said
    assert "cannot tell" in found["persist"].said
    assert found["memory"].said.endswith("noeviction"), "INFO tells it too"
    assert found["rights"].state == "ok"


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
def test_each_thing_that_is_missing_has_a_plain_consequence(need):
    missing = line(need, Ability(False, "NOPERM"), "p")
    assert missing.state == need.state
    assert "NOPERM" in missing.said
    assert "nothing" in missing.said if need.state == "ok" else missing.remedy
    assert line(need, Ability(None, "no reply"), "p").said.startswith("cannot tell")
    assert line(need, Ability(True), "p") == Check(need.name, need.what)


def test_a_cluster_needs_sharded_channels_and_a_single_server_does_not():
    missing = Ability(False, "unknown command")
    assert line(NEEDS["sharded"], missing, "p").state == "ok"
    assert "not woken" in line(NEEDS["sharded"], missing, "p", cluster=True).remedy


# --- what a server says of itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "save", "fsync", "state", "said"),
    [
        ({}, "", None, "ok", "nothing invalidated comes back"),
        ({}, "3600 1", None, "hint", "undoes all invalidations"),
        ({}, None, None, "hint", "cannot tell"),
        ({"aof_enabled": "1"}, "3600 1", "everysec", "ok", "at most 1 s"),
        ({"aof_enabled": "1"}, "", "always", "ok", "loses nothing"),
        ({"aof_enabled": "1"}, None, None, "ok", "loses little"),
        ({"rdb_last_bgsave_status": "err"}, "3600 1", None, "hint", "snapshot failed"),
    ],
)
def test_what_is_left_after_a_crash_is_said_beforehand(info, save, fsync, state: str, said: str):
    check = checks_redis.persistence(info, save, fsync)
    assert check.state == state
    assert said in check.said


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("allkeys-lru", ""),
        ("allkeys-lfu", ""),
        ("volatile-lru", ""),
        ("volatile-lfu", ""),
        ("volatile-ttl", "leases and running streams first"),
        ("volatile-random", "asked most"),
        ("allkeys-random", "asked most"),
        ("noeviction", "refuses to store"),
    ],
)
def test_every_eviction_policy_has_its_consequence(policy: str, told: str):
    for more in ({}, {"maxmemory": "100", "used_memory": "1"}):
        check = checks_redis.memory({"maxmemory_policy": policy, **more})
        assert (check.state == "hint") is bool(told)
        assert told in check.remedy


@pytest.mark.parametrize(
    ("reply", "state", "told"),
    [
        (b"cluster_state:ok\r\ncluster_slots_ok:16384\r\ncluster_size:3\r\n", "ok", "3 primaries"),
        (b"cluster_state:fail\r\ncluster_slots_ok:16000\r\ncluster_size:3\r\n", "bad", "16000 of 16384"),
        (b"cluster_state:fail\r\ncluster_slots_ok:16384\r\n", "bad", "16384"),
        (Refusal("NOPERM"), "hint", "cannot tell"),
        (None, "hint", "cannot tell"),
    ],
)
def test_a_cluster_with_slots_missing_is_bad(reply, state: str, told: str):
    check = checks_redis.cluster(reply)
    assert check.state == state
    assert told in check.said


@pytest.mark.parametrize(
    ("reply", "state"),
    [([b"0", b"0"], "hint"), (Refusal("ERR unknown command 'TIME'"), "bad"), (None, "bad"), ([b"now"], "hint")],
)
def test_a_clock_that_is_off_or_silent_is_told(monkeypatch, reply, state: str):
    monkeypatch.setattr(checks_redis, "first_reply", lambda *_: reply)
    assert checks_redis.clock(address("redis://h")).state == state


# --- sentinels ----------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_doctor_asks_each_sentinel(sentinels: SentinelGroup):
    found = told(sentinels.url)
    assert found["service"].state == "ok"
    assert found["service"].said == f"3 of 3 sentinels name 127.0.0.1:{sentinels.primary().port}"
    assert found["rights"].state == "ok"


@pytest.mark.servers
def test_a_doctor_names_the_sentinel_that_does_not_answer(sentinels: SentinelGroup):
    found = told(sentinels.url.replace("/mymaster", ",127.0.0.1:1/mymaster"))
    assert found["service"].said.startswith("3 of 4 sentinels")
    assert "127.0.0.1:1" in found["sentinel"].said
    assert found["sentinel"].state == "hint"


@pytest.mark.servers
def test_a_doctor_tells_the_services_that_there_are(sentinels: SentinelGroup):
    found = told(sentinels.url.replace("mymaster", "theirs"))
    assert "they know: 'mymaster'" in found["reach"].said
    assert "name one of the services" in found["reach"].remedy


@pytest.mark.servers
def test_a_doctor_tells_a_sentinel_from_a_server(sentinels: SentinelGroup, valkey: Server):
    found = told(f"redis://127.0.0.1:{sentinels.sentinels[0].port}")
    assert "redis+sentinel://" in found["server"].remedy
    found = told(valkey.url.replace("redis://", "redis+sentinel://").replace("/0", "/mymaster"))
    assert "it is no sentinel" in found["reach"].said


# --- Clusters -----------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_doctor_looks_at_every_primary_of_a_cluster(cluster: Cluster):
    found = told(cluster.url)
    assert {found[name].state for name in ("cluster", "scripts", "notices", "sharded", "tracking", "rights")} == {"ok"}
    assert found["cluster"].said == "3 primaries, 16384 of 16384 slots"


@pytest.mark.servers
def test_a_doctor_tells_a_node_of_a_cluster_from_a_server_and_the_other_way_round(cluster: Cluster, valkey: Server):
    found = told(f"redis://127.0.0.1:{cluster.servers[0].port}/0")
    assert any("redis+cluster://" in check.said + check.remedy for check in found.values() if check.state == "bad")
    found = told(valkey.url.replace("redis://", "redis+cluster://").removesuffix("/0"))
    assert any("redis://" in check.remedy for check in found.values() if check.state == "bad")
