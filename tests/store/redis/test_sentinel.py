"""A Sentinel service as a store: who its primary is, whatever the sentinels say, and after it has moved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce import Cache
from askonce.errors import ConfigError, StoreUnavailable
from askonce.runtime.drive import drive
from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis import asking, connecting, multiplexed, sentinel, sentinel_primary
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import find
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.multiplexed import open_multiplexed
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import Report, SentinelAddress, Survey
from askonce.store.redis.store import RedisStore
from askonce.store.redis.wire import SyncWire
from askonce.testing.sentinels import HASTY, PATIENT, SERVICE, SentinelGroup, sentinel_of
from askonce.testing.servers import RedisServer, Server, ServerMissing, free_port
from tests.fixtures import started
from tests.profiles import examples
from tests.store.keeping import put
from tests.store.puppet import key, until
from tests.store.redis.told import address_of, at, opened, patient, service_of, told
from tests.took import Took

# --- URLs and clients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+sentinel://h/s", "redis+sentinel://h:26379/s/0#"),
        ("redis+sentinel://b:2,a:1/s/3", "redis+sentinel://a:1,b:2/s/3#"),
        ("redis+sentinel://user:secret@a,b/s?db=2", "redis+sentinel://user@a:26379,b:26379/s/2#"),
        ("redis+sentinel://:secret@[::1]:7,h:2/s", "redis+sentinel://[::1]:7,h:2/s/0#"),
        ("redis+sentinel://h:2,[::1]:7/s", "redis+sentinel://[::1]:7,h:2/s/0#"),
        ("rediss+sentinel://a/s?sentinel_password=secret", "rediss+sentinel://a:26379/s/0#"),
        ("VALKEY+SENTINEL://a/s", "redis+sentinel://a:26379/s/0#"),
        ("valkeys+sentinel://a/my%20service/1", "rediss+sentinel://a:26379/my service/1#"),
    ],
)
def test_an_address_names_the_sentinels_and_the_service_and_no_password(url: str, address: str):
    assert opened(url).address == address
    assert "secret" not in repr(opened(url))


@pytest.mark.parametrize(
    ("url", "options", "remedy"),
    [
        ("redis+sentinel://h", {}, "names no service"),
        ("redis+sentinel://h/", {}, "names no service"),
        ("redis+sentinel:///s", {}, "names no sentinel"),
        ("redis+sentinel:h/s", {}, "names no sentinel"),
        ("redis+sentinel://a,,b/s", {}, "names no sentinel"),
        ("redis+sentinel://:secret@a:many/s", {}, "names no sentinel"),
        ("redis+sentinel://a/s/name", {}, "mymaster/0"),
        ("redis+sentinel://:sec/ret@a/s", {}, "@ after its host"),
        ("redis+sentinel://a/s?sentinel_pasword=secret", {}, "did you mean password"),
        ("redis+sentinel://a/s?pasword=secret", {}, "did you mean password"),
        ("redis+sentinel://a/s?min_other_sentinels=few", {}, "not a number of sentinels"),
        ("redis+sentinel://a/s", {"sentinel_kwargs": {"pasword": "x"}}, "did you mean password"),
        ("unix+sentinel://a/s", {}, "no store has the scheme"),
    ],
)
def test_what_names_no_service_is_refused_with_what_to_write(url: str, options: dict[str, Any], remedy: str):
    with pytest.raises(ConfigError) as refused:
        opened(url, **options)
    assert remedy in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "ret@" not in str(refused.value)


def options_of(address: Any) -> dict[str, Any]:
    return dict(address._options)


def test_the_sentinels_have_options_of_their_own_and_the_primary_has_the_rest():
    url = "rediss+sentinel://me:mine@a/s?ssl_cert_reqs=none&sentinel_username=you&sentinel_password=y%26u&client_name=c"
    address = address_of(opened(url))
    asked = options_of(service_of(opened(url)).sentinels[0])
    assert (asked["username"], asked["password"], asked["ssl_cert_reqs"]) == ("you", "y&u", "none")
    assert "client_name" not in asked
    led = options_of(address)
    assert (led["username"], led["password"], led["client_name"]) == ("me", "mine", "c")
    bare = options_of(service_of(opened("redis+sentinel://me:mine@a/s")).sentinels[0])
    assert not {"username", "password"} & bare.keys(), "a sentinel without a password refuses AUTH"


@pytest.mark.parametrize(("url", "secure"), [("rediss+sentinel://a/s", True), ("redis+sentinel://a/s", False)])
def test_the_sentinels_are_asked_over_tls_like_the_primary_unless_told_otherwise(url: str, secure: bool):
    assert service_of(opened(url)).sentinels[0].text.startswith("rediss://") is secure
    other = service_of(opened(f"{url}?sentinel_ssl={str(not secure).lower()}"))
    assert other.sentinels[0].text.startswith("rediss://") is not secure


HOSTS = [("a", 1), ("b", 2)]


@pytest.mark.parametrize("sentinel", [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel])
def test_a_client_that_redis_pys_sentinel_made_is_taken_by_its_options(sentinel: Any):
    made = sentinel(HOSTS, 1, {"password": "theirs"}, password="ours", db=3, ssl=True)
    store = opened("redis://elsewhere", client=made.master_for("s", username="me"))
    assert store.address == "rediss+sentinel://me@a:1,b:2/s/3#"
    assert options_of(address_of(store))["password"] == "ours"
    assert options_of(service_of(store).sentinels[0])["password"] == "theirs"
    assert service_of(store).least == 1


class Own(redis.sentinel.Sentinel):
    def discover_master(self, service_name: str) -> Any:
        return service_name, 6379


@pytest.mark.parametrize(
    ("client", "remedy"),
    [
        (redis.sentinel.Sentinel(HOSTS).slave_for("s"), "master_for"),
        (redis.asyncio.sentinel.Sentinel(HOSTS).slave_for("s"), "master_for"),
        (Own(HOSTS).master_for("s"), "redis-py's own classes"),
        (redis.sentinel.Sentinel(HOSTS).master_for("s", connection_class=redis.Connection), "redis-py's own classes"),
        (redis.sentinel.Sentinel(HOSTS).master_for("s", redis_connect_func=print), "credential_provider"),
    ],
)
def test_a_client_that_leads_elsewhere_is_refused(client: Any, remedy: str):
    with pytest.raises(ConfigError, match=remedy):
        opened("redis://", client=client)


# --- what sentinels say -------------------------------------------------------------------------------------------


def found(url: str, mode: str) -> int:
    """The port of the server that a store of this URL uses; StoreTrouble if it finds none."""
    store = opened(url, asynchronous=mode == "async")

    async def ask() -> Any:
        (reply,) = await store._wires[0].ask(pack(b"CONFIG", b"GET", b"port"), 1)
        await store.close()
        return reply

    reply = asyncio.run(ask()) if mode == "async" else drive(ask())
    return int(reply[b"port"])


MODES = pytest.mark.parametrize("mode", ["sync", "async"])


NOWHERE = Report("127.0.0.1", 1, 9)


@pytest.mark.servers
@MODES
class TestSentinelsThatDisagree:
    def test_the_answer_of_the_higher_epoch_is_newer(self, pair, valkey: Server, mode: str):
        primary, _ = pair
        with told(at(valkey, 1), at(primary, 2), at(valkey, 1)) as (url, _):
            assert found(url, mode) == primary.port

    def test_a_replica_is_not_taken_for_the_primary_however_new_the_answer(self, pair, mode: str):
        primary, replica = pair
        with told(at(replica, 5), at(primary, 4)) as (url, _):
            assert found(url, mode) == primary.port

    def test_an_address_that_is_not_reachable_is_passed_over(self, pair, mode: str):
        with told(NOWHERE, at(pair[0], 4)) as (url, _):
            assert found(url, mode) == pair[0].port

    def test_a_primary_that_they_call_down_is_not_waited_for(self, pair, mode: str):
        with told(at(pair[0], down=True), at(pair[0], down=True)) as (url, _):
            with pytest.raises(StoreTrouble, match="have not named another one yet") as trouble:
                found(url, mode)
            assert trouble.value.about == "failover"

    def test_one_that_alone_calls_it_down_is_outvoted(self, pair, mode: str):
        with told(at(pair[0], down=True), at(pair[0])) as (url, _):
            assert found(url, mode) == pair[0].port

    def test_only_replicas_are_no_primary(self, pair, mode: str):
        with told(at(pair[1])) as (url, _):
            with pytest.raises(StoreTrouble, match="which is no primary") as trouble:
                found(url, mode)
            assert trouble.value.kind == "store-readonly"

    def test_a_service_that_nobody_knows_is_told_with_those_they_know(self, mode: str):
        with told("gone", "unknown", "unknown") as (url, _):
            with pytest.raises(StoreTrouble, match="know no service 's'; they know: 'another', 'other'") as trouble:
                found(url, mode)
            assert trouble.value.about == "service"

    def test_one_that_was_asked_in_vain_is_asked_last_from_then_on(self, pair, mode: str, monkeypatch):
        patient(monkeypatch, 4.0)  # a part of it is spent on the silent one
        with told("silent", at(pair[0]), at(pair[0])) as (url, _):
            address = address_of(opened(url))
            first = address.service.sentinels[0]
            if mode == "sync":
                open_connection(address).close()
            else:
                asyncio.run(self._open(address))
            assert address.service.sentinels[0] is not first
            assert first in address.service.lost
            again = Survey(address.service)
            for sentinel in again.left[:2]:
                assert not again.settled
                again.hear(sentinel, [[b"h", b"1"], {b"ip": b"h", b"port": b"1", b"flags": b"", b"config-epoch": b"1"}])
            assert again.settled
            assert again.left == [first]

    @staticmethod
    async def _open(address: SentinelAddress) -> None:
        (await open_multiplexed(address)).close()

    def test_a_sentinel_that_knows_too_few_others_is_not_believed(self, pair, valkey: Server, mode: str):
        with told(at(valkey, 9, others=0), at(pair[0], others=1), min_other_sentinels=1) as (url, _):
            assert found(url, mode) == pair[0].port

    @pytest.mark.parametrize(
        ("says", "kind"),
        [
            ("gone", "store-refused"),
            ("garbage", "store-error"),
            ("denied", "store-denied"),
            ("silent", "store-timeout"),
        ],
    )
    def test_sentinels_in_trouble_are_trouble_of_that_kind(self, mode: str, says: str, kind: str, monkeypatch):
        patient(monkeypatch, CONNECT_TIMEOUT)
        with told(says, says, socket_timeout=0.2) as (url, _):
            took = Took()
            with pytest.raises(StoreTrouble) as trouble:
                found(url, mode)
            assert trouble.value.kind == kind
            assert trouble.value.at == "connecting"
            assert took.seconds < CONNECT_TIMEOUT + 1


@pytest.mark.servers
@MODES
def test_a_server_in_place_of_a_sentinel_is_told_of(valkey: Server, mode: str):
    with pytest.raises(StoreTrouble, match="it is no sentinel"):
        found(valkey.url.replace("redis://", "redis+sentinel://").replace("/0", "/s"), mode)


SAYS = st.sampled_from(["primary", "replica", "nowhere", "unknown", "garbage", "denied", "gone", "down"])


@pytest.mark.servers
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(SAYS, st.integers(0, 3)), min_size=1, max_size=5))
def test_whatever_sentinels_say_the_store_uses_the_primary_that_one_of_them_names_or_is_in_trouble(pair, said):
    primary, replica = pair
    reports = {
        "primary": lambda epoch: at(primary, epoch),
        "replica": lambda epoch: at(replica, epoch),
        "nowhere": lambda epoch: NOWHERE._replace(epoch=epoch),
        "down": lambda epoch: at(primary, epoch, down=True),
    }
    says = [reports[what](epoch) if what in reports else what for what, epoch in said]
    # A majority ends the questions, and the sentinels that call it down may know something newer.
    named = [epoch for what, epoch in said if what == "primary"]
    down = [epoch for what, epoch in said if what == "down"]
    sure = named and max(named) >= max(down, default=0)
    alone = not any(what in ("replica", "nowhere") for what, _ in said)
    with told(*says) as (url, _):
        for mode in ("sync", "async"):
            try:
                assert found(url, mode) == primary.port
            except StoreTrouble:
                assert not (sure and alone)
            else:
                assert named


# --- what an acknowledgement is worth -----------------------------------------------------------------------------


def done(store: RedisStore, work: Any) -> Any:
    """What a verb of a store of either mode returns; the store is closed."""

    async def over() -> Any:
        try:
            return await work
        finally:
            await store.close()

    if not isinstance(store._wires[0], SyncWire):
        return asyncio.run(over())
    with closed_after(store):
        return drive(work)


def moved_at(server: Server) -> int:
    """How often the first partition was invalidated at a server."""
    store = opened(server.url, prefix="acks")
    found = drive(store.standing())[0].clock
    drive(store.close())
    return found


@pytest.mark.servers
@MODES
class TestInvalidations:
    """`pair[0]` is the old primary, and `valkey` the new one."""

    def store(self, url: str, mode: str) -> RedisStore:
        return opened(url, prefix="acks", asynchronous=mode == "async")

    def test_one_that_the_old_primary_acknowledged_is_made_again_at_the_new_one(self, pair, valkey: Server, mode: str):
        with told(at(pair[0], 1)) as (url, sentinels):
            store = self.store(url, mode)
            blocking = store.blocking()
            drive(blocking.look(key(0), ()))
            sentinels[0].says = at(valkey, 2)
            drive(blocking.invalidate((), everything=True))
            first = moved_at(valkey)
            assert first >= 1, "and perhaps once more, if the announcement came in the middle of it"
            done(store, store.invalidate((), everything=True))
            assert moved_at(valkey) > first
            drive(blocking.close())

    def test_one_that_is_made_while_the_primary_is_being_replaced_waits_for_the_new_one(
        self, pair, valkey: Server, mode: str
    ):
        with told(at(pair[0], 1, moving=True)) as (url, sentinels):
            store = self.store(url, mode)
            over = threading.Timer(0.2, lambda: setattr(sentinels[0], "says", at(valkey, 2)))
            over.start()
            done(store, store.invalidate((), everything=True))
            over.join()
            assert moved_at(valkey) >= 1

    def test_a_replacement_that_does_not_end_is_trouble(self, pair, mode: str, monkeypatch):
        monkeypatch.setattr(sentinel_primary, "PATIENCE", 0.1)
        with told(at(pair[0], 1, moving=True)) as (url, _):
            store = self.store(url, mode)
            with pytest.raises(StoreTrouble, match="being replaced") as trouble:
                done(store, store.invalidate((), everything=True))
            assert trouble.value.about == "failover"

    def test_a_question_is_forgotten_at_the_new_primary_too(self, pair, valkey: Server, mode: str):
        direct = opened(valkey.url, prefix="acks")
        put(direct, key(0), 1)
        with told(at(pair[0], 1)) as (url, sentinels):
            store = self.store(url, mode)
            blocking = store.blocking()
            drive(blocking.look(key(0), ()))
            sentinels[0].says = at(valkey, 2)
            done(store, store.forget(key(0)))
            drive(blocking.close())
        assert drive(direct.entry(key(0))) is None
        drive(direct.close())

    def test_soon_after_a_replacement_it_waits_until_others_have_heard_of_it(self, pair, mode: str):
        for since, least in ((60.0, 0.0), (sentinel_primary.SETTLED - 0.2, 0.2)):
            with told(at(pair[0], 1, since=since)) as (url, _):
                store = self.store(url, mode)
                took = Took()
                done(store, store.invalidate((), everything=True))
                assert took.wall >= least

    def test_no_sentinel_that_answers_is_trouble_and_not_an_acknowledgement(self, pair, mode: str):
        with told(at(pair[0], 1)) as (url, sentinels):
            store = self.store(url, mode)
            blocking = store.blocking()
            drive(blocking.look(key(0), ()))
            sentinels[0].says = "denied"
            with pytest.raises(StoreTrouble):
                drive(blocking.invalidate((), everything=True))
            drive(blocking.close())
            drive(opened(url).close())


@pytest.mark.servers
@MODES
def test_all_connections_of_one_epoch_lead_to_one_server(pair, valkey: Server, mode: str, monkeypatch):
    monkeypatch.setattr(sentinel, "RECENT", 0.0)
    for module in (connecting, multiplexed):
        monkeypatch.setattr(module, "watch", lambda *_: None)  # it may hear of it first, which is as good
    with told(at(pair[0], 1)) as (url, sentinels):
        store = opened(url)
        address = address_of(store)
        before = open_connection(address)
        sentinels[0].says = at(valkey, 2)
        if mode == "sync":
            connection = open_connection(address)
            epoch = connection.epoch
            connection.close()
        else:
            epoch = asyncio.run(epoch_of(address))
        assert before.epoch < epoch == address.epoch.number
        before.close()


async def epoch_of(address: SentinelAddress) -> int:
    connection = await open_multiplexed(address)
    connection.close()
    return connection.epoch


# --- credentials and TLS ------------------------------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.waits
def test_the_sentinels_and_the_primary_have_passwords_of_their_own_and_nobody_is_told_them(caplog):
    with SentinelGroup(replicas=0, sentinels=1, password="ours", sentinel_password="theirs") as group:
        for mode in ("sync", "async"):
            assert found(group.url, mode) == group.servers[0].port
            for wrong, right in (("ours", "mine"), ("theirs", "mine"), ("sentinel_password=theirs", "")):
                with pytest.raises(StoreTrouble) as trouble:
                    found(group.url.replace(wrong, right), mode)
                assert trouble.value.kind == "store-denied"
                assert not {"ours", "theirs", "mine"} & set(re.findall(r"\w+", str(trouble.value)))
        client = redis.sentinel.Sentinel(
            [("127.0.0.1", group.sentinels[0].port)], sentinel_kwargs={"password": "theirs"}, password="ours"
        ).master_for("mymaster")
        with Cache(redis_client=client) as cache:
            assert "stored" in str(cache.fetch({"q": 1}, lambda: {"a": 1}).status)
        with Cache(group.url) as cache:
            assert cache.fetch({"q": 1}, lambda: {"a": 2}).value == {"a": 1}
            assert "theirs" not in repr(cache) + repr(cache.stats())
    assert not caplog.records


@pytest.mark.servers
@pytest.mark.waits
def test_the_sentinels_and_the_primary_are_reached_over_tls(certificate: Path):
    names = {"tls-cert-file": certificate, "tls-key-file": certificate.with_name("key.pem")}
    files = {**names, "tls-ca-cert-file": certificate, "tls-auth-clients": "no", "tls-replication": "yes"}
    options = {name: str(value) for name, value in files.items()}
    primary_port, sentinel_port = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(RedisServer(options={**options, "tls-port": primary_port}))
        except ServerMissing as missing:
            pytest.skip(str(missing))
        made = sentinel_of(RedisServer)(primary_port, {}, options={**options, "tls-port": sentinel_port})
        stack.enter_context(made)
        url = f"rediss+sentinel://localhost:{sentinel_port}/mymaster"
        trusted = f"{url}?ssl_ca_certs={certificate}"
        for mode in ("sync", "async"):
            assert found(trusted, mode)
            with pytest.raises(StoreTrouble) as trouble:
                found(url, mode)
            assert trouble.value.kind == "store-denied"
        store = opened(trusted)
        drive(store.invalidate((), everything=True))
        link = store.link()
        link.probe()
        link.close()
        drive(store.close())


# --- after it has moved -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    """A service of this file's own: its servers are killed."""
    yield from started(SentinelGroup(tolerance=PATIENT))


@pytest.fixture
def whole(group: SentinelGroup) -> SentinelGroup:
    """The same with every server up, and the sentinels at one. They replace the primary if a test tells them to."""
    group.tolerate(PATIENT)
    group.settle()
    return group


def replaced(group: SentinelGroup, before: Server) -> Server:
    """The new primary in place of one that was stopped. The sentinels do not replace that one too, if it is slow."""
    group.tolerate(HASTY)
    group.moved_from(before)
    group.tolerate(PATIENT)
    until(lambda: not any(replacing(sentinel) for sentinel in group.sentinels))
    return group.primary()


def replacing(sentinel: Server) -> bool:
    said = sentinel.command("SENTINEL", "MASTER", SERVICE)
    return b"failover_in_progress" in said[said.index(b"flags") + 1]


@contextlib.contextmanager
def kept(primary: Server) -> Iterator[None]:
    """Nobody makes it a replica: the sentinels would, a second after they have replaced it."""
    primary.command("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
    try:
        yield
    finally:
        primary.command("ACL", "SETUSER", "default", "+replicaof", "+slaveof")


def port_of(store: RedisStore) -> int:
    (reply,) = drive(store._wires[0].ask(pack(b"CONFIG", b"GET", b"port"), 1))
    return int(reply[b"port"])


def leads_to(store: RedisStore, server: Server) -> bool:
    with contextlib.suppress(StoreTrouble):
        return port_of(store) == server.port
    return False


def peer_of(link: Any) -> int:
    return int(link._connection.sock.getpeername()[1])


@contextlib.contextmanager
def closed_after(store: RedisStore) -> Iterator[None]:
    try:
        yield
    finally:
        drive(store.close())


def noted(tried: list[tuple[str, float]], steps: Any, connect: Any) -> Any:
    """`find`, and what it tries: where, and for how many seconds."""

    def trying(server: RedisAddress, limit: float) -> Any:
        tried.append((server.place, limit))
        return connect(server, limit)

    return find(steps, trying)


@pytest.mark.servers
@pytest.mark.waits
class TestAPrimaryThatMoves:
    def test_after_a_kill_every_wire_and_the_link_lead_to_the_new_one_and_stay_there(self, whole: SentinelGroup):
        store = opened(whole.url)
        link = store.link()
        link.subscribe(key(1))
        until(lambda: key(1) in link.poll(0.1)[1])
        before = whole.primary()
        put(store, key(0), 1)
        assert before.command("WAIT", 2, 2000) == 2
        before.stop()
        with pytest.raises(StoreTrouble):
            port_of(store)
        after = replaced(whole, before)
        until(lambda: leads_to(store, after))
        assert (drive(store.entry(key(0))) or b"").endswith(b"answer")
        ready: list[Any] = []
        until(lambda: self._polled(link, ready))
        assert peer_of(link) == after.port
        before.start()  # empty, and a primary until the sentinels notice
        address_of(store).epoch.end()
        assert leads_to(store, after)
        whole.settle()
        assert leads_to(store, after)
        link.close()
        drive(store.close())

    @staticmethod
    def _polled(link: Any, ready: list[Any]) -> bool:
        """Whether the subscription is in force again."""
        with contextlib.suppress(StoreTrouble):
            ready += link.poll(0.05)[1]
        return key(1) in ready

    def test_a_planned_failover_moves_idle_connections_though_the_old_primary_answers_on(self, whole: SentinelGroup):
        before = whole.primary()
        store = opened(whole.url)
        with kept(before), contextlib.closing(store.link()) as link, closed_after(store):
            link.probe()
            assert leads_to(store, before)
            after = asyncio.run(asyncio.wait_for(self._through(whole), 60))
            until(lambda: leads_to(store, after))
            assert b"role:master" in before.command("INFO", "replication"), "it still answers as a primary"
            until(lambda: self._polled(link, [key(1)]) and peer_of(link) == after.port)

    async def _through(self, whole: SentinelGroup) -> Server:
        """Replace the primary while a loop has a connection to it; return the new one, when that leads there."""
        over = opened(whole.url, asynchronous=True)
        try:
            await over.look(key(0), ())
            number = address_of(over).epoch.number
            after = await asyncio.to_thread(whole.failover)
            await asyncio.to_thread(until, lambda: address_of(over).epoch.number > number)  # it was announced
            while await self._port(over) != after.port:
                await asyncio.to_thread(time.sleep, 0.005)
            return after
        finally:
            await over.close()

    @staticmethod
    async def _port(store: RedisStore) -> int:
        with contextlib.suppress(StoreTrouble):
            (reply,) = await store._wires[0].ask(pack(b"CONFIG", b"GET", b"port"), 1)
            return int(reply[b"port"])
        return 0

    def test_nothing_is_left_of_a_store_that_is_closed(self, whole: SentinelGroup):
        before = set(threading.enumerate())
        store = opened(f"{whole.url}/7")  # another database: this watch is not another store's
        drive(store.look(key(0), ()))
        watching = [one for one in set(threading.enumerate()) - before if one.name == "askonce-sentinel"]
        assert len(watching) == 1
        drive(store.close())
        until(lambda: not watching[0].is_alive(), 15)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
    def test_a_forked_child_hears_the_sentinels_itself(self, whole: SentinelGroup):
        with Cache(whole.url, prefix="fork") as cache:
            cache.fetch({"q": "fork"}, lambda: {"a": "parent"})
            pid = os.fork()
            if not pid:
                code = 1
                with contextlib.suppress(BaseException):
                    value = cache.fetch({"q": "fork"}, lambda: {"a": "child"}).value
                    names = [thread.name for thread in threading.enumerate()]
                    code = int(value != {"a": "parent"} or names.count("askonce-sentinel") != 1)
                os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert cache.fetch({"q": "fork"}, lambda: {"a": "again"}).value == {"a": "parent"}

    def test_a_sentinel_that_is_down_or_frozen_costs_one_connection_a_part_of_its_second(
        self, whole: SentinelGroup, monkeypatch
    ):
        patient(monkeypatch, 4.0)
        first, second, _ = whole.sentinels
        first.stop()
        second.freeze()
        try:
            store = opened(whole.url)
            until(lambda: leads_to(store, whole.primary(whole.sentinels[2:])))
            address_of(store).epoch.end()
            tried: list[tuple[str, float]] = []
            monkeypatch.setattr(connecting, "find", partial(noted, tried))
            open_connection(address_of(store)).close()
            lost = [limit for place, limit in tried if place.endswith((f":{first.port}", f":{second.port}"))]
            assert lost == [asking.LEAST] * 2
            drive(store.close())
        finally:
            second.thaw()
            first.start()

    def test_callers_see_no_error_and_the_store_is_used_again_soon(self, whole: SentinelGroup):
        stored: list[float] = []
        errors: list[BaseException] = []
        over = threading.Event()

        def ask(cache: Cache, who: int) -> None:
            number = 0
            while not over.wait(0.01):
                number += 1
                try:
                    status = str(cache.fetch({"who": who, "number": number}, lambda: {"a": "b"}).status)
                except Exception as error:
                    errors.append(error)
                else:
                    if "stored" in status:
                        stored.append(time.monotonic())

        with Cache(whole.url) as cache:
            callers = [threading.Thread(target=ask, args=(cache, who)) for who in range(4)]
            for caller in callers:
                caller.start()
            until(lambda: len(stored) > 20)
            before = whole.primary()
            before.stop()
            replaced(whole, before)
            moved = time.monotonic()
            until(lambda: stored[-1] > moved)
            over.set()
            for caller in callers:
                caller.join()
        assert not errors

    @pytest.mark.slow
    @pytest.mark.parametrize("how", ["killed", "planned"])
    def test_a_near_cache_is_not_older_than_what_was_invalidated_at_the_new_primary(
        self, whole: SentinelGroup, how: str
    ):
        with Cache(whole.url, near="4MiB") as here, Cache(whole.url) as there:
            until(lambda: "detail=near" in str(asked(here, "old").status))
            before = whole.primary()
            assert before.command("WAIT", 2, 2000) == 2
            if how == "killed":
                before.stop()
                replaced(whole, before)
            else:
                whole.failover()
            until(lambda: invalidated(there))
            time.sleep(2)  # what is promised
            assert asked(here, "new").value == {"a": "new"}


def asked(cache: Cache, answer: str) -> Any:
    return cache.fetch({"q": "near"}, lambda: {"a": answer})


def invalidated(cache: Cache) -> bool:
    with contextlib.suppress(StoreUnavailable):
        cache.invalidate(everything=True)
        return True
    return False
