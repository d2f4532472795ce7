"""How a Redis is reached: URLs, clients, sockets, passwords, TLS; and the errors for invalid ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.connection as threads
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.cache.stores import open_store
from askonce.cli.checks import checks
from askonce.cli.place import find
from askonce.core.lease import Follow, Hit
from askonce.core.tape import ENDED, FAILED, Ending
from askonce.core.urls import without_password
from askonce.errors import ConfigError
from askonce.runtime.drive import drive
from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis import address as addresses
from askonce.store.redis import connecting, multiplexed
from askonce.store.redis.store import RedisStore
from askonce.store.redis.targets import target
from askonce.testing.servers import RedisServer, Server, ServerMissing
from tests.profiles import examples
from tests.remains import counted, descriptors
from tests.store.keeping import ask, lead, put
from tests.store.puppet import key


def opened(url: str, **options: Any) -> RedisStore:
    store = open_store(url, **options)
    assert isinstance(store, RedisStore)
    return store


def looking_says(store: RedisStore) -> str:
    with pytest.raises(StoreTrouble) as trouble:
        drive(store.look(key(0), ()))
    return trouble.value.kind


async def looked(url: str, times: int = 1, **options: Any) -> bytes:
    """What an async store finds; looked up by so many at once."""
    store = opened(url, asynchronous=True, **options)
    found = await asyncio.gather(*(store.look(key(0), ()) for _ in range(times)))
    await store.close()
    return found[-1].entry or b""


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", "redis://localhost:6379/0#"),
        ("redis://user:secret@host:1/2", "redis://user@host:1/2#"),
        ("rediss://:secret@host?db=3&ssl_cert_reqs=none", "rediss://host:6379/3#"),
        ("valkey://host:7", "redis://host:7/0#"),
        ("VALKEYS://host:7", "rediss://host:7/0#"),
        ("redis://[::1]:7/1", "redis://[::1]:7/1#"),
        ("unix://:secret@/run/redis.sock?db=4", "unix:///run/redis.sock?db=4#"),
        ("redis://host?protocol=2&max_connections=5&decode_responses=1&socket_timeout=3", "redis://host:6379/0#"),
    ],
)
def test_an_address_names_the_server_and_no_password(url: str, address: str):
    assert opened(url).address == address
    assert "secret" not in repr(opened(url))


def test_stores_of_two_prefixes_have_two_addresses():
    assert opened("redis://h", prefix="a").address != opened("redis://h", prefix="b").address


@pytest.mark.parametrize(
    ("url", "options", "remedy"),
    [
        ("redis:localhost", {}, "write redis://host:6379/0"),
        ("redis://user:secret@host:many/0", {}, "write redis://host:6379/0"),
        ("redis://user:secret@host/name", {}, "not a database number"),
        ("redis://host?socket_timeout=soon", {}, "socket_timeout"),
        ("redis://host?ssl_cert_reqs=none", {}, "ssl_cert_reqs"),
        ("redis://host", {"socket_timeot": 1}, "did you mean socket_timeout"),
        ("redis://host", {"socket_timeout": "soon"}, "not a number of seconds"),
        ("redis://host", {"max_bytes": 2**20}, "max_bytes"),
        (
            "redis://host",
            {"password": "a", "credential_provider": redis.UsernamePasswordCredentialProvider("a")},
            "do not fit together",
        ),
        ("unix://", {}, "unix:///run/redis.sock"),
        ("redis://host", {"prefix": "a}b"}, "write 'ab'"),
        ("redis://host", {"prefix": "{a"}, "write 'a'"),
        ("redis://host", {"prefix": "x" * 201}, "at most 200"),
        ("redis://host", {"prefix": 5}, "write prefix='5'"),
        ("redis://host", {"client": object()}, "pass a redis.Redis"),
        ("redis://host", {"client": redis.Redis(redis_connect_func=print)}, "credential_provider"),
        ("redis://host", {"client": redis.Redis(), "db": 3}, "set db on the client itself"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(url: str, options: dict[str, Any], remedy: str):
    with pytest.raises(ConfigError) as refused:
        open_store(url, **options)
    assert remedy in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.servers
def test_a_client_is_taken_by_its_options_and_its_pool_is_left_alone(own_valkey: Server):
    own_valkey.command("ACL", "SETUSER", "cat", "on", ">cat's", "+@all", "~*", "&*")
    options: dict[str, Any] = {"port": own_valkey.port, "username": "cat", "password": "cat's"}
    client = redis.Redis(**options, decode_responses=True, health_check_interval=5, client_name="mine", protocol=2)
    store = opened("redis://elsewhere", client=client)
    assert store.address == f"redis://cat@localhost:{own_valkey.port}/0#"
    put(store, key(0), 1)
    assert own_valkey.command("CLIENT", "LIST").count(b"user=cat") == 1
    drive(store.close())
    assert client.get("nothing") is None
    client.close()


@pytest.mark.servers
def test_a_client_of_either_kind_serves_a_store_of_either_kind(own_valkey: Server):
    own_valkey.command("CONFIG", "SET", "requirepass", "secret")
    blocking = redis.Redis(port=own_valkey.port, password="secret")
    suspending = redis.asyncio.Redis(port=own_valkey.port, password="secret")
    put(opened("redis://", client=suspending), key(0), 1)
    for client in (blocking, suspending):
        assert asyncio.run(looked("redis://", client=client)).endswith(b"answer")
        store = opened("redis://", client=client, asynchronous=True)
        link, again = store.link(), store.blocking()
        link.probe()
        link.close()
        assert isinstance(drive(again.claim(key(0), ask(2))), Hit)
        drive(again.close())


@pytest.mark.servers
def test_a_unix_socket_and_a_password_work_on_both_wires_and_on_a_link():
    server = RedisServer(unix=True, password="cat's/:@")
    with started(server):
        url = f"unix://:cat%27s%2F%3A%40@{server.socket_path}?db=1"
        store = opened(url)
        put(store, key(0), 1)
        link = store.link()
        link.probe()
        link.close()
        drive(store.close())
        assert asyncio.run(looked(url)).endswith(b"answer")
        assert looking_says(opened(f"unix://:wrong@{server.socket_path}")) == "store-denied"
        assert looking_says(opened(f"unix://{server.socket_path}")) == "store-denied"


def test_a_socket_or_a_name_that_is_not_there_is_refused(tmp_path: Path):
    assert looking_says(opened(f"unix://{tmp_path}/none")) == "store-refused"
    assert looking_says(opened("redis://no-such-host.invalid")) == "store-refused"


@pytest.mark.waits
def test_importing_askonce_imports_no_redis():
    program = "import askonce, askonce.store, sys; sys.exit('redis' in sys.modules or 'hiredis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@contextlib.contextmanager
def started(server: Server) -> Iterator[None]:
    try:
        server.start()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    try:
        yield
    finally:
        server.close()


@pytest.fixture
def tls_url(certificate: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {"tls-cert-file": certificate, "tls-key-file": certificate.with_name("key.pem")}
    files = {name: str(file) for name, file in names.items()}
    options = {"tls-port": port, "tls-auth-clients": "no", "tls-ca-cert-file": str(certificate), **files}
    with started(RedisServer(options=options)):
        yield f"rediss://localhost:{port}/0?socket_timeout=5"


@pytest.mark.servers
def test_tls_is_spoken_on_both_wires_and_on_a_link(certificate: Path, tls_url: str):
    store = opened(tls_url, ssl_ca_certs=str(certificate))
    body = os.urandom(200_000)
    put(store, key(0), 1, body)
    assert (drive(store.entry(key(0))) or b"").endswith(body)
    assert asyncio.run(looked(tls_url, 20, ssl_ca_certs=str(certificate))).endswith(body)

    link = store.link()
    link.subscribe(key(1))
    assert link.poll(1) == ([], [key(1)])
    lead(store, key(1), 2)
    assert isinstance(drive(store.claim(key(1), ask(3))), Follow)
    drive(store.release(key(1), ask(2).id, 0, Ending(FAILED)))
    heard = [word for _ in range(2) for _, word in link.poll(0.2)[0]]
    assert [word.outcome for word in heard if word.kind == ENDED] == [FAILED]
    link.close()
    drive(store.close())


@pytest.mark.servers
@counted
def test_a_loop_that_is_closed_without_ceremony_closes_its_connection_under_tls_too(certificate: Path, tls_url: str):
    store = opened(tls_url, asynchronous=True, ssl_ca_certs=str(certificate))
    gc.collect()  # what earlier tests left is closed now, and not meanwhile
    before = descriptors()
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(store.look(key(20), ()))
        loop.close()
        assert descriptors() == before


@pytest.mark.servers
def test_a_certificate_that_nobody_vouches_for_is_denied(tls_url: str):
    assert looking_says(opened(tls_url)) == "store-denied"
    with pytest.raises(StoreTrouble, match="store"):
        asyncio.run(looked(tls_url))


@pytest.mark.servers
def test_a_doctor_tells_a_certificate_that_is_not_accepted_from_rights_that_are_missing(tls_url: str):
    bad = [check for check in checks(find(tls_url, None)) if check.state == "bad"]
    assert [check.name for check in bad] == ["reach"]
    assert "certificate" in bad[0].remedy
    assert "password" not in bad[0].remedy


# --- what must not be told ----------------------------------------------------------------------------------------

SECRET = st.lists(st.sampled_from(["hunter", "tiger", *"/#?@:;&=%[]\\ !$'\"+,"]), min_size=1, max_size=7).map("".join)


@settings(max_examples=examples(300), deadline=None)
@given(
    secret=SECRET,
    shape=st.sampled_from(
        [
            "redis://:{}@h:1/0",
            "rediss://me:{}@h/0?db=1",
            "redis://{}@h",
            "unix://:{}@/s",
            "redis://h:1/0?password={}",
            "rediss://h/?ssl_password={}&db=2",
            "redis://h/0#{}",
            "redis://u:x@h/0?a={}&b={}",
            "redis+sentinel://:{}@h:1,i:2/s/0",
            "rediss+sentinel://h/s?sentinel_password={}&db=1",
            "redis+sentinel://me:{}@h/s?sentinel_username=you&password={}",
        ]
    ),
)
def test_no_part_of_a_password_is_told_whatever_signs_are_in_it_and_wherever_it_stands(secret, shape):
    if shape.startswith("redis://{}@"):
        secret = secret.replace(":", "")  # in a URL, a user's name comes before a colon
    url = shape.replace("{}", secret)
    told = [without_password(url)]
    try:
        address = target(url, {})
        if not shape.startswith("redis://{}@"):  # there it is a user's name, by the rules of URLs
            told.append(address.text)
    except ConfigError as error:
        told.append(str(error))
    assert not any(word in text for word in ("hunter", "tiger") for text in told), told


class _Before6(threads.SSLConnection):
    """redis-py's connection when it took any valid certificate for the server's."""

    def __init__(self, *, ssl_check_hostname: bool = False, **more: Any) -> None:
        super().__init__(ssl_check_hostname=ssl_check_hostname, **more)


@pytest.mark.parametrize(
    ("options", "checked"),
    [
        ({}, True),
        ({"ssl_cert_reqs": "none"}, False),
        ({"ssl_check_hostname": False}, False),
        ({"ssl_cert_reqs": "required"}, True),
    ],
)
def test_a_certificate_must_be_of_the_host_that_was_meant_with_every_redis_py_that_we_allow(options, checked):
    made = addresses.RedisAddress(_Before6, {"host": "h", **options}, 0.2).connection(1.0)
    assert made.check_hostname is checked


@pytest.mark.usefixtures("defaults")
def test_a_new_connection_may_take_as_long_as_the_user_says(monkeypatch: pytest.MonkeyPatch):
    limits: list[float] = []

    def connect(address: object, limit: float, epoch: int = 0) -> None:
        limits.append(limit)
        raise StoreTrouble("store-timeout")

    async def connect_on_loop(address: object, limit: float, epoch: int = 0) -> None:
        connect(address, limit, epoch)

    monkeypatch.setattr(connecting, "connect", connect)
    monkeypatch.setattr(multiplexed, "connect_on_loop", connect_on_loop)
    said = {"socket_connect_timeout": 7.5}
    for more, client, limit in ((said, None, 7.5), ({}, None, CONNECT_TIMEOUT), ({}, redis.Redis(), CONNECT_TIMEOUT)):
        del limits[:]
        address = target("redis://127.0.0.1:1/0", more, client)
        for one in (address, address.at("127.0.0.1", 2)):
            with pytest.raises(StoreTrouble):
                connecting.open_connection(one)
            with pytest.raises(StoreTrouble):
                asyncio.run(multiplexed.open_multiplexed(one))
        assert limits == [limit] * 4
