"""What identifies a caller in a connection and in no header: a client certificate, a Unix socket."""

from __future__ import annotations

import datetime as dt
import itertools
import ssl
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import truststore
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from askonce import AsyncCache
from askonce.http import connection
from askonce.http.connection import UNSEEN, certificate_of, connection_of
from askonce.http.request import PLAIN
from tests.http.conftest import CHAT
from tests.http.test_requests import URL, WHO, answering, status_of
from tests.http.upstreams import Scripted

KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


def certificate(folder: Path, name: str, kind: str = "p256") -> str:
    """The path of a file with a new key and its own certificate, which is for 127.0.0.1 too."""
    key, who = KEYS[kind](), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), day, day.replace(year=2046))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    signed = made.sign(key, None if kind.startswith("ed") else hashes.SHA256())
    path = folder / f"{name}.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)


def context(path: str | None = None, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    made = kind(ssl.PROTOCOL_TLS_CLIENT)
    if path is not None:
        made.load_cert_chain(path)
    return made


# --- what a context holds ---


@pytest.mark.parametrize(("kind", "of"), [*((kind, ssl.SSLContext) for kind in KEYS), ("p256", truststore.SSLContext)])
def test_a_certificate_of_any_key_is_seen_in_a_context_and_told_from_another(tmp_path, kind, of):
    alice, bob = (context(certificate(tmp_path, name, kind), of) for name in ("alice", "bob"))
    seen = {certificate_of(alice), certificate_of(bob)}
    assert len(seen) == 2
    assert not seen & {b"", UNSEEN}
    assert certificate_of(alice) == certificate_of(alice)


def test_a_context_without_a_certificate_has_none_and_stays_as_it_was():
    for made in (context(), ssl.create_default_context(), context(kind=truststore.SSLContext)):
        before = made.verify_mode, made.check_hostname, made.minimum_version, made.options
        assert certificate_of(made) == b""
        assert (made.verify_mode, made.check_hostname, made.minimum_version, made.options) == before


def test_a_context_that_cannot_be_asked_may_well_hold_one():
    class Strange(ssl.SSLContext):
        def wrap_bio(self, *_: object, **__: object) -> Any:
            raise NotImplementedError

    assert certificate_of(Strange(ssl.PROTOCOL_TLS_CLIENT)) == UNSEEN


def test_a_build_without_a_curve_and_with_one_version_alone_sees_what_there_is(monkeypatch, tmp_path):
    def sides(curve: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
        if curve:
            raise ValueError(curve)
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        server.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_3
        asked, told = ssl.MemoryBIO(), ssl.MemoryBIO()
        return client.wrap_bio(told, asked), server.wrap_bio(asked, told, server_side=True)

    monkeypatch.setattr(connection, "_peers", sides)
    monkeypatch.setattr(connection, "_failure_without", connection._failure_without.__wrapped__)
    assert certificate_of(context()) == b""
    assert certificate_of(context(certificate(tmp_path, "me"))) not in {b"", UNSEEN}


# --- where a transport keeps it ---


class Wrapping:
    """A transport around another, as retries, tracing and rate limits are made."""

    def __init__(self, inner: Any) -> None:
        self._wrapped = [inner]

    def handle_request(self, request: Any) -> Any:
        return self._wrapped[0].handle_request(request)

    def close(self) -> None:
        self._wrapped[0].close()


class Slotted:
    """One that has no dict, and keeps its pools by name."""

    __slots__ = ("pools",)

    def __init__(self, inner: Any) -> None:
        self.pools = {"all": inner}

    def handle_request(self, request: Any) -> Any:
        return self.pools["all"].handle_request(request)


def transports(module: Any, path: str) -> Iterator[Any]:
    yield module.HTTPTransport(verify=context(path))
    yield module.AsyncHTTPTransport(verify=context(path))
    yield module.HTTPTransport(verify=context(path), proxy="http://127.0.0.1:1")
    yield Wrapping(Wrapping(module.HTTPTransport(verify=context(path))))
    yield Slotted(module.HTTPTransport(verify=context(path)))
    yield Wrapping(module.Client(verify=context(path)))
    yield Wrapping(module.Client(mounts={"https://": module.HTTPTransport(verify=context(path))}))


def test_the_certificate_of_a_transport_is_found_wherever_it_stands(module, tmp_path):
    for one in transports(module, certificate(tmp_path, "me")):
        assert connection_of(one, secure=True).secrets
        assert connection_of(one, secure=False) is PLAIN


def test_a_transport_without_one_tells_nothing(module):
    for one in (module.HTTPTransport(), module.MockTransport(lambda _: module.Response(200)), answering(module)):
        assert connection_of(one, secure=True) is PLAIN
    with module.HTTPTransport(uds="/run/a.sock") as one:
        assert connection_of(one, secure=True).where == ((":socket", "/run/a.sock"),)


# --- what becomes of it ---


def behind(module: Any, path: str | None, **more: Any) -> Scripted:
    """Holds a certificate as a real transport does, and answers without a network."""
    made = answering(module)
    made._pool = module.HTTPTransport(verify=context(path), **more)._pool  # type: ignore[attr-defined]
    return made


def test_a_client_certificate_passes_with_one_warning_until_a_tenant_is_named(module, cache, caplog, tmp_path):
    inner = behind(module, certificate(tmp_path, "me"))
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        assert [status_of(cache, client).detail for _ in range(2)] == ["tenant-needed"] * 2
        assert status_of(cache, client, "http" + URL.removeprefix("https")).detail != "tenant-needed"
    assert ["client certificate" in record.message for record in caplog.records] == [True]
    with cache.http_client(module=module, inner=inner, headers=WHO, tenant="us") as client:
        status_of(cache, client)
        assert status_of(cache, client).hit


@pytest.mark.parametrize("given", ["verify=", "cert=", "transport()", "verify= beside inner=", "cert= beside inner="])
def test_a_certificate_is_seen_in_each_way_to_give_it(module, cache, tmp_path, given):
    path = certificate(tmp_path, "me")
    if given == "transport()":
        client = module.Client(transport=cache.transport(module=module, inner=behind(module, path)))
    elif "beside" in given:
        more = {"verify": context(path)} if given.startswith("verify") else {"cert": path}
        client = cache.http_client(module=module, inner=answering(module), **more)
    elif given == "verify=":
        client = cache.http_client(module=module, verify=context(path))
    else:
        with pytest.warns(DeprecationWarning, match="cert"):
            client = cache.http_client(module=module, cert=path)
    with client:
        request = client.build_request("POST", URL, json=CHAT)
        sent = client._transport._sent(request)
        assert client._transport.rules.read(sent).reason == "tenant-needed"


async def test_a_certificate_of_an_async_client_is_seen_too(module, tmp_path):
    async with AsyncCache("memory://") as cache:
        inner = behind(module, certificate(tmp_path, "me"))
        client = cache.http_client(module=module, inner=inner, headers=WHO)
        with cache.watch() as seen:
            await client.post(URL, json=CHAT)
        await client.aclose()
    assert [status.detail for status in seen] == ["tenant-needed"]


def test_a_proxy_that_reads_requests_knows_its_users_and_one_that_is_a_tunnel_does_not(module, cache):
    keys: dict[str, list[str]] = {"http": [], "https": []}
    for scheme, user in itertools.product(keys, "abb"):
        inner = answering(module)
        inner._pool = module.HTTPTransport(proxy=f"http://{user}:pw@127.0.0.1:1")._pool
        with cache.http_client(module=module, inner=inner, headers=WHO) as client:
            keys[scheme].append(status_of(cache, client, scheme + URL.removeprefix("https")).key)
    assert [len(set(found)) for found in keys.values()] == [2, 1]
    assert keys["http"][1] == keys["http"][2]


PROXY_HEADERS = {
    "none": ({}, "none"),
    "a key": ({"x-api-key": "a"}, "key a"),
    "another key": ({"X-Api-Key": "b"}, "key b"),
    "a customer": ({"x-team": "a"}, "team a"),
    "the customer, and a request id": ({"x-team": "a", "x-request-id": "1", "user-agent": "me"}, "team a"),
    "another customer": ({"x-team": "b"}, "team b"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_the_headers_for_a_proxy_tell_it_counts_where_it_reads_requests(module, cache, scheme):
    keys: dict[str, set[str]] = {}
    for headers, who in PROXY_HEADERS.values():
        inner = answering(module)
        inner._pool = module.HTTPTransport(proxy=module.Proxy("http://127.0.0.1:1", headers=headers))._pool
        with cache.http_client(module=module, inner=inner, headers=WHO) as client:
            keys.setdefault(who, set()).add(status_of(cache, client, scheme + URL.removeprefix("https")).key)
    assert {len(found) for found in keys.values()} == {1}
    assert len(set.union(*keys.values())) == (len(keys) if scheme == "http" else 1)


def test_two_sockets_are_two_upstreams_though_the_url_is_one(module, cache):
    inners = [behind(module, None, uds=f"/run/{name}.sock") for name in "ab"]
    for inner in inners:
        with cache.http_client(module=module, inner=inner, headers=WHO) as client:
            client.post(URL, json=CHAT)
            client.post(URL, json=CHAT)
    assert [len(inner.requests) for inner in inners] == [1, 1]


@pytest.mark.parametrize("name", ["sni_hostname", "target"])
def test_an_extension_that_directs_a_request_elsewhere_makes_another_question(module, cache, name):
    with cache.http_client(module=module, inner=answering(module), headers=WHO) as client:
        told = [{}, {name: "a.internal"}, {name: "b.internal"}, {name: "a.internal"}, {"trace": print}]
        keys = [status_of(cache, client, extensions=more).key for more in told]
    assert len({*keys}) == 3
    assert keys[0] == keys[4]
    assert keys[1] == keys[3]
