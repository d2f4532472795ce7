"""The scripts, each put behind the one prelude, and how they are called: by hash, and by text where it is not known.

They are sent as text and not loaded beforehand: a server forgets them at every restart and failover, so the way back
must be there anyhow, and costs one round trip in the life of a server.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import hiredis

from askonce.core.keys import Key
from askonce.core.tape import Ending, end_frame
from askonce.store.names import Names

Word = bytes | str | int


def pack(*words: Word) -> bytes:
    """One command, as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]
    return packed


class Script:
    """One script of the folder `lua`."""

    def __init__(self, name: str, prelude: str | None = None) -> None:
        folder = files("askonce.store") / "lua"
        prelude = prelude or (folder / "prelude.lua").read_text("utf-8")
        self.text = prelude + "\n" + (folder / f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: tuple[bytes, ...], args: tuple[Word, ...], *, whole: bool = False) -> bytes:
        """The packed call; `whole` for a server that answered NOSCRIPT."""
        return pack(*(("EVAL", self.text) if whole else ("EVALSHA", self.sha)), len(keys), *keys, *args)


class Scripts:
    """All of them; read from disk when a store is made, not when a module is imported."""

    def __init__(self, prelude: str | None = None) -> None:
        self.claim = Script("claim", prelude)
        self.renew = Script("renew", prelude)
        self.fill = Script("fill", prelude)
        self.release = Script("release", prelude)
        self.extend = Script("extend", prelude)
        self.count = Script("count", prelude)
        self.forget = Script("forget", prelude)
        self.invalidate = Script("invalidate", prelude)


def release_call(
    names: Names, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
) -> tuple[tuple[bytes, ...], tuple[Word, ...]]:
    """Keys and arguments of the script `release`, which both the store and its link call."""
    keys = (*names.of(key), names.tape(key, flight, order))
    given = (key.digest, key.form, flight, order, int(failed), hint)
    return keys, (*given, end_frame(ending), ending.outcome, names.channel(key))
