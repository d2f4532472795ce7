"""A request as an SDK sends it, read for what askonce has to know: what is asked, by whom, with which headers.

The credential is the tenant unless the operator names one, so it is digested here and never kept. One that is made anew
every hour (a JWT with an end, an OAuth token, a SigV4 signature) would give every hour a cache of its own, and is told
apart. Cookies are credentials too, but for those that balancers and bot filters hand out, and those that an operation
set by itself for a caller who had shown a credential: SDK clients send them back, and a key that held them would be new
after every answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from askonce.core.bounded import lru_cache_of_short
from askonce.core.headers import header_class
from askonce.core.hosts import place_of
from askonce.core.operations import Operation, operation_at

Header = tuple[bytes, bytes]
NAMES = 1024  # names of headers whose class is kept in mind

OURS = ("askonce-scope", "askonce-tags", "askonce-variant", "askonce-ttl", "cache-control")


class Sent(NamedTuple):
    """A request: its whole URL as text, raw headers, and the body, None where it is not at hand."""

    method: str
    url: str
    headers: Sequence[Header]
    body: bytes | None


class Target(NamedTuple):
    """What a request line names: the operation, the key's part of the URL, and the credentials in the query."""

    operation: Operation
    upstream: str
    secrets: bytes


class Carried(NamedTuple):
    """What headers carry: those that count in the key, the credentials as they stand, and what is said to us."""

    counts: tuple[tuple[str, str], ...]
    secrets: bytes
    ours: dict[str, str]
    unknown: tuple[str, ...]  # of `counts`: no class knows them


# --- the request line --------------------------------------------------------------------------------------------

_SECRET = frozenset({"key", "api_key", "api-key", "apikey", "access_token", "subscription-key", "x-amz-credential"})
_SIGNED = frozenset({"x-amz-signature", "x-amz-security-token", "x-amz-date", "sig"})


@lru_cache_of_short(1024)
def target_of(method: str, url: str, same_as: tuple[tuple[str, str], ...] = ()) -> Target | None:
    """What a request is aimed at; None for what is no operation of ours. `same_as`: as in Rules, its pairs."""
    parts = urlsplit(url)
    place = place_of(parts.scheme, parts.netloc.rpartition("@")[2], dict(same_as))
    operation = operation_at(method, parts.path, place.provider, mirrored=place.same)
    if operation is None:
        return None
    secrets, plain = [], []
    for piece in filter(None, parts.query.split("&")):
        name = piece.partition("=")[0].lower()
        if name in _SECRET or name in _SIGNED:
            secrets.append(piece)
        elif piece != "alt=sse":  # how a stream is framed: the form of an answer is kept beside the key, not in it
            plain.append(piece)
    signed = "AWS4" if any(piece.partition("=")[0].lower() in _SIGNED for piece in secrets) else ""
    # Vertex names a host's region again in the path.
    path = _REGION.sub("/locations/-/", operation.path) if place.same else operation.path
    upstream = f"{place.scheme}://{place.host}{path}?{'&'.join(plain)}"
    return Target(operation, upstream, f"{signed}{'&'.join(secrets)}".encode())


_REGION = re.compile("/locations/[^/]+/")


# --- headers -----------------------------------------------------------------------------------------------------

_IGNORED, _COUNTS, _UNKNOWN, _CREDENTIAL, _COOKIE, _OURS = range(6)


class _Classes(dict[bytes, int]):
    """The class of each name met so far: one is looked up in half the time that an lru_cache takes, 17 times a hit."""

    def __missing__(self, name: bytes) -> int:
        if len(self) >= NAMES:
            self.clear()
        kind = header_class(text := name.decode("latin-1"))
        kinds = {"ours": _OURS, "credential": _CREDENTIAL, "counts": _COUNTS, "": _UNKNOWN}
        self[name] = found = _COOKIE if text.lower() == "cookie" else kinds.get(kind, _IGNORED)
        return found


_CLASSES = _Classes()


def carried(headers: Sequence[Header], ignored: Collection[str] = (), born: Collection[bytes] = ()) -> Carried:
    """What the headers carry; `ignored` (lower case) and cookies `born` upstream do not count."""
    counts: list[tuple[str, str]] = []
    secrets: list[bytes] = []
    ours: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in headers:
        kind = _CLASSES[name]
        if kind == _IGNORED:
            continue
        if kind == _CREDENTIAL:
            secrets.append(name.lower() + b":" + value)
        elif kind == _COOKIE:
            secrets += [b"cookie:" + one for one in _cookies(value) if one.partition(b"=")[0] not in born]
        else:
            text = name.decode("latin-1").lower()
            if kind == _OURS:
                ours[text] = f"{ours[text]},{_text(value)}" if text in ours else _text(value)
            elif text not in ignored:
                counts.append((text, _text(value)))
                unknown += [text] if kind == _UNKNOWN else []
    return Carried(tuple(counts), b"\n".join(secrets), ours, tuple(unknown))


def less_ours(headers: Sequence[Header]) -> list[Header]:
    """The headers for upstream. What a SigV4 signature covers stays: taking it off would break the signature."""
    signed = b"".join(re.findall(rb"SignedHeaders=([^,\s]*)", b" ".join(value for _, value in headers)))
    covered = signed.lower().split(b";")
    return [(name, value) for name, value in headers if _CLASSES[name] != _OURS or name.lower() in covered]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


# --- credentials -------------------------------------------------------------------------------------------------

_BALANCERS = re.compile(  # Cloudflare, AWS, Google, Azure, Akamai, Imperva, and what ingress controllers call theirs
    rb"__cf\w*|_cfuvid|cf_clearance|AWSALB\w*|AWSELB\w*|GCLB|ARRAffinity\w*|ak_bmsc|bm_\w+|_abck|"
    rb"visid_incap_\w+|incap_ses_\w+|nlbi_\w+|INGRESSCOOKIE|SERVERID|stsservicecookie|x-ms-gateway-slice|fpc"
)


def _cookies(value: bytes) -> list[bytes]:
    cookies = (one.strip() for one in value.split(b";"))
    return [one for one in cookies if one and not _BALANCERS.fullmatch(one.partition(b"=")[0])]


def fingerprint(secrets: bytes) -> str:
    """What stands for a credential in keys, and is no credential; empty for none."""
    return hashlib.sha256(secrets).hexdigest() if secrets else ""


def cookies_born(sent: Sequence[Header], received: Sequence[Header]) -> set[bytes]:
    """Names of the cookies that a response sets and its request did not have."""
    made = {value.partition(b"=")[0].strip() for name, value in received if name.lower() == b"set-cookie"}
    had = [value for name, value in sent if made and name.lower() == b"cookie"]
    return made - {one.partition(b"=")[0] for value in had for one in _cookies(value)}


_MADE_ANEW = re.compile(  # the sign-ins of Google, GitHub, Anthropic and Copilot, and whatever AWS signs
    rb"(?:^|[\s:])(?:ya29\.|gh[osu]_|sk-ant-oat|tid=|AWS4)|^x-amz-security-token:", re.MULTILINE
)
# From the start of a run of such signs only: from each "-eyJ" in it, a long one would be read again and again.
_JWT = re.compile(rb"(?<![\w-])eyJ[\w-]*+\.([\w-]*+)\.")


def rotates(secrets: bytes) -> bool:
    """Whether a credential is of a kind that is replaced every so often, so that it names nobody for long."""
    return bool(_MADE_ANEW.search(secrets)) or any(map(_ends, _JWT.findall(secrets)))


def _ends(claims: bytes) -> bool:
    """Whether a JWT has an end: some providers' API keys are JWTs for good. One that cannot be read is taken to."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))
    except (binascii.Error, ValueError):
        return True
    return not isinstance(found, dict) or "exp" in found
