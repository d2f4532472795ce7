"""The key of an answer, as people give it to a command: whole, or only its beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable

from askonce.core.keys import Key
from askonce.errors import AskonceError, UsageError
from askonce.runtime.drive import drive
from askonce.store import Store, inventory

DIGITS = 64
SHORT = 12  # digits that `ls` shows: two of a billion answers begin with the same ones in one case of five hundred
_BEGINNING = re.compile(f"[0-9a-fA-F]{{1,{DIGITS}}}")


def whole(store: Store, words: Iterable[str]) -> list[Key]:
    """The keys that these words begin. UsageError for a word that is no beginning, or begins several keys.

    A whole key is taken as it is. A shorter one is looked for in the whole store, in one walk for all of them.
    """
    wanted = [checked(word) for word in words]
    found: dict[str, set[bytes]] = {word: set() for word in wanted if len(word) < DIGITS}
    if found:
        drive(_collect(store, found))
    return [Key.parse(word) if len(word) == DIGITS else Key(_only(word, found[word])) for word in wanted]


def checked(word: str) -> str:
    """A word that may begin a key, in small letters; UsageError for any other."""
    if not _BEGINNING.fullmatch(word):
        raise UsageError(
            f"{word!r} is not a key: give its {DIGITS} hex digits, or the first of them, as askonce ls shows"
        )
    return word.lower()


async def _collect(store: Store, found: dict[str, set[bytes]]) -> None:
    async for _record, head, _live in inventory.records(store):
        name = head.digest.hex()
        for word, digests in found.items():
            if name.startswith(word):
                digests.add(head.digest)


def _only(word: str, digests: set[bytes]) -> bytes:
    if not digests:
        raise AskonceError(f"no key begins with {word}: see askonce ls --full, and check --url and --prefix")
    if len(digests) > 1:
        raise UsageError(f"{len(digests)} keys begin with {word}: give more digits (askonce ls --full shows all)")
    return digests.pop()
