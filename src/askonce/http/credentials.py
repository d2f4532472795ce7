"""Credentials of a request: their digests in keys, how long they last, and what they sign.

A credential is the tenant unless the operator names one, so it is digested here and never kept. A short-lived
credential (a JWT with an end, an OAuth token, a ticket, a signature) would give every hour or every call a cache of its
own. It is recognised by its form, or because its scheme is not a lasting one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence

import orjson

from askonce.core.headers import BALANCERS
from askonce.core.providers.bounded import lru_cache_of_short

Header = tuple[bytes, bytes]

CERTIFICATE = b"client-certificate:"  # before the digest of a connection's certificate
BOUND = b"bound-connection:"  # a connection authenticated once, whose later requests need no credential


def fingerprint(secrets: bytes) -> str:
    """The digest that stands for a credential in keys; empty for none."""
    return hashlib.sha256(secrets).hexdigest() if secrets else ""


def cookies_of(value: bytes) -> list[bytes]:
    """The cookies of a ``cookie`` header that count: all but those of balancers and bot filters."""
    cookies = (one.strip() for one in value.split(b";"))
    return [one for one in cookies if one and not BALANCERS.fullmatch(one.partition(b"=")[0].strip())]


# --- how long they last ------------------------------------------------------------------------------------------

# Schemes of Authorization whose text stays the same: a key, or a name and a password.
LASTING = frozenset({b"bearer", b"basic", b"api-key", b"apikey", b"x-api-key", b"key"})
_TICKET = re.compile(rb"\s*(?:negotiate|ntlm|kerberos)\b", re.IGNORECASE)  # once shown, it holds for the connection
_BARE = re.compile(rb"[\w.~+=-]+")  # a key without a scheme
_MADE_ANEW = re.compile(  # tokens of Google, GitHub, Anthropic, Copilot and Bedrock; PASETO; AWS signatures
    rb"(?:^|[\s:=])(?:ya29\.|gh[osu]_|sk-ant-oat|tid=|hf_(?:oauth|jwt)_|bedrock-api-key-|v[1-4]\.(?:local|public)\.|AWS4)"
    rb"|^(?:x-amz-security-token|signature|signature-input|dpop|client-certificate|bound-connection):",
    re.MULTILINE,
)
# Only from the start of a run of these characters: otherwise each "-eyJ" in a long one starts another search.
_JWT = re.compile(rb"(?<![\w-])eyJ[\w-]*+\.([\w-]*+)\.")
_SAID = re.compile(rb"^(?:proxy-)?authorization:[ \t]*([^\r\n]*)", re.MULTILINE)


def rotates(secrets: bytes) -> bool:
    """Whether a credential is of a short-lived kind, and cannot identify a tenant."""
    return (
        bool(_MADE_ANEW.search(secrets))
        or any(map(_ends, _JWT.findall(secrets)))
        or not all(_lasts(shown) for shown in _SAID.findall(secrets))
    )


def _ends(claims: bytes) -> bool:
    """Whether a JWT ends, as an unreadable one is taken to; the API keys of some providers are JWTs without an end."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))
    except (binascii.Error, ValueError):
        return True
    return not isinstance(found, dict) or "exp" in found


def _lasts(shown: bytes) -> bool:
    """Whether the value of an Authorization is a lasting key."""
    words = shown.split(maxsplit=1)
    if len(words) < 2:
        return not words or (not _TICKET.match(shown) and _BARE.fullmatch(words[0]) is not None)
    return words[0].lower() in LASTING


def binds(headers: Sequence[Header]) -> bool:
    """Whether these headers authenticate the connection, not only the request."""
    return any(name.lower() == b"authorization" and _TICKET.match(value) for name, value in headers)


_ASKED_BY = frozenset({b"www-authenticate", b"proxy-authenticate"})


def challenges(headers: Sequence[Header]) -> bool:
    """Whether an answer challenges its caller alone, as Digest's nonce does: whoever else takes it up is refused."""
    said = [value.lower() for name, value in headers if name.lower() in _ASKED_BY]
    return any(b"nonce" in value or (value.split() or [b""])[0].strip(b",") not in LASTING for value in said)


# --- what they sign ----------------------------------------------------------------------------------------------

_SIGNERS = frozenset({b"authorization", b"signature", b"signature-input"})
# Names of headers with a digest or a signature, perhaps of the body: applications and gateways have their own names.
_DIGESTS = re.compile(
    rb"(?:^|[-_])(?:signature|signed|sig|hmac|mac|digest|checksum|hash|proof|sha\d*|md5|crc\w*)(?:$|[-_])",
    re.IGNORECASE,
)
_APART = re.compile(rb'[\s;,="()]+')  # between words of a list of headers, in any scheme


def covered(headers: Sequence[Header]) -> frozenset[bytes]:
    """Words (lower case) that include the names of all headers that a signature covers and needs."""
    shown = b"\n".join(value for name, value in headers if name.lower() in _SIGNERS)
    return frozenset(_APART.split(shown.lower()))


def covers_body(headers: Sequence[Header], secrets: bytes) -> bool:
    """Whether a request may be signed over its body, so that another body would be refused."""
    if any(_digests(name) for name, _ in headers):
        return True
    return b"AWS4" in secrets or not all(_lasts(shown) for shown in _SAID.findall(secrets))


@lru_cache_of_short(1024)
def _digests(name: bytes) -> bool:
    return _DIGESTS.search(name) is not None
