"""Connections in trouble: one deadline for an exchange, and no connection that cannot prove itself.

Whatever a server sends or omits costs a caller one timeout, counted for the whole exchange. A connection that brought
something unrequested is never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.core.tape import ALIVE, Notice
from askonce.runtime.drive import drive
from askonce.store import CONNECT_TIMEOUT, Held, StoreTrouble
from askonce.store.redis.async_wire import AsyncWire
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import BUFFER, Connection, Cut
from askonce.store.redis.link import CONFIRM, PROOF, RedisLink
from askonce.store.redis.scripts import pack
from askonce.store.redis.store import RedisStore
from askonce.store.redis.wire import SyncWire, Wire
from askonce.testing.proxy import Proxy
from askonce.testing.servers import Server, ValkeyServer
from tests.profiles import examples
from tests.store.keeping import LIFE, ask, lead, sealed
from tests.store.puppet import HELLO, Puppet, address, filled, get, key, until
from tests.took import Took

pytestmark = [pytest.mark.servers, pytest.mark.concurrency, pytest.mark.usefixtures("defaults")]
K = key(0)
SOON = 0.35  # s: one timeout of 0.2, and what a busy machine adds
GARBLED = (b"\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b"\0\xff\xfe")
GARBAGE = (*GARBLED, b"+OK\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"-ERR no\r\n")  # the later ones are whole replies


class Asking:
    """A wire of either mode, asked from here."""

    def __init__(self, mode: str, server: Any, timeout: float = 0.2) -> None:
        self.runner = asyncio.Runner() if mode == "async" else None
        to = address(server, timeout)
        self.wire: Wire = AsyncWire(to) if self.runner else SyncWire(to)

    def do(self, work: Any) -> Any:
        return self.runner.run(work) if self.runner else drive(work)

    def ask(self, data: bytes, count: int = 1) -> list[Any]:
        return list(self.do(self.wire.ask(data, count)))

    def kind(self, data: bytes, count: int = 1) -> str:
        with pytest.raises(StoreTrouble) as trouble:
            self.ask(data, count)
        return trouble.value.kind

    def close(self) -> None:
        self.do(self.wire.close())
        if self.runner:
            self.runner.close()


@pytest.fixture(params=["sync", "async"])
def asking(request) -> Iterator[Callable[..., Asking]]:
    made: list[Asking] = []

    def one(server: Any, timeout: float = 0.2) -> Asking:
        made.append(Asking(request.param, server, timeout))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    filled(valkey)
    with Proxy(valkey) as made:
        yield made


def test_a_server_that_trickles_costs_one_timeout_and_its_connection_is_given_up(asking, proxy):
    asked = asking(proxy)
    assert asked.ask(get("n1")) == [b"value of n1"]
    proxy.trickle = 0.05
    with Took() as took:
        assert asked.kind(get("n2")) == "store-timeout"
    assert took.seconds < SOON
    proxy.mend()
    time.sleep(1.2)  # the rest of that reply is coming; its place in the queue stays, or its connection is gone
    assert asked.ask(get("n3")) == [b"value of n3"]


def test_a_server_that_trickles_while_it_is_connected_to_costs_one_timeout_and_is_given_up(asking, proxy):
    first = SyncWire(address(proxy))  # the first of this process may take as long as connecting may
    proxy.trickle = 0.02
    with Took() as took, pytest.raises(StoreTrouble):
        drive(first.ask(get("n1"), 1))
    assert took.seconds < CONNECT_TIMEOUT + 0.3
    asked = asking(proxy)
    with Took() as took:
        assert asked.kind(get("n1")) == "store-timeout"
    assert took.seconds < SOON
    with Took() as took, pytest.raises(StoreTrouble):
        open_connection(address(proxy))
    assert took.seconds < CONNECT_TIMEOUT + 0.3


def test_a_large_reply_over_a_slow_line_is_no_trickle(asking):
    value = b"x" * 20_000_000

    def slowly(connection: socket.socket, command: list[bytes]) -> None:
        said = b"$%d\r\n%b\r\n" % (len(value), value)
        for at in range(0, len(said), 400_000):  # in 1.5 s, longer than a timeout; some 5 s are no trickle
            connection.sendall(said[at : at + 400_000])
            time.sleep(0.03)

    with Puppet(slowly) as puppet:
        assert asking(puppet, 1.0).ask(get("n1")) == [value]


class _Paired:
    """As redis-py's connection: one end of a pair of sockets."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.disconnect = sock.close


@pytest.mark.parametrize("behind", [0.0, 1e6])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_reply_that_came_while_the_process_stood_still_is_read_to_its_end(behind, missing):
    """Its time is over when the process goes on: what is there counts, and what is not there is not waited for."""
    body = b"x" * (BUFFER + 20_000)  # more than one read brings
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(_Paired(ours), 0.2)
        ours.settimeout(0.2)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * BUFFER)
        theirs.sendall(b"$%d\r\n%b\r\n" % (len(body) + missing, body))
        began = time.monotonic() - behind
        if missing:
            with Took() as took, pytest.raises(Cut):
                connection.exchange(get("n"), 1, began)
            assert took.seconds < SOON
        else:
            assert connection.exchange(get("n"), 1, began) == [body]
            connection.close()


def test_what_vanishes_on_the_way_costs_one_timeout_and_is_replaced(asking, proxy):
    asked = asking(proxy)
    asked.ask(get("n1"))
    proxy.drop()
    for _ in range(2):  # connected, and not
        with Took() as took:
            assert asked.kind(get("n2")) == "store-timeout"
        assert took.seconds < SOON
    proxy.mend()
    until(lambda: _answers(asked), 3.0)


def _answers(asked: Asking) -> bool:
    try:
        return asked.ask(get("n2")) == [b"value of n2"]
    except StoreTrouble:
        return False


@pytest.mark.parametrize("garbage", GARBLED)
def test_a_connection_on_which_garbage_came_while_it_was_idle_is_replaced_without_a_word(asking, proxy, garbage):
    asked = asking(proxy)
    assert asked.ask(get("n1")) == [b"value of n1"]
    assert proxy.say(garbage) == 1
    assert [asked.ask(get(f"n{number}")) for number in (2, 3)] == [[b"value of n2"], [b"value of n3"]]
    assert len(proxy.pipes) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("garbage", [*GARBAGE, b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", b"$6\r\nstored\r\n"])
def test_a_reply_that_nobody_asked_for_is_told_by_its_shape_and_shifts_no_others(proxy, garbage, asynchronous):
    with asyncio.Runner() as runner:
        do = runner.run if asynchronous else drive
        store = RedisStore.from_url(proxy.url, prefix="p", asynchronous=asynchronous)
        do(store.look(K, ()))
        assert proxy.say(garbage) == 1
        for number in range(4):
            with contextlib.suppress(StoreTrouble):
                assert do(store.look(key(number), ())).entry is None
                do(store.claim(key(number), ask(number + 1)))
        grant = do(store.claim(key(9), ask(9))).grant
        assert do(store.fill(key(9), grant.id, grant.order, sealed(key(9), grant), LIFE)) == "stored"
        assert do(store.look(key(9), ())).entry
        do(store.close())


def test_a_connection_to_a_primary_that_was_demoted_is_replaced_within_the_same_lookup(asking, valkey, own_valkey):
    with Proxy(own_valkey) as proxy:
        asked = asking(proxy)
        asked.ask(get("n1"))
        valkey.command("SET", "from", "the new primary")
        own_valkey.command("REPLICAOF", "127.0.0.1", valkey.port)
        proxy.lead_to(valkey)
        assert asked.ask(pack(b"SET", b"a", b"1") + get("from"), 2) == [b"OK", b"the new primary"]
        assert len(proxy.pipes) == 1


def test_all_connections_of_an_address_are_replaced_when_one_of_them_hears_of_the_demotion(valkey, own_valkey):
    with Proxy(own_valkey) as proxy:
        shared = address(proxy)
        reading, writing = SyncWire(shared), SyncWire(shared)
        drive(reading.ask(get("n1"), 1))
        drive(writing.ask(get("n1"), 1))
        valkey.command("SET", "n1", "new")
        own_valkey.command("REPLICAOF", "127.0.0.1", "1")
        proxy.lead_to(valkey)
        drive(writing.ask(pack(b"SET", b"a", b"1"), 1))
        assert drive(reading.ask(get("n1"), 1)) == [b"new"], "a reader must not go on at the replica"
        for wire in (reading, writing):
            drive(wire.close())


def test_a_line_that_was_idle_for_long_is_made_anew_and_not_waited_for(proxy, monkeypatch):
    monkeypatch.setattr("askonce.store.redis.pool.TRUSTED", 0.05)
    wire = SyncWire(address(proxy))
    drive(wire.ask(get("n1"), 1))
    proxy.drop_idle()
    time.sleep(0.1)
    assert drive(wire.ask(get("n2"), 1)) == [b"value of n2"]
    drive(wire.close())


async def test_a_multiplexed_connection_that_is_idle_is_tried_before_anybody_needs_it(proxy, monkeypatch):
    monkeypatch.setattr("askonce.store.redis.multiplexed.TRUSTED", 0.1)
    wire = AsyncWire(address(proxy))
    await wire.ask(get("n1"), 1)
    proxy.drop_idle()
    await asyncio.sleep(0.6)
    with Took() as took:
        assert await wire.ask(get("n2"), 1) == [b"value of n2"]
    assert took.seconds < 0.15
    await wire.close()


async def test_an_interrupt_in_the_reply_loop_ends_the_connection_and_shifts_no_reply(valkey, monkeypatch):
    filled(valkey)
    wire = AsyncWire(address(valkey))
    await wire.ask(get("n1"), 1)
    (per_loop,) = (known() for known in wire._per_loop.values())
    connection = per_loop.connection
    real, left = connection._reader.gets, [1]

    class Interrupting:
        def gets(self) -> Any:
            said = real()
            if left and said == b"value of n2":
                left.pop()
                raise KeyboardInterrupt
            return said

        feed = connection._reader.feed

    monkeypatch.setattr(connection, "_reader", Interrupting())
    loop = asyncio.get_running_loop()
    told: list[Any] = []
    plain = connection.data_received
    monkeypatch.setattr(connection, "data_received", lambda data: _caught(plain, data, told))
    connection._transport.set_protocol(connection)
    assert loop.is_running()
    assert await wire.ask(get("n2"), 1) == [b"value of n2"], "asked again, on another connection"
    assert told == [KeyboardInterrupt]
    assert await wire.ask(get("n3"), 1) == [b"value of n3"]
    await wire.close()


def _caught(plain: Callable[[bytes], None], data: bytes, told: list[Any]) -> None:
    try:
        plain(data)
    except KeyboardInterrupt:
        told.append(KeyboardInterrupt)


# --- replies that are none -----------------------------------------------------------------------------------------

_SCALARS = st.one_of(
    st.integers(-5, 5).map(lambda number: b":%d\r\n" % number),
    st.sampled_from([b"$-1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"+OK\r\n", b"-ERR no\r\n", b"-NOPERM no\r\n"]),
    st.binary(max_size=30).map(lambda data: b"$%d\r\n%b\r\n" % (len(data), data)),
)
REPLIES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=5).map(lambda some: b"*%d\r\n" % len(some) + b"".join(some))
)


@pytest.fixture(scope="module")
def parrot() -> Iterator[tuple[Puppet, list[bytes]]]:
    told = [b""]
    with Puppet(lambda connection, _: connection.sendall(told[0])) as puppet:
        yield puppet, told


@given(said=REPLIES)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_reply_whatever_it_is_raises_anything_but_trouble(parrot, said):
    puppet, told = parrot
    told[0] = said
    store = RedisStore.from_url(puppet.url, prefix="p")
    verbs = (
        store.claim(K, ask(1)),
        store.entry(K),
        store.count(K, 1, 1000),
        store.extend(K, b"f" * 16, 1, 1, 1),
        store.append(K, b"f" * 16, 1, 0, b"data"),
        store.tape(K, b"f" * 16, 1),
    )
    for verb in verbs:
        try:
            drive(verb)
        except StoreTrouble:
            continue
    told[0] = said * 3
    with contextlib.suppress(StoreTrouble):
        drive(store.look(K, ()))
    drive(store.close())


# --- the link ------------------------------------------------------------------------------------------------------


@pytest.fixture
def link(proxy: Proxy) -> Iterator[RedisLink]:
    made = RedisStore.from_url(proxy.url, prefix="p").link()
    assert isinstance(made, RedisLink)
    yield made
    made.close()


def in_force(link: RedisLink, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while K not in link.poll(0.2)[1]:
        assert time.monotonic() < end, "it never came into force"


def troubled(link: RedisLink) -> str:
    """The kind of the first trouble that polling meets."""
    try:
        for _ in range(10):
            link.poll(1)
    except StoreTrouble as trouble:
        return trouble.kind
    return ""


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_link_on_which_garbage_came_is_made_anew_and_in_force_again(link, proxy, garbage):
    link.subscribe(K)
    in_force(link)
    proxy.say(garbage)
    with pytest.raises(StoreTrouble) as trouble:
        link.poll(2)
    assert trouble.value.kind in {"store-error", "store-closed"}
    in_force(link)
    link.say(K, Notice(ALIVE, b"i" * 16, 5))
    assert link.poll(1)[0]


def test_a_link_that_hears_nothing_finds_out_by_itself(link, proxy):
    link.subscribe(K)
    in_force(link)
    proxy.drop()
    with Took() as took:
        assert troubled(link) == "store-timeout"
    assert took.seconds < PROOF + 0.5
    proxy.mend()
    in_force(link)


def test_a_subscription_that_is_not_confirmed_is_trouble_within_its_time(link, proxy):
    link.probe()
    proxy.drop()
    link.subscribe(K)
    with Took() as took:
        assert troubled(link) == "store-timeout"
    assert took.seconds < CONFIRM + 0.5
    proxy.mend()
    in_force(link)


def test_a_link_whose_server_trickles_gives_up_by_one_deadline(link, proxy):
    link.probe()
    proxy.trickle = 0.02
    with Took() as took, pytest.raises(StoreTrouble) as trouble:
        link.probe()
    assert (trouble.value.kind, took.seconds < SOON) == ("store-timeout", True)


def test_a_link_to_a_demoted_primary_renews_at_the_new_one_in_the_same_call(own_valkey):
    with ValkeyServer() as new, Proxy(own_valkey) as proxy:
        own_valkey.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        new.command("REPLICAOF", "127.0.0.1", own_valkey.port)
        store = RedisStore.from_url(proxy.url, prefix="p")
        link = store.link()
        grant = lead(store, K, 1)
        held = [Held(K, grant.id, grant.order)]
        assert link.renew(held, 5_000) == ["ok"]
        until(lambda: new.command("EXISTS", store.names.of(K)[1]) == 1)
        new.command("REPLICAOF", "NO", "ONE")
        own_valkey.command("REPLICAOF", "127.0.0.1", new.port)
        proxy.lead_to(new)
        assert link.renew(held, 5_000) == ["ok"]
        link.close()
        drive(store.close())


def test_a_link_finds_a_replica_out_without_writing_and_refuses_to_be_made_to_one(valkey, own_valkey):
    with Proxy(own_valkey) as proxy:
        link = RedisStore.from_url(proxy.url, prefix="p").link()
        link.probe()
        own_valkey.command("REPLICAOF", "127.0.0.1", valkey.port)
        for _ in range(2):  # found out, and then met again
            with pytest.raises(StoreTrouble, match="replica") as trouble:
                link.probe()
            assert trouble.value.kind == "store-readonly"
        proxy.lead_to(valkey)
        link.probe()
        link.close()


def test_a_lease_where_something_else_stands_is_lost_and_the_others_are_renewed(valkey, link):
    store = RedisStore.from_url(valkey.url, prefix="p")
    grants = [lead(store, key(number), number + 1) for number in range(3)]
    lease = store.names.of(key(1))[1]
    valkey.command("DEL", lease)
    valkey.command("SET", lease, "somebody else's")
    held = [Held(key(number), grant.id, grant.order) for number, grant in enumerate(grants)]
    assert link.renew(held, 5_000) == ["ok", "lost", "ok"]
    drive(store.close())


def test_hello_is_a_primarys_unless_it_says_otherwise():
    from askonce.store.redis.connecting import is_primary

    assert is_primary({b"role": b"master"})
    assert is_primary({b"proto": 3})
    assert is_primary(None)
    assert not is_primary({b"role": b"replica"})
    assert not is_primary({"role": "slave"})
    assert HELLO.startswith(b"%1")
