"""The Redis store's own: names, foreign keys, rights, memory. The laws cover what every store must do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis.crc

from askonce.cache.stores import open_store
from askonce.core.keys import Key
from askonce.core.lease import Follow, Hit, Lead
from askonce.core.model import META, TAGS, Snapshot, read_entry, read_head, seal
from askonce.core.tape import ENDED, FAILED, SAID, SHARED, Ending, Notice, read_ending
from askonce.errors import PartialInvalidation, StoreUnavailable
from askonce.runtime.drive import drive
from askonce.store import LOG_LIFE, PARTITIONS, Held, Record, StoreTrouble
from askonce.store.redis.names import Names
from askonce.store.redis.store import RedisStore
from askonce.store.redis.trouble import Refusal
from askonce.testing.servers import Server
from tests.store.keeping import DAY, LIFE, ask, lead, put, sealed
from tests.store.puppet import key

pytestmark = pytest.mark.servers
K = key(0)


def opened(url: str, **options: Any) -> RedisStore:
    store = open_store(url, **options)
    assert isinstance(store, RedisStore)
    return store


@pytest.fixture
def store(valkey: Server) -> Iterator[RedisStore]:
    made = opened(valkey.url, prefix="p")
    yield made
    drive(made.close())


def trouble_of(work: Any) -> str:
    with pytest.raises(StoreTrouble) as trouble:
        drive(work)
    return trouble.value.kind


def as_user(server: Server, *rights: str) -> RedisStore:
    server.command("ACL", "SETUSER", "cat", "reset", "on", ">meow", *rights)
    return opened(server.url.replace("redis://", "redis://cat:meow@"), prefix="p")


class TestNames:
    @pytest.mark.parametrize("prefix", ["", "llm:v3", "ü", "a b", "*?[x]\\"])
    def test_all_names_of_a_key_are_in_the_slot_of_its_partition(self, prefix: str):
        names = Names(prefix)
        for number in range(200):
            one = Key(bytes([number]) * 32, "s")
            of = (*names.of(one), names.tape(one, b"i" * 16, 5), names.hits(one), names.channel(one))
            assert len({redis.crc.key_slot(name) for name in of}) == 1
            assert len(set(of)) == len(of)
            assert names.generations(number % PARTITIONS) == of[2]
        assert len({redis.crc.key_slot(names.generations(number)) for number in range(PARTITIONS)}) > PARTITIONS // 2

    def test_a_name_says_its_prefix_its_format_and_its_form_and_nothing_of_the_question(self):
        entry, lease, generations = Names("llm:v3").of(Key(b"\xff" * 32, "j"))
        assert entry == b"{llm:v3:63}:e1:_____________________w:j"
        assert lease == b"{llm:v3:63}:l1:_____________________w:j"
        assert generations == b"{llm:v3:63}:g1"
        assert Names("").generations(0) == b"{askonce:0}:g1"

    def test_what_a_user_with_the_documented_rights_does_is_allowed(self, own_valkey: Server):
        store = as_user(own_valkey, "~{p:*", "&{p:*", "+@all", "-@admin", "-@dangerous")
        put(store, K, 1)
        assert isinstance(drive(store.claim(K, ask(2))), Hit)
        drive(store.invalidate((3,), everything=True))
        drive(store.forget(K))
        link = store.link()
        link.subscribe(K)
        assert link.poll(1) == ([], [K])
        link.close()
        drive(store.close())


class TestForeignKeys:
    """A Redis user's keys in the way: said, never deleted, never a crash."""

    def test_a_list_in_an_entrys_place_is_said_and_left_alone(self, valkey: Server, store: RedisStore):
        grant = lead(store, K, 1)
        follower = drive(store.claim(K, ask(2)))
        assert isinstance(follower, Follow)
        name = store.names.of(K)[0]
        valkey.command("RPUSH", name, "theirs")
        assert trouble_of(store.look(K, ())) == "store-foreign"
        assert trouble_of(store.claim(K, ask(3))) == "store-foreign"
        assert trouble_of(store.entry(K)) == "store-foreign"
        assert trouble_of(store.fill(K, grant.id, grant.order, sealed(K, grant), LIFE)) == "store-foreign"
        drive(store.forget(K))
        assert valkey.command("LRANGE", name, 0, -1) == [b"theirs"]
        # Every follower is still told.
        ending = read_ending(drive(store.tape(K, grant.id, grant.order)) or b"")
        assert ending == Ending(SHARED, "unkept", b"answer")

    @pytest.mark.parametrize("at", [1, 2], ids=["lease", "generations"])
    def test_a_text_in_the_place_of_a_lease_or_of_generations_is_said(self, valkey: Server, store: RedisStore, at: int):
        name = store.names.of(K)[at]
        valkey.command("SET", name, "theirs")
        assert trouble_of(store.claim(K, ask(1))) == "store-foreign"
        assert trouble_of(store.release(K, ask(1).id, 7, Ending(FAILED))) == "store-foreign"
        drive(store.forget(K))
        assert valkey.command("GET", name) == b"theirs"

    def test_generations_that_are_no_numbers_are_said_and_keep_nothing_alive(self, valkey: Server, store: RedisStore):
        put(store, K, 1)
        valkey.command("HSET", store.names.of(K)[2], "clk", "many")
        assert trouble_of(store.look(K, (5,))) == "store-foreign"
        assert trouble_of(store.standing()) == "store-foreign"
        valkey.command("HSET", store.names.of(K)[2], "clk", "3", "t:5", "yesterday")
        assert isinstance(drive(store.claim(K, ask(2)._replace(fields=(5,)))), Lead)

    @pytest.mark.parametrize("text", ["", "theirs", "ao\1", "ao" + "x" * 200])
    def test_a_text_that_is_no_entry_counts_as_none_and_is_replaced(self, valkey: Server, store: RedisStore, text: str):
        valkey.command("SET", store.names.of(K)[0], text)
        grant = put(store, K, 1)
        entry = drive(store.entry(K)) or b""
        assert read_entry(entry, K.digest, "v").order == grant.order

    def test_a_hash_that_is_no_lease_counts_as_none(self, valkey: Server, store: RedisStore):
        valkey.command("HSET", store.names.of(K)[1], "id", "theirs", "order", "x")
        assert isinstance(drive(store.claim(K, ask(1))), Lead)


class TestRights:
    def test_a_user_without_rights_is_denied_in_every_verb(self, own_valkey: Server):
        store = as_user(own_valkey, "+hello", "+ping")
        for work in (store.look(K, ()), store.claim(K, ask(1)), store.entry(K), store.scan(b"", 5), store.standing()):
            assert trouble_of(work) == "store-denied"
        with pytest.raises(StoreUnavailable) as denied:
            drive(store.invalidate((1,)))
        assert denied.value.kind == "store-denied"
        assert not isinstance(denied.value, PartialInvalidation)
        drive(store.close())

    def test_an_invalidation_that_reaches_some_partitions_says_how_many(self, own_valkey: Server):
        store = as_user(own_valkey, "~{p:0}:*", "~{p:2}:*", "+@all")
        with pytest.raises(PartialInvalidation) as partial:
            drive(store.invalidate((1,)))
        assert (partial.value.done, partial.value.total) == (2, PARTITIONS)
        drive(store.close())

    def test_a_user_without_the_channels_looks_again_and_again_says_so_and_keeps_his_leases(
        self, own_valkey: Server, caplog: pytest.LogCaptureFixture
    ):
        store = as_user(own_valkey, "~{p:*", "+@all", "resetchannels")
        grant = lead(store, K, 1)
        link = store.link()
        link.subscribe(K)
        assert [link.poll(1)[1] for _ in range(3)].count([K]) >= 2
        assert "may not subscribe" in caplog.text
        link.subscribe(key(1))
        assert link.renew([Held(K, grant.id, grant.order)], 5_000) == ["ok"]
        link.probe()
        link.close()
        drive(store.close())

    def test_a_password_that_changed_is_asked_for_anew(self, own_valkey: Server):
        store = as_user(own_valkey, "~*", "&*", "+@all")
        drive(store.look(K, ()))
        own_valkey.command("ACL", "SETUSER", "cat", "resetpass", ">other")
        own_valkey.command("CLIENT", "KILL", "USER", "cat")
        assert trouble_of(store.look(K, ())) == "store-denied"
        own_valkey.command("ACL", "SETUSER", "cat", "resetpass", ">meow")
        drive(store.look(K, ()))
        drive(store.close())


class TestServersInTrouble:
    def test_a_replica_that_may_not_be_written_says_so(self, own_valkey: Server):
        store = opened(own_valkey.url)
        own_valkey.command("REPLICAOF", "127.0.0.1", "1")
        assert trouble_of(store.claim(K, ask(1))) == "store-readonly"
        own_valkey.command("REPLICAOF", "NO", "ONE")
        assert isinstance(drive(store.claim(K, ask(1))), Lead)
        drive(store.close())

    def test_full_memory_is_said_and_those_who_follow_are_told(self, own_valkey: Server):
        store = opened(own_valkey.url)
        grant = lead(store, K, 1)
        assert isinstance(drive(store.claim(K, ask(2))), Follow)
        link = store.link()
        link.subscribe(K)
        assert link.poll(1)[1] == [K]
        own_valkey.command("CONFIG", "SET", "maxmemory", "1")
        assert trouble_of(store.fill(K, grant.id, grant.order, sealed(K, grant), LIFE)) == "store-full"
        assert [(notice.kind, notice.outcome) for _, notice in link.poll(1)[0]] == [(ENDED, SHARED)]
        log = drive(store.tape(K, grant.id, grant.order)) or b""
        assert read_ending(log) == Ending(SHARED, "unkept", b"answer")
        assert trouble_of(store.claim(K, ask(3))) == "store-full"
        own_valkey.command("CONFIG", "SET", "maxmemory", "0")
        assert isinstance(drive(store.claim(K, ask(3))), Lead)
        link.close()
        drive(store.close())

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist", "store-full"),
            ("OOM command not allowed when used memory > 'maxmemory'. script: 12, on @user_script:9.", "store-full"),
            ("ERR Error running script (call to f_12): @user_script:9: -OOM command not allowed", "store-full"),
            ("ERR Error running script (call to f_12): @user_script:9: WRONGTYPE Operation against", "store-foreign"),
            ("LOADING Redis is loading the dataset in memory", "store-loading"),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "store-readonly"),
            ("NOREPLICAS Not enough good replicas to write.", "store-readonly"),
            ("ERR max number of clients reached", "store-refused"),
            ("MOVED 3999 127.0.0.1:6381", "store-mismatch"),
            ("ASK 3999 127.0.0.1:6381", "store-mismatch"),
            ("CLUSTERDOWN Hash slot not served", "store-down"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "store-error"),
        ],
    )
    def test_what_a_server_says_has_a_kind_however_it_is_wrapped(self, text: str, kind: str):
        assert Refusal(text).trouble().kind == kind

    def test_scripts_that_a_server_forgot_are_taught_anew(self, valkey: Server, store: RedisStore):
        link = store.link()
        for number in range(3):
            valkey.command("SCRIPT", "FLUSH")
            grant = lead(store, key(number), number + 1)
            valkey.command("SCRIPT", "FLUSH")
            assert link.renew([Held(key(number), grant.id, grant.order)] * 3, 5_000) == ["ok"] * 3
            drive(store.release(key(number), grant.id, 0, Ending(FAILED)))
            valkey.command("SCRIPT", "FLUSH")
            drive(store.invalidate((1,)))
            assert drive(store.look(key(number), ())).generations.clock == number + 1
        link.close()

    def test_a_server_that_comes_back_empty_is_a_cold_cache_and_a_new_epoch(self, own_valkey: Server):
        store = opened(own_valkey.url)
        put(store, K, 1)
        before = drive(store.look(K, ())).generations.epoch
        own_valkey.stop()
        assert trouble_of(store.look(K, ())) == "store-refused"
        own_valkey.start()
        assert drive(store.look(K, ())).entry is None
        grant = lead(store, K, 2)
        assert grant.snapshot.epoch != before
        drive(store.close())


class TestLogs:
    def test_a_log_grows_by_what_is_new_and_says_it(self, valkey: Server, store: RedisStore):
        link, flight = store.link(), b"f" * 16
        link.subscribe(K)
        assert link.poll(1)[1] == [K]
        assert drive(store.tape(K, flight, 7)) is None
        assert drive(store.tape(K, flight, 7, 2)) is None
        assert drive(store.append(K, flight, 7, 0, b"")) == 0
        assert drive(store.append(K, flight, 7, 3, b"too far")) == 0
        assert drive(store.append(K, flight, 7, 0, b"abc")) == 3
        name = store.names.tape(K, flight, 7)
        assert LOG_LIFE - 5_000 < valkey.command("PTTL", name) <= LOG_LIFE
        valkey.command("PEXPIRE", name, 70_000)
        assert drive(store.append(K, flight, 7, 0, b"abc")) == 3  # repeated
        assert drive(store.append(K, flight, 7, 2, b"cdef")) == 6  # some of it is new
        assert drive(store.append(K, flight, 7, 9, b"gap")) == 6
        assert valkey.command("PTTL", name) <= 70_000  # appending lengthens no life
        assert drive(store.tape(K, flight, 7)) == b"abcdef"
        assert drive(store.tape(K, flight, 7, 4)) == b"ef"
        assert drive(store.tape(K, flight, 7, 6)) == b""
        assert [notice for _ in range(2) for _, notice in link.poll(0.2)[0]] == [
            Notice(SAID, flight, 7, bytes(8) + b"abc"),
            Notice(SAID, flight, 7, bytes(7) + b"\3def"),
        ]
        link.close()

    def test_the_end_of_a_flight_leaves_its_log_as_it_is(self, store: RedisStore):
        grant = lead(store, K, 1)
        drive(store.append(K, grant.id, grant.order, 0, b"said already"))
        drive(store.forget(K))
        assert drive(store.fill(K, grant.id, grant.order, sealed(K, grant), LIFE)) == "lost"
        drive(store.release(K, grant.id, grant.order, Ending(SHARED, "refused", b"body")))
        assert drive(store.tape(K, grant.id, grant.order)) == b"said already"


class TestWalks:
    def test_every_entry_of_the_prefix_is_met_and_no_other(self, valkey: Server):
        mine, other = opened(valkey.url, prefix="p*[?"), opened(valkey.url, prefix="p*[?:1")
        for number in range(120):
            put(mine, Key(bytes([number]) * 32, "v"), number + 1)
            put(other, Key(bytes([number, 1]) * 16, "v"), number + 1)
            valkey.command("SET", f"theirs{number}", "x")
        valkey.command("RPUSH", mine.names.of(key(0))[0], "a list")
        cursor, met = b"", dict[bytes, Record]()
        while True:
            cursor, seen = drive(mine.scan(cursor, 10))
            assert len(seen) < 60
            met |= {read_head(record.header).digest: record for record in seen}
            if not cursor:
                break
        assert met.keys() == {bytes([number]) * 32 for number in range(120)}
        assert {record.size for record in met.values()} == {len(drive(mine.entry(Key(b"\1" * 32, "v"))) or b"")}
        for one in (mine, other):
            drive(one.close())

    def test_a_record_carries_long_extensions_whole(self, store: RedisStore):
        grant = lead(store, K, 1)
        told = {TAGS: b"t" * 700, META: b"m" * 3_000}
        drive(store.fill(K, grant.id, grant.order, seal("v", K.digest, *grant, DAY, told, b"body"), LIFE))
        _, (record,) = drive(store.scan(b"", 1_000))
        assert record.header + b"body" == drive(store.entry(K))

    def test_only_what_is_still_what_was_seen_is_discarded(self, store: RedisStore):
        for number in range(3):
            put(store, key(number), number + 1)
        _, seen = drive(store.scan(b"", 1_000))
        drive(store.forget(key(1)))
        again = put(store, key(1), 9)
        assert drive(store.discard(seen)) == 2
        assert read_head(drive(store.entry(key(1))) or b"").order == again.order
        assert drive(store.discard([])) == 0

    def test_standing_tells_every_partition(self, store: RedisStore):
        put(store, K, 1)
        drive(store.invalidate((4, 300)))
        drive(store.invalidate((5,), everything=True))
        standing = drive(store.standing())
        assert len(standing) == PARTITIONS
        assert {(one.clock, one.floor, tuple(sorted(one.moved.items()))) for one in standing} == {
            (2, 2, ((4, 1), (5, 2), (300, 1)))
        }
        assert Snapshot(standing[0].epoch, 0).epoch

    def test_raze_takes_all_that_the_prefix_has_generations_last_and_nothing_else(self, valkey: Server):
        mine, other = opened(valkey.url, prefix="p"), opened(valkey.url, prefix="p:1")
        for number in range(50):
            put(mine, key(number), number + 1)
            put(other, key(number), number + 1)
            lead(mine, key(200 - number), number + 1)
        valkey.command("SET", "{p:1}:theirs", "x")
        before = valkey.command("DBSIZE")
        steps = []
        while step := drive(mine.raze(20)):
            steps.append(step)
        left = valkey.command("KEYS", "*")
        assert sum(steps) == before - len(left) == 101
        assert steps[-1] == 1  # the only partition with generations
        assert {re.sub(rb"\d+\}.*", b"", name) for name in left} == {b"{p:1:", b"{p:"}
        assert valkey.command("GET", "{p:1}:theirs") == b"x"
        for one in (mine, other):
            drive(one.close())
