"""The scripts, each after what it uses of the one prelude, and how they are called: by hash, or by text if the hash is
unknown.

They are sent as text, not loaded beforehand: a server forgets them at every restart and failover, so a call by text is
needed anyway. It costs one round trip in the life of a server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

import hiredis

from askonce.core.keys import Key
from askonce.core.lease import Ask
from askonce.core.model import pack_fields
from askonce.core.tape import Ending, end_frame
from askonce.store.redis.prelude import used

Notice = bytes | str | int


def pack(*notices: Notice) -> bytes:
    """One command, as it is sent."""
    # Python converts the integers: if a signal comes during that, hiredis goes on with a text that was not made.
    texts = tuple([b"%d" % notice if type(notice) is int else notice for notice in notices])
    packed: bytes = hiredis.pack_command(texts)  # type: ignore[arg-type]
    return packed


TIME = pack(b"TIME")


class Script:
    """One script of the folder `lua`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: tuple[bytes, ...], args: tuple[Notice, ...], *, whole: bool = False) -> bytes:
        """The packed call; `whole` for a server that answered NOSCRIPT."""
        return pack(*(("EVAL", self.text) if whole else ("EVALSHA", self.sha)), len(keys), *keys, *args)


class Scripts:
    """All scripts; read from disk when a store is made, not when a module is imported."""

    def __init__(self, prelude: str | None = None, publish: str = "publish") -> None:
        folder = files("askonce.store.redis") / "lua"
        before = (folder / f"{publish}.lua").read_text("utf-8")
        before += prelude or (folder / "prelude.lua").read_text("utf-8")

        def script(name: str) -> Script:
            text = (folder / f"{name}.lua").read_text("utf-8")
            return Script(f"{used(before, text)}\n{text}")

        self.sharded = publish == "spublish"
        self.claim = script("claim")
        self.renew = script("renew")
        self.fill = script("fill")
        self.release = script("release")
        self.extend = script("extend")
        self.count = script("count")
        self.forget = script("forget")
        self.invalidate = script("invalidate")
        self.discard = script("discard")
        self.append = script("append")
        self.tally = script("tally")
        self.note = script("note")
        self.notes = script("notes")


@cache
def shipped() -> Scripts:
    """The scripts as shipped, read once: thousands of stores share them."""
    return Scripts()


@cache
def sharded() -> Scripts:
    """The scripts for a Cluster, where a notice goes to one primary only."""
    return Scripts(publish="spublish")


def claim_args(key: Key, ask: Ask, channel: bytes) -> tuple[Notice, ...]:
    """The arguments of `claim`, besides its keys."""
    mine = (key.digest, key.form, ask.id, ask.candidate, pack_fields(ask.fields))
    return (*mine, *ask.limits, ask.after, ask.early, ask.heartbeat, channel)


def release_args(
    key: Key, flight: bytes, order: int, ending: Ending, failed: bool, hint: int, channel: bytes
) -> tuple[Notice, ...]:
    """The arguments of `release`, besides its keys; the store and its link both call it."""
    return (key.digest, key.form, flight, order, int(failed), hint, end_frame(ending), ending.outcome, channel)
