"""What is a secret: by the name that holds it, by its look, or because it was seen before.

Used for everything written to a file that other people read. A name is split into words in any style
(``CF-Access-Client-Secret``, ``apiKey``, ``X_AUTH_TOKEN``). The rules lean towards hiding: hiding too much costs a
reader a moment, hiding too little costs a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

from askonce.core.labels import SCHEME

# --- names -------------------------------------------------------------------------------------------------------

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_STRONG = re.compile(  # anywhere in a name, also joined to other words
    "authoriz|authoris|authentic|apikey|apitoken|secret(?!ar)|passw|passphrase|passcode|credential|bearer|privatekey|accesskey|"
    "accesstoken|authtoken|refreshtoken|sessiontoken|securitytoken|idtoken|csrftoken|cookie|connectionstring|"
    "subscriptionkey|accountkey|signingkey|encryptionkey|sharedkey|masterkey|servicekey|licensekey|functionskey|"
    "accountsas|sharedaccess|sessionid|sessionkey|clientkey|authkey|virtualkey|storagekey|querykey|adminkey|secretkey"
)
_WEAK = frozenset(
    {
        *("auth", "oauth", "jwt", "pwd", "pw", "pass", "creds", "cred", "sid", "otp", "totp", "pin", "pat", "psk"),
        *("csrf", "xsrf", "sas", "dsn", "session", "sessions", "assertion", "nonce", "hmac"),
    }
)
# Words before "token" that make it a piece of text, or a place in a list.
_OF_TEXT = frozenset(
    {
        *("page", "next", "previous", "prev", "continuation", "sync", "eos", "bos", "pad", "unk", "mask", "sep", "cls"),
        *("stop", "start", "end", "special", "max", "min", "first", "last", "num", "per", "image", "audio", "video"),
        *("text", "thinking", "reasoning", "budget", "prompt", "completion", "input", "output", "cached", "total"),
        *("top", "by", "context", "new", "bad", "allowed", "suppress", "forced", "truncate", "add", "skip", "ignore"),
    }
)
# A name that ends in one of these describes a secret and holds none.
_ABOUT = frozenset(
    {
        *("type", "types", "method", "methods", "mode", "scheme", "schemes", "provider", "kind", "format", "required"),
        *("enabled", "policy", "budget", "usage", "count", "limit", "length", "expiry", "ttl", "strategy", "details"),
        *("ids", "counts", "limits", "healing", "probs", "logprobs", "timeout"),
    }
)


@lru_cache(maxsize=4096)
def secret_name(name: str) -> bool:
    """Whether a value of this name is taken for a secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _ABOUT:
        return False
    return credential_name(name) or not _WEAK.isdisjoint(words) or _token(words)


@lru_cache(maxsize=4096)
def credential_name(name: str) -> bool:
    """Whether a value of this name is certainly a secret, also in an answer, where a reader may need what is hidden."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(words) and words[-1] not in _ABOUT and bool(_STRONG.search("".join(words)))


def _token(words: list[str]) -> bool:
    return any(_is_token(word, words[at - 1] if at else "") for at, word in enumerate(words))


def _is_token(word: str, before: str) -> bool:
    if word == "tokens":
        return bool(before) and before not in _OF_TEXT  # a number of tokens, or the tokens of a text
    return word.endswith("token") and (word.removesuffix("token") or before) not in _OF_TEXT


# --- values ------------------------------------------------------------------------------------------------------


def short_digest(value: str) -> str:
    """The text that replaces a value: it shows a difference and does not confirm a guess."""
    return f"#{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


# --- the same secret elsewhere -----------------------------------------------------------------------------------

PLAIN = 16  # letters; a shorter word of small letters may be a plain word
SHORT = 8


def parts(value: str) -> Iterator[str]:
    """A secret, and all parts of it that may be secrets by themselves: without its scheme, decoded, of each cookie."""
    yield value
    found = SCHEME.fullmatch(value.strip())
    inner = found[1] if found else value
    yield inner
    user, colon, password = _decoded(inner).partition(":")
    if colon:
        yield from (f"{user}:{password}", password)
    for piece in re.split(r"[;,]\s*", value):
        held = piece.partition("=")[2] if "=" in piece.rstrip("=") else piece
        yield held
        yield from re.split(r"[.\s]+", held)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def traces(values: Iterable[str]) -> list[str]:
    """Every spelling of these secrets, the longest first, without plain short words."""
    found = {way for value in values for part in parts(value) if telling(part) for way in _ways(part)}
    return sorted(found, key=len, reverse=True)


def telling(value: str) -> bool:
    """Whether a text is unlikely to hold this value by chance."""
    plain = value.isascii() and value.isalpha() and value.islower()
    return len(value) >= (PLAIN if plain else SHORT)


def _ways(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogatepass")
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(raw, safe="")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
