"""Keys: a ring of encryption keys. The first encrypts, and each decrypts what names it.

The digests of questions and the fields of generations are keyed too (`names`), so that the thief of a store cannot test
guesses. That secret must outlive a rotation, or every question would have a new name and the cache would be cold. So it
is a line of its own in a ring; without one it is derived from the last key, which is the oldest.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b, sha256
from typing import Any, NoReturn

from askonce.core import libraries
from askonce.core.providers.patterns import pattern
from askonce.core.wording import shown, spelled
from askonce.errors import ConfigError

SIZE = 32  # bytes of a key
PERSON = b"askonce 1"  # what the keys are derived for
CIPHERS = 256  # kept by a key, 2.5 KB each
NAMES = "names"  # the id of the secret that names are made with
_ID = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_HEX = pattern(r"[0-9a-fA-F]{64}")
MAKE = "make one with: askonce keys"


class KeyOf:
    """One key of a ring. Its `repr` does not show it."""

    __slots__ = ("_aead", "_ciphers", "_secret", "id")

    def __init__(self, name: str, secret: bytes) -> None:
        self.id = name.encode()
        self._aead = libraries.aes_gcm()
        self._secret = secret
        self._ciphers: dict[bytes, Any] = {}  # of the contexts used last: half of a hot answer's decryption is this

    def __repr__(self) -> str:
        return f"<key {self.id.decode()}>"

    def derived(self, context: bytes) -> bytes:
        """A key of 32 bytes for one context."""
        # Keyed BLAKE2b is a pseudorandom function, as HMAC is (RFC 7693), and takes 0.6 us where HMAC-SHA-256 takes 3.
        return blake2b(context, digest_size=SIZE, key=self._secret, person=PERSON).digest()

    def cipher(self, context: bytes) -> Any:
        """AES-256-GCM with the key of a context."""
        found = self._ciphers.get(context)
        if found is None:
            if len(self._ciphers) >= CIPHERS:
                self._ciphers.clear()
            derived = blake2b(context, digest_size=SIZE, key=self._secret, person=PERSON).digest()
            found = self._ciphers[context] = self._aead(derived)
        return found


class Names:
    """The secret that keys what a store shows: the digests of questions, the fields of labels, and those in notes."""

    __slots__ = ("_inner", "_outer", "labels", "notes")

    def __init__(self, secret: bytes) -> None:
        base = KeyOf(NAMES, secret)
        self.labels = base.derived(b"labels")
        self.notes = base.derived(b"notes")
        # HMAC-SHA-256 with the padded key hashed beforehand: hmac.digest does that at each call, 3 us instead of 1.
        padded = base.derived(b"digests").ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def __repr__(self) -> str:
        return "<Names>"

    def digest(self, question: bytes) -> bytes:
        """The keyed digest of a question, by its plain digest."""
        inner = self._inner.copy()
        inner.update(question)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Keys:
    """A ring of keys: ``{"2026-11": key, "2026-05": key}``, each 32 bytes, as bytes, base64 or hex.

    The first encrypts, all decrypt. `names`: the secret of 32 bytes that keys the digests (None: one derived
    from the last key). ConfigError for a ring that is empty, or that holds a key of another length or one key twice.
    """

    @spelled
    def __init__(
        self, keys: Mapping[str, bytes | str] | Sequence[tuple[str, bytes | str]], *, names: bytes | str | None = None
    ) -> None:
        secrets = [(check_id(name), _secret(name, key)) for name, key in _pairs(keys)]
        _check_distinct(secrets)
        oldest, secret = secrets[-1]
        self._by_id = {name.encode(): KeyOf(name, key) for name, key in secrets}
        self.first = next(iter(self._by_id.values()))
        self.names_from = oldest if names is None else ""  # the key from which the secret of the names is derived
        self.names_secret = derived_names(secret) if names is None else _secret(NAMES, names)
        self.names = Names(self.names_secret)

    @classmethod
    def parse(cls, text: str) -> Keys:
        """The ring in a text: ``id=key`` each, on lines of their own or separated by commas; ``#`` begins a comment.

        The key is base64 or hex; the id ``names`` is the secret for digests.
        """
        if not isinstance(text, str):
            raise ConfigError(f"a ring of keys is parsed from text, and not from a {type(text).__name__}: {MAKE}")
        lines = [line.partition("#")[0] for line in text.splitlines()]
        pairs = [_pair(part) for line in lines for part in re.split(r"[,\s]+", line) if part]
        named = [key for name, key in pairs if name == NAMES]
        if len(named) > 1:
            raise ConfigError(f"the ring of keys has {len(named)} lines {NAMES}=: leave one, the one in use")
        return cls([pair for pair in pairs if pair[0] != NAMES], names=named[0] if named else None)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, the first one first."""
        return tuple(name.decode() for name in self._by_id)

    def get(self, name: bytes) -> KeyOf | None:
        """The key of this id."""
        return self._by_id.get(name)

    def __repr__(self) -> str:
        return f"<Keys {', '.join(self.ids)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "keys are not pickled: give the cache $ASKONCE_KEYS, a file or a function, which another process reads too"
        )


def derived_names(secret: bytes) -> bytes:
    """The secret for digests of a ring that names none: of its last key."""
    return KeyOf(NAMES, secret).derived(b"names")


def _pairs(keys: Any) -> list[tuple[Any, Any]]:
    try:
        pairs = [(name, key) for name, key in (keys.items() if isinstance(keys, Mapping) else keys)]
    except (TypeError, ValueError):
        raise ConfigError(
            f"a ring of keys is a dict of ids and keys, and not a {type(keys).__name__}:"
            f" write {{'2026-11': key}}, and {MAKE}"
        ) from None
    if not pairs:
        raise ConfigError(f"the ring of keys is empty: {MAKE}")
    return pairs


def _pair(part: str) -> tuple[str, str]:
    name, equals, key = part.partition("=")
    if not equals:
        # Without the text: it may be a key.
        raise ConfigError(
            f"the ring of keys has {len(part)} characters without '=': write id=key, and {MAKE};"
            " or file:PATH for a file of keys"
        )
    return name, key


def check_id(name: object) -> str:
    """The id of a key; ConfigError if it is invalid."""
    if not isinstance(name, str) or not _ID.fullmatch(name) or name == NAMES:
        raise ConfigError(
            f"{shown(name)} is not the id of a key: write up to 32 letters, digits, dots and dashes, such as 2026-11,"
            f" and not {NAMES}"
        )
    return name


def _check_distinct(secrets: Iterable[tuple[str, bytes]]) -> None:
    by_id: dict[str, bytes] = {}
    by_secret: dict[bytes, str] = {}
    for name, secret in secrets:
        if name in by_id:
            raise ConfigError(f"two keys have the id {name}: give each its own, or nothing can tell which one to use")
        if secret in by_secret:
            raise ConfigError(f"the keys {by_secret[secret]} and {name} are equal: a rotation needs a new key, {MAKE}")
        by_id[name], by_secret[secret] = secret, name


def _secret(name: str, key: object) -> bytes:
    secret = _decoded(key) if isinstance(key, str) else bytes(key) if isinstance(key, (bytes, bytearray)) else None
    if secret is None:
        raise ConfigError(f"the key {name} is neither base64 nor hex nor bytes: {MAKE}")
    if len(secret) != SIZE:
        raise ConfigError(f"the key {name} has {len(secret)} bytes, and AES-256 needs {SIZE}: {MAKE}")
    return secret


def _decoded(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    plain = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
