"""The key of an answer, as people give it: whole, or only its beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable

from askonce.core.keys import Key
from askonce.errors import AskonceError, UsageError
from askonce.store import Store, inventory

DIGITS = 64
SHORT = 12  # digits that a list shows: two of a billion answers begin with the same ones in one case of five hundred
_BEGINNING = re.compile(f"[0-9a-fA-F]{{1,{DIGITS}}}")


class NoSuchKey(AskonceError, LookupError):
    """No answer has this key."""


class AmbiguousKey(UsageError):
    """Several keys begin with these digits."""


async def whole(store: Store, words: Iterable[str]) -> list[Key]:
    """The keys that these words begin; NoSuchKey, AmbiguousKey, or UsageError for a word that begins no key at all.

    A whole key is taken as it is. A shorter one is looked for in the whole store, in one walk for all of them.
    """
    wanted = [checked(word) for word in words]
    found: dict[str, set[bytes]] = {word: set() for word in wanted if len(word) < DIGITS}
    if found:
        await _collect(store, found)
    return [Key.parse(word) if len(word) == DIGITS else Key(_only(word, found[word])) for word in wanted]


def checked(word: str) -> str:
    """A word that may begin a key, in small letters; UsageError for any other."""
    if not _BEGINNING.fullmatch(word):
        raise UsageError(
            f"{word!r} is not a key: give its {DIGITS} hex digits, or the first of them, as askonce ls shows"
        )
    return word.lower()


def is_whole(word: str) -> bool:
    """Whether a word is a whole key."""
    return len(word) == DIGITS and _BEGINNING.fullmatch(word) is not None


async def _collect(store: Store, found: dict[str, set[bytes]]) -> None:
    async for _record, head, _live in inventory.records(store):
        name = head.digest.hex()
        for word, digests in found.items():
            if name.startswith(word):
                digests.add(head.digest)


def _only(word: str, digests: set[bytes]) -> bytes:
    if not digests:
        raise NoSuchKey(f"no key begins with {word}: see askonce ls --full, and check --url and --prefix")
    if len(digests) > 1:
        raise AmbiguousKey(f"{len(digests)} keys begin with {word}: give more digits (askonce ls --full shows all)")
    return digests.pop()
