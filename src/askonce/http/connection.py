"""What identifies a caller in a transport and in no header: its client certificate, its socket, its proxy's user.

An SSLContext does not say whether it holds a certificate. A handshake in memory shows it: the context takes the place
of the server and presents its certificate. The context is unchanged, and nothing leaves the process. Contexts are found
by a walk through the transport, whose module keeps them in private attributes.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from askonce.http.credentials import CERTIFICATE
from askonce.http.request import PLAIN, Connection, read_headers

DIRECTIONS = frozenset({"sni_hostname", "target"})  # extensions of a request that say where it goes
LAYERS = 6  # transports around transports
UNSEEN = b"unseen"  # stands for the certificate of a context that cannot be examined

_MODULES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "httpx_aiohttp", "aiohttp"})
# OpenSSL 3 offers the usual curves by default. A certificate on another curve is shown only to a peer that offers it.
_CURVES = ("", "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1")


def connection_of(transport: Any, given: Sequence[Any] = (), *, secure: bool) -> Connection:
    """What the connections of a transport carry beyond their requests; `secure`: to an https URL.

    `given`: contexts given beside the transport, or UNSEEN for a certificate.
    """
    try:
        parts = list(_parts(transport))
    except Exception:  # noqa: BLE001 - what others keep in their objects may be anything; a certificate may be there
        parts, given = [], [UNSEEN]
    whose, said = (_certificates(parts, given), ()) if secure else _proxy_headers(parts)
    sockets = [(":socket", path) for part in parts if isinstance(path := getattr(part, "_uds", None), str)]
    where = (*sockets, *said)
    return Connection(b"\n".join(sorted(whose)), where) if whose or where else PLAIN


def _certificates(parts: Sequence[Any], given: Sequence[Any]) -> set[bytes]:
    contexts = [part for part in (*parts, *given) if isinstance(part, ssl.SSLContext)]
    shown = {*map(certificate_of, contexts), *(one for one in given if one == UNSEEN)}
    return {CERTIFICATE + one for one in shown if one}


def _proxy_headers(parts: Sequence[Any]) -> tuple[set[bytes], tuple[tuple[str, str], ...]]:
    """What the headers for a proxy add to requests that it reads: credentials, and others that count; requests to https
    pass through a tunnel.
    """
    found = read_headers([pair for part in parts for pair in getattr(part, "_proxy_headers", ())])
    whose = {found.secrets} if found.secrets else set()
    return whose, tuple((f":proxy {name}", value) for name, value in found.counts)


def given_beside(options: Mapping[str, Any]) -> list[Any]:
    """What a client's options say of certificates; they do not reach a transport that is given too."""
    return [options.get("verify"), UNSEEN if options.get("cert") else None]


def directed(connection: Connection, extensions: Mapping[str, Any]) -> Connection:
    """The connection of a request that names its own destination."""
    where = [(f":{name}", repr(extensions[name])) for name in sorted(DIRECTIONS & extensions.keys())]
    return connection._replace(where=(*connection.where, *where))


def _parts(transport: Any) -> Iterator[Any]:
    """The transports and pools inside a transport, and their contexts, each once."""
    layer, seen = [transport], {id(transport)}
    for _ in range(LAYERS):
        yield from layer
        within = [part for one in layer for part in _within(one)]
        layer = [part for part in within if id(part) not in seen and not seen.add(id(part))]  # type: ignore[func-returns-value]


def _within(one: Any) -> Iterator[Any]:
    slots = [name for kind in type(one).__mro__ for name in kind.__dict__.get("__slots__", ())]
    for value in [*getattr(one, "__dict__", {}).values(), *(getattr(one, name, None) for name in slots)]:
        kind = type(value)  # exactly: a subclass of dict may be an application's own and stays unexamined
        several = value.values() if kind is dict else value
        for part in several if kind in {dict, list, tuple} else (value,):
            if isinstance(part, ssl.SSLContext) or _carries(part):
                yield part


def _carries(part: Any) -> bool:
    kind = type(part)
    return (
        hasattr(kind, "handle_request")
        or hasattr(kind, "handle_async_request")
        or kind.__module__.partition(".")[0] in _MODULES
    )


# --- the certificate of a context --------------------------------------------------------------------------------


def certificate_of(context: ssl.SSLContext) -> bytes:
    """The digest of the certificate that a context shows to servers; empty for none, UNSEEN if that cannot be told."""
    try:
        return _asked(_own(context))
    except Exception:  # noqa: BLE001 - of a context of another make anything may come; it may well hold a certificate
        return UNSEEN


def _asked(context: ssl.SSLContext) -> bytes:
    failed = []
    for curve in _CURVES:
        found = _handshake(context, curve)
        if isinstance(found, bytes):
            return hashlib.sha256(found).hexdigest().encode()
        failed.append(found)
    return b"" if failed == [_failure_without(curve) for curve in _CURVES] else UNSEEN


def _own(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context itself, or the one that it wraps, as truststore's does."""
    if type(context) is ssl.SSLContext:
        return context
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="askonce.invalid").context


@lru_cache(maxsize=len(_CURVES))
def _failure_without(curve: str) -> str:
    """The error of a handshake with a context that holds no certificate."""
    return str(_handshake(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), curve))


def _handshake(context: ssl.SSLContext, curve: str) -> bytes | str:
    """The certificate that a context shows to a client of this curve, or the error of the handshake."""
    try:
        asking, answering = _peers(curve)
    except (ValueError, ssl.SSLError) as error:  # some builds of OpenSSL lack some curves
        return type(error).__name__
    answering.context = context  # the certificates now come from this context
    try:
        for side in (asking, answering) * 3:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return asking.getpeercert(binary_form=True) or "nothing"
    except (ValueError, ssl.SSLError) as error:
        return str(getattr(error, "reason", "")) or type(error).__name__


def _peers(curve: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for one in (server, client):
        one.set_ciphers("ALL:@SECLEVEL=0")
        if curve:
            one.set_ecdh_curve(curve)
            one.maximum_version = ssl.TLSVersion.TLSv1_2
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    return client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
