"""A Cluster in use: slots that move, servers that forget scripts, freeze or are gone; what each caller meets."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from askonce.cache.stores import open_store
from askonce.core.keys import Key
from askonce.core.lease import Hit, Lead
from askonce.core.tape import ALIVE, ENDED, FAILED, Ending, Notice
from askonce.errors import PartialInvalidation, StoreUnavailable
from askonce.flight.probes import key_at
from askonce.runtime.drive import drive
from askonce.store import PARTITIONS, Held, Link, StoreTrouble
from askonce.store.redis import cluster_address
from askonce.store.redis.cluster import ClusterPrimaries
from askonce.store.redis.names import Names
from askonce.store.redis.store import RedisStore
from askonce.store.redis.topology import Range, Topology
from askonce.testing.clusters import Cluster, begin_move, end_move, node_id, slots
from askonce.testing.servers import Server, until
from askonce.testing.trial import LIFE, Trial, asking, must_lead, sealed
from tests.took import Took

pytestmark = pytest.mark.servers


def opened(cluster: Cluster, *, asynchronous: bool = False, **options: Any) -> RedisStore:
    store = open_store(cluster.url, prefix="p", asynchronous=asynchronous, **{"socket_timeout": 10.0, **options})
    assert isinstance(store, RedisStore)
    return store


@pytest.fixture
def store(cluster: Cluster) -> Iterator[RedisStore]:
    made = opened(cluster)
    yield made
    drive(made.close())


def one(first: int) -> Key:
    """A key of partition `first`."""
    return Key(bytes([first]) + os.urandom(31), "v")


def slot_of(store: Any, key: Key) -> int:
    return int(store.names.slots()[key.digest[0] % PARTITIONS])


def put(store: RedisStore, key: Key, body: bytes = b'"answer"', *fields: int) -> None:
    said = drive(store.claim(key, asking(*fields)))
    assert isinstance(said, Lead)
    answer = sealed(key, said.grant, *fields, body=body)
    assert drive(store.fill(key, said.grant.id, said.grant.order, answer, LIFE)) == "stored"


def serves(store: RedisStore, key: Key) -> bool:
    """Whether the hit path finds a valid entry."""
    look = drive(store.look(key, ()))
    return look.entry is not None and look.generations.epoch in look.entry[:120]


async def _put(store: Any, key: Key) -> None:
    """An answer that carries field 7."""
    said = await store.claim(key, asking(7))
    await store.fill(key, said.grant.id, said.grant.order, sealed(key, said.grant, 7), LIFE)


def troubled(link: Link) -> bool:
    return link.trouble is not None


def other_than(cluster: Cluster, server: Server) -> Server:
    return next(one for one in cluster.first if one is not server)


class Move:
    """A slot on its way, step by step."""

    def __init__(self, cluster: Cluster, slot: int) -> None:
        self.cluster, self.slot = cluster, slot
        self.source = cluster.owner(slot)
        self.target = other_than(cluster, self.source)

    def steps(self) -> Iterator[str]:
        yield "before"
        begin_move(self.slot, self.source, self.target)
        yield "begun"
        # Key by key: entries, leases and generations are at different servers in between.
        for _ in range(100):
            names = self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, 1)
            if not names:
                break
            self.source.command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *names)
            yield f"moved {names[0]}"
        yield "empty"
        end_move(self.slot, self.source, self.target, self.cluster.servers)
        yield "over"


class TestSlotsThatMove:
    def test_what_is_stored_is_served_at_every_step_by_stores_that_know_and_that_do_not(
        self, cluster: Cluster, store: RedisStore
    ):
        keys = [one(5) for _ in range(3)]
        for key in keys:
            put(store, key)
        old = opened(cluster)
        assert serves(old, keys[0])
        steps = 0
        for step in Move(cluster, slot_of(store, keys[0])).steps():
            steps += 1
            fresh = opened(cluster)
            for reader in (store, fresh):
                assert [serves(reader, key) for key in keys] == [True] * 3, step
                assert all(drive(reader.entry(key)) for key in keys), step
            drive(fresh.close())
        assert steps > 5
        assert serves(old, keys[0]), "this one hears of the move by a MOVED only"
        assert old.primary(keys[0]) != ""
        drive(old.close())

    def test_an_invalidation_during_a_move_is_not_undone_by_it(self, cluster: Cluster, store: RedisStore):
        for step in Move(cluster, slot_of(store, one(9))).steps():
            key = one(9)
            met = drive(store.together([partial(_put, key=key)]))[0]
            if met is not None:
                assert (met.kind, met.at) == ("store-moving", "key"), step
                continue
            drive(store.invalidate([7]))
            assert not isinstance(drive(store.claim(key, asking(7))), Hit), step
        key = one(9)
        put(store, key, b'"x"', 7)
        assert isinstance(drive(store.claim(key, asking(7))), Hit)

    def test_a_claim_whose_names_are_at_two_servers_is_trouble_of_its_key_alone(
        self, cluster: Cluster, store: RedisStore
    ):
        move = Move(cluster, slot_of(store, one(11)))
        put(store, one(11))  # so that the generations exist, and stay while a new key's names do not
        steps = move.steps()
        next(steps)
        next(steps)
        took = Took()
        with pytest.raises(StoreTrouble) as trouble:
            drive(store.claim(one(11), asking()))
        assert (trouble.value.kind, trouble.value.at) == ("store-moving", "key")
        assert took.seconds < 2.0
        assert isinstance(drive(store.claim(one(12), asking())), Lead)
        list(steps)
        assert isinstance(drive(store.claim(one(11), asking())), Lead)

    def test_batches_reach_keys_at_every_step(self, cluster: Cluster, store: RedisStore):
        keys = [one(number) for number in range(PARTITIONS)]
        for key in keys:
            put(store, key)
        for step in Move(cluster, slot_of(store, keys[20])).steps():
            looks = drive(store.together([partial(RedisStore.look, key=key, fields=()) for key in keys]))
            assert [look.entry is not None for look in looks] == [True] * PARTITIONS, step

    async def test_tasks_that_share_a_connection_get_their_own_replies_while_slots_move(self, cluster: Cluster):
        made = opened(cluster)
        keys = [one(number) for number in (3, 4) for _ in range(20)]
        for number, key in enumerate(keys):
            put(made, key, b'"%d"' % number)
        store = opened(cluster, asynchronous=True)
        wrong: list[str] = []
        over = False

        async def ask(number: int) -> int:
            asked = 0
            while not over:
                entry = await store.entry(keys[number])
                if entry is None or not entry.endswith(b'"%d"' % number):
                    wrong.append(f"{number}: {entry!r}")
                asked += 1
            return asked

        tasks = [asyncio.create_task(ask(number)) for number in range(len(keys))]
        for slot in (slot_of(made, keys[0]), slot_of(made, keys[-1])):
            for _ in Move(cluster, slot).steps():
                await asyncio.sleep(0.005)
        over = True
        counts = await asyncio.gather(*tasks)
        assert not wrong
        assert min(counts) > 5
        await store.close()
        drive(made.close())

    def test_a_waiter_hears_of_what_happens_at_the_new_owner(self, cluster: Cluster, store: RedisStore):
        key = one(30)
        trial = Trial()
        link = store.link()
        link.subscribe(key)
        trial.hear(link, lambda _, ready: key in ready)
        move = Move(cluster, slot_of(store, key))
        list(move.steps())
        trial.hear(link, lambda _, ready: key in ready)  # in force once more: waiters look again
        drive(store.release(key, b"f" * 16, 7, Ending(FAILED)))
        link.say(key, Notice(ALIVE, b"g" * 16, 8))
        kinds = {notice.kind for _, notice in trial.hear(link, lambda said, _: len(said) >= 2)}
        assert kinds == {ENDED, ALIVE}
        assert store.primary(key).endswith(f":{move.target.port}/0")
        link.close()

    def test_a_lease_is_renewed_at_the_new_owner(self, cluster: Cluster, store: RedisStore):
        key = one(31)
        said = drive(store.claim(key, asking()))
        assert isinstance(said, Lead)
        link = store.link()
        for step in Move(cluster, slot_of(store, key)).steps():
            (renewed,) = link.renew([Held(key, said.grant.id, said.grant.order)], 5000)
            assert renewed in {"ok", "late"}, step
        assert link.renew([Held(key, said.grant.id, said.grant.order)], 5000) == ["ok"]
        link.close()

    def test_a_slot_that_moves_atomically_is_followed(self, cluster: Cluster, store: RedisStore):
        key = one(33)
        put(store, key)
        link = store.link()
        link.subscribe(key)
        Trial().hear(link, lambda _, ready: key in ready)
        slot = slot_of(store, key)
        source = cluster.owner(slot)
        target = other_than(cluster, source)
        source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", node_id(target))
        until(lambda: serves(store, key) and slot in slots(target))
        assert serves(store, key)
        drive(store.invalidate([1]))
        Trial().hear(link, lambda _, ready: key in ready)
        link.close()

    def test_a_user_that_may_not_listen_looks_again_and_again(self, cluster: Cluster):
        for server in cluster.first:
            server.command("ACL", "SETUSER", "cat", "reset", "on", ">meow", "+@all", "~*", "resetchannels")
        made = open_store(cluster.url.replace("//", "//cat:meow@"), prefix="p")
        link = made.link()
        key = one(1)
        link.subscribe(key)
        Trial().hear(link, lambda _, ready: ready.count(key) >= 2)
        assert getattr(link, "may_not_listen", False)
        link.close()
        drive(made.close())

    def test_a_walk_meets_every_entry_though_slots_move_between_its_steps(self, cluster: Cluster, store: RedisStore):
        keys = [one(number) for number in range(PARTITIONS)]
        for key in keys:
            put(store, key)
        names, cursor, step = set[bytes](), b"", 0
        while True:
            cursor, seen = drive(store.scan(cursor, 5))
            names |= {record.name for record in seen}
            if not cursor:
                break
            step += 1
            if step == 4:
                list(Move(cluster, slot_of(store, keys[40])).steps())
                drive(store.look(keys[40], ()))
        assert names >= {store.names.of(key)[0] for key in keys}


class TestServers:
    def test_scripts_that_all_servers_forgot_are_sent_again(self, cluster: Cluster, store: RedisStore):
        for number in range(0, PARTITIONS, 7):
            put(store, one(number))
            for server in cluster.first:
                server.command("SCRIPT", "FLUSH")
        drive(store.invalidate([3]))

    def test_the_partitions_are_spread_over_all_primaries(self, cluster: Cluster, store: RedisStore):
        put(store, one(0))
        names = [store.primary(one(number)) for number in range(PARTITIONS)]
        assert set(names) == set(store.primaries())
        assert len(set(names)) == len(cluster.first)
        assert all(names.count(name) > PARTITIONS // 8 for name in set(names))

    def test_a_script_may_tell_waiters_by_sharded_channels_only(self, cluster: Cluster, store: RedisStore):
        key = one(2)
        link = store.link()
        link.subscribe(key)
        Trial().hear(link, lambda _, ready: key in ready)
        owner = cluster.owner(slot_of(store, key))
        assert owner.command("PUBSUB", "SHARDCHANNELS") == [store.names.channel(key)]
        assert owner.command("PUBSUB", "CHANNELS") == []
        link.unsubscribe(key)
        until(lambda: not owner.command("PUBSUB", "SHARDCHANNELS"))
        link.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A cluster for trouble: a server that is frozen does not count as failed for a while."""
    with Cluster(options={"cluster-node-timeout": 3000}) as running:
        yield running


class TestTroubleOfOnePrimary:
    """One primary is frozen, or slots have none."""

    def test_a_frozen_primary_is_trouble_for_its_keys_alone(self, own: Cluster):
        store = opened(own, socket_timeout=0.2)
        put(store, one(0))
        victim = own.first[1]
        hers = key_at(store, next(name for name in store.primaries() if name.endswith(f":{victim.port}/0")))
        mine = key_at(store, next(name for name in store.primaries() if not name.endswith(f":{victim.port}/0")))
        put(store, hers)
        put(store, mine)
        grants = {key: must_lead(drive(store.claim(Key(key.digest, "j"), asking()))) for key in (hers, mine)}
        link = store.link()
        link.subscribe(hers)
        link.subscribe(mine)
        Trial().hear(link, lambda _, ready: {hers, mine} <= set(ready))
        victim.freeze()
        try:
            with pytest.raises(StoreTrouble) as trouble:
                drive(store.look(hers, ()))
            assert (trouble.value.kind, trouble.value.primary) == ("store-timeout", store.primary(hers))
            assert serves(store, mine)
            said = link.renew([Held(Key(key.digest, "j"), g.id, g.order) for key, g in grants.items()], 5000)
            assert said == ["late", "ok"]
            took = Took()
            link.say(mine, Notice(ALIVE, b"f" * 16, 1))
            Trial().hear(link, lambda said, _: bool(said))
            assert took.seconds < 1.0
            assert troubled(link)
            looks = drive(store.together([partial(RedisStore.look, key=key, fields=()) for key in (hers, mine)]))
            assert isinstance(looks[0], StoreTrouble)
            assert looks[1].entry is not None
            with pytest.raises(PartialInvalidation) as partly:
                drive(store.invalidate([9]))
            assert partly.value.primaries == (store.primary(hers),)
            assert {store.primary(one(missed)) for missed in partly.value.missed} == {store.primary(hers)}
            assert partly.value.done + len(partly.value.missed) == PARTITIONS
        finally:
            victim.thaw()
        Trial().hear(link, lambda _, ready: hers in ready)
        assert not troubled(link)
        until(lambda: _repeated(store))
        link.close()
        drive(store.close())

    def test_keys_whose_slots_no_primary_has_are_visible_misses_and_the_others_are_served(self, own: Cluster):
        store = opened(own)
        put(store, one(0))
        key = one(21)
        slot, owner = slot_of(store, key), own.owner(slot_of(store, key))
        for server in own.servers:
            server.command("CLUSTER", "DELSLOTS", slot)
        try:
            fresh = opened(own)
            for asked in (store, fresh):
                for work in (asked.look(key, ()), asked.claim(key, asking())):
                    with pytest.raises(StoreTrouble) as trouble:
                        drive(work)
                    assert (trouble.value.kind, trouble.value.at) == ("store-down", "key")
                other = next(one(at) for at in range(64) if slot_of(store, one(at)) != slot)
                assert drive(asked.look(other, ())).now_us
                with pytest.raises(PartialInvalidation) as partly:
                    drive(asked.invalidate([1]))
                assert partly.value.missed == (21,)
            drive(fresh.close())
        finally:
            owner.command("CLUSTER", "ADDSLOTS", slot)
            own.settle()
        until(lambda: _repeated(store))
        drive(store.close())


def _repeated(store: RedisStore) -> bool:
    """Whether an invalidation reaches everything now."""
    try:
        drive(store.invalidate([9]))
    except StoreUnavailable:
        return False
    return True


class TestTheWrongUrl:
    def test_a_cluster_url_of_a_single_server_says_which_to_write(self, valkey: Server):
        store = open_store(valkey.url.replace("redis://", "redis+cluster://").removesuffix("/0"))
        with pytest.raises(StoreTrouble, match=r"is a single server.*write redis://") as trouble:
            drive(store.look(one(0), ()))
        assert trouble.value.kind == "store-mismatch"
        with pytest.raises(StoreUnavailable, match="write redis://"):
            drive(store.invalidate([1]))
        drive(store.close())

    def test_a_single_url_of_a_cluster_says_which_to_write(self, cluster: Cluster):
        store = open_store(cluster.first[0].url)
        elsewhere = next(one(at) for at in range(64) if slot_of(store, one(at)) not in slots(cluster.first[0]))
        with pytest.raises(StoreTrouble, match=r"write redis\+cluster://") as trouble:
            drive(store.claim(elsewhere, asking()))
        assert trouble.value.kind == "store-mismatch"
        with pytest.raises(PartialInvalidation, match=r"write redis\+cluster://"):
            drive(store.invalidate([1]))
        drive(store.close())

    def test_a_cluster_that_nobody_answers_for_is_a_refusal(self):
        store = open_store("redis+cluster://127.0.0.1:1,127.0.0.1:2")
        with pytest.raises(StoreTrouble) as trouble:
            drive(store.look(one(0), ()))
        assert (trouble.value.kind, trouble.value.at) == ("store-refused", "connecting")
        assert store.primaries() == [""]
        drive(store.close())


def test_a_store_of_a_cluster_keeps_one_topology_for_its_background_thread(store: RedisStore):
    assert isinstance(store._primaries, ClusterPrimaries)
    blocking = store.blocking()
    put(store, one(0))
    assert blocking.primary(one(0)) == store.primary(one(0)) != ""
    drive(blocking.close())


class TestWhatIsKnown:
    """The topology, without a server."""

    @staticmethod
    def topology(monkeypatch: pytest.MonkeyPatch) -> Topology:
        monkeypatch.setattr(Topology, "refresh", lambda *_: None)
        return Topology(cluster_address.from_url("redis+cluster://a:1,b:2,c:3", {}), Names("p").slots())

    def test_threads_that_learn_at_the_same_time_never_leave_an_old_table_for_a_new_one(self, monkeypatch):
        topology = self.topology(monkeypatch)
        primaries = ClusterPrimaries(topology.address, "p", topology=topology)
        nodes = topology.address.seeds

        def learn(partition: int) -> None:
            for turn in range(300):
                topology.moved(partition, nodes[(turn + partition) % 3])
                primaries.node(partition)

        threads = [threading.Thread(target=learn, args=(partition,)) for partition in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        known = [primaries.node(partition) for partition in range(PARTITIONS)]
        assert [node and node.address for node in known] == list(topology.owners)

    def test_a_node_that_was_named_last_is_asked_first_and_those_in_trouble_last(self, monkeypatch):
        topology = self.topology(monkeypatch)
        a, b, c = topology.address.seeds
        topology._learn([Range(0, 5000, "a", 1), Range(5001, 16383, "b", 2)])
        assert set(topology.owners) == {a, b}
        topology.failed(a.text)
        assert topology._nodes(None) == [b, c, a]
        assert topology._nodes(c) == [c, b, a]
        topology.worked(a.text)
        assert topology._nodes(None)[-1] is c

    def test_trouble_of_what_is_no_primary_any_more_is_forgotten(self, monkeypatch):
        topology = self.topology(monkeypatch)
        a, b, _ = topology.address.seeds
        topology._learn([Range(0, 16383, "a", 1)])
        topology.failed(a.text)
        assert topology._pressing()
        topology._learn([Range(0, 16383, "b", 2)])
        assert not topology._pressing()
        assert set(topology.owners) == {b}

    def test_a_slot_that_no_range_has_has_no_owner(self, monkeypatch):
        topology = self.topology(monkeypatch)
        slot = Names("p").slots()[7]
        topology._learn([Range(0, slot - 1, "a", 1), Range(slot + 1, 16383, "a", 1)])
        assert topology.owners[7] is None
        assert all(owner is not None for at, owner in enumerate(topology.owners) if at != 7)
