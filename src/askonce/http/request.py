"""A request as an SDK sends it, read for askonce: what is asked, by whom, with which headers.

core.headers decides which headers count, and http.credentials how long a credential lasts; this module takes both out
of one request. A cookie is a credential, whoever put it into the client's jar. A server that sets a new cookie with
each answer turns each call into another question. That costs calls, and is reported; the opposite would answer another
session.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

from askonce.core.headers import counting_members, header_class, ignored_header, plain_value
from askonce.core.providers.hosts import place_of
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.operations import Operation, operation_at
from askonce.http.credentials import Header, cookies_of, covered

K = TypeVar("K")
V = TypeVar("V")
NAMES = 1024  # cached names of headers with their class, and cached values of those that are judged by value
SHORT = 256  # bytes of a cached name or value

OURS = ("askonce-scope", "askonce-tags", "askonce-variant", "askonce-ttl", "askonce-consistency", "cache-control")


class Connection(NamedTuple):
    """What a connection tells beyond the request: whose it is, in lines like `RequestHeaders.secrets`; where it goes.

    No header can have the names in `where`: ``:socket``, the path of a Unix socket; ``:sni_hostname`` and ``:target``,
    the extensions of a request with these names; ``:proxy`` and the name of a header that a proxy reads.
    """

    secrets: bytes = b""
    where: tuple[tuple[str, str], ...] = ()


PLAIN = Connection()


class SentRequest(NamedTuple):
    """A request: its whole URL as text, raw headers, and the body, None if it is not available."""

    method: str
    url: str
    headers: Sequence[Header]
    body: bytes | None
    connection: Connection = PLAIN


class Target(NamedTuple):
    """What a request line names: the operation, the URL's part of the key, and the credentials in the query."""

    operation: Operation
    upstream: str
    secrets: bytes
    host: bytes  # as host_of() returns it


class RequestHeaders(NamedTuple):
    """What headers carry: those that count in the key, the credentials as sent, and directives to askonce."""

    counts: tuple[tuple[str, str], ...]
    secrets: bytes  # including cookies
    ours: dict[str, str]
    unknown: tuple[str, ...]  # of `counts`: of no class
    cookies: bytes = b""
    host: bytes = b""


# --- the request line --------------------------------------------------------------------------------------------

_SECRET = frozenset({"key", "api_key", "api-key", "apikey", "access_token", "subscription-key", "x-amz-credential"})
_SIGNED = frozenset(
    {
        *("x-amz-signature", "x-amz-security-token", "x-amz-date", "sig"),
        *("x-goog-signature", "x-goog-credential", "x-goog-date"),
    }
)


@lru_cache(maxsize=1024)  # for short URLs: see ClientRules
def target_of(method: str, url: str, same_as: tuple[tuple[str, str], ...] = ()) -> Target | None:
    """What a request is for; None if it is no known operation. `same_as`: the pairs of Rules.same_as."""
    parts = urlsplit(url)
    place = place_of(parts.scheme, parts.netloc.rpartition("@")[2], dict(same_as))
    operation = operation_at(method, parts.path, place.provider, mirrored=place.same)
    if operation is None:
        return None
    secrets, plain = [], []
    framing = "alt=sse" if parts.query.count("alt=") == 1 else ""  # of several, one wins, and the order may say which
    for piece in filter(None, parts.query.split("&")):
        name = piece.partition("=")[0].lower()
        if name in _SECRET or name in _SIGNED:
            secrets.append(piece)
        elif piece != framing:  # how a stream is framed; the form is kept beside the key
            plain.append(piece)
    signed = "AWS4" if any(piece.partition("=")[0].lower() in _SIGNED for piece in secrets) else ""
    # Some providers repeat a host's region in the path.
    path = _REGION.sub("/locations/-/", operation.path) if place.same else operation.path
    upstream = f"{place.scheme}://{place.host}{path}?{'&'.join(plain)}"
    host = host_of(parts.netloc.rpartition("@")[2].encode(), url)
    return Target(operation, upstream, f"{signed}{'&'.join(secrets)}".encode(), host)


_REGION = re.compile("/locations/[^/]+/")


def host_of(host: bytes, url: str) -> bytes:
    """A host and port for comparison: in lower case, without the scheme's default port."""
    return host.strip().lower().removesuffix(b":443" if url[:6].lower() == "https:" else b":80")


# --- headers -----------------------------------------------------------------------------------------------------

_IGNORED, _COUNTS, _UNKNOWN, _CREDENTIAL, _COOKIE, _HOST, _OURS, _VALUED, _MEMBERS = range(9)
_KINDS = {"ours": _OURS, "credential": _CREDENTIAL, "valued": _VALUED, "members": _MEMBERS, "": _UNKNOWN}


class Known(dict[K, V]):
    """What is known of short names or values, emptied when it is full. A look-up costs half of an lru_cache's."""

    def keep(self, key: K, found: V, size: int) -> V:
        """Return what was found about a key; keep it, if the key is of few bytes."""
        if size <= SHORT:
            if len(self) >= NAMES:
                self.clear()
            self[key] = found
        return found


class _Classes(Known[bytes, int]):
    """The class of each name met so far; a hit looks 17 of them up."""

    def __missing__(self, name: bytes) -> int:
        text = lower(name)
        plain = _IGNORED if ignored_header(text) else _COUNTS
        found = {"cookie": _COOKIE, "host": _HOST}.get(text, _KINDS.get(header_class(text), plain))
        return self.keep(name, found, len(name))


class _Values(Known[tuple[bytes, bytes], bool]):
    """Whether a header has a plain value."""

    def __missing__(self, pair: tuple[bytes, bytes]) -> bool:
        return self.keep(pair, plain_value(lower(pair[0]), text_of(pair[1])), len(pair[1]))


_CLASSES = _Classes()
_PLAIN = _Values()


def read_headers(headers: Sequence[Header], ignored: Container[str] = ()) -> RequestHeaders:
    """What the headers carry. `ignored` (lower case): headers that do not count, and cookies as ``cookie:name``."""
    counts: list[tuple[str, str]] = []
    secrets: list[bytes] = []
    cookies: list[bytes] = []
    ours: dict[str, str] = {}
    unknown: list[str] = []
    host = b""
    for name, value in headers:
        kind = _CLASSES[name]
        if kind == _IGNORED or (kind == _VALUED and _PLAIN[name, value]):
            continue
        if kind == _CREDENTIAL:
            secrets.append(name.lower() + b":" + value)
        elif kind == _HOST:
            host = value
        elif kind == _COOKIE:
            found = [b"cookie:" + one for one in cookies_of(value)]
            cookies += (kept := [one for one in found if name_of(one) not in ignored])
            secrets += kept
        elif kind == _OURS:
            text = lower(name)
            ours[text] = f"{ours[text]},{text_of(value)}" if text in ours else text_of(value)
        elif (text := lower(name)) not in ignored:
            counted = counting_members(text, text_of(value)) if kind == _MEMBERS else text_of(value)
            counts += [(text, counted)] if counted or kind != _MEMBERS else []
            unknown += [text] if kind == _UNKNOWN else []
    return RequestHeaders(tuple(counts), b"\n".join(secrets), ours, tuple(unknown), b"\n".join(cookies), host)


def without_ours(headers: Sequence[Header]) -> list[Header]:
    """The headers for upstream, without askonce's own; one that a signature covers stays, or the signature breaks."""
    kept = covered(headers)
    return [(name, value) for name, value in headers if _CLASSES[name] != _OURS or name.lower() in kept]


def encoded(headers: Sequence[Header]) -> bool:
    """Whether a request says that its body is compressed, or encoded in another way."""
    return any(name.lower() == b"content-encoding" and value.strip().lower() != b"identity" for name, value in headers)


def name_of(secret: bytes) -> str:
    """The name of a line of `secrets`: the header's, or ``cookie:`` and the cookie's; lower case."""
    name, _, value = secret.partition(b":")
    return lower(b"cookie:" + value.partition(b"=")[0].strip() if name == b"cookie" else name)


def lower(name: bytes) -> str:
    """The name of a header as text, in lower case."""
    return name.decode("latin-1").lower()


def text_of(value: bytes) -> str:
    """The value of a header as text; two values that differ in any byte differ as text, too."""
    return value.decode("utf-8", "surrogateescape")
