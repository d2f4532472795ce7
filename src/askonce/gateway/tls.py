"""TLS to upstreams: whose certificates the gateway trusts beside the system's, and which one it shows.

Files are known by what they hold, not by their names: a certificate that was renewed in its place is used after the
next reload.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from askonce.cache.files import bytes_of
from askonce.errors import ConfigError
from askonce.gateway.upstreams import Upstream
from askonce.http.request import PLAIN, Connection

Contents = tuple[bytes, ...]  # digests of files
Contexts = dict[Upstream, tuple[Contents, ssl.SSLContext]]


def held(*files: str) -> Contents:
    """A digest of what each file holds; b"" for a file that cannot be read, or has no name."""
    return tuple(map(_digest, files))


def _digest(file: str) -> bytes:
    try:
        return hashlib.sha256(bytes_of(Path(file))).digest()
    except OSError:
        return b""


def contexts_of(upstreams: Iterable[Upstream], before: Contexts) -> Contexts:
    """The contexts of the upstreams that need their own; ConfigError. Those `before` are kept if their files are."""
    made: Contexts = {}
    for one in upstreams:
        if any(files := (one.ca, one.cert, one.cert_key)):
            contents, known = held(*files), before.get(one)
            made[one] = known if known is not None and known[0] == contents else (contents, context_of(one))
    return made


def context_of(upstream: Upstream) -> ssl.SSLContext:
    """The context of an upstream; ConfigError if its files cannot be used."""
    made = ssl.create_default_context()
    try:
        if upstream.ca:
            made.load_verify_locations(cafile=upstream.ca)
    except (OSError, ValueError) as wrong:  # SSLError is an OSError
        raise ConfigError(
            f"the certificates of {upstream.origin} cannot be read from {upstream.ca} ({_said(wrong)}):"
            " write the path of a PEM file"
        ) from None
    if upstream.cert:
        _show(made, upstream)
    return made


def _show(context: ssl.SSLContext, upstream: Upstream) -> None:
    """Let a context show the certificate of the gateway to an upstream."""

    def password() -> NoReturn:
        raise ConfigError(
            f"the key of the certificate for {upstream.origin} is encrypted: decrypt it, as `openssl pkey` does, into a"
            " file that only the gateway can read"
        )

    try:
        context.load_cert_chain(upstream.cert, upstream.cert_key or None, password)
    except (OSError, ValueError) as wrong:
        files = " and ".join(filter(None, (upstream.cert, upstream.cert_key)))
        raise ConfigError(
            f"the certificate for {upstream.origin} cannot be read from {files} ({_said(wrong)}): cert is a PEM file"
            " with the certificate and those between it and its authority, cert_key one with its key"
        ) from None


def _said(wrong: Exception) -> str:
    return str(getattr(wrong, "reason", "") or getattr(wrong, "strerror", "") or wrong)


def connection_to(upstream: Upstream, contexts: Contexts) -> tuple[ssl.SSLContext | None, Connection]:
    """The context of the connections to an upstream, None for the usual one, and what they tell beyond requests.

    Two upstreams of one host with two certificates are two accounts there. A certificate that is renewed in its place
    is the same account, so the name of its file counts, and not what it holds.
    """
    _, context = contexts.get(upstream, (None, None))
    return context, Connection(where=((":certificate", upstream.cert),)) if upstream.cert else PLAIN
