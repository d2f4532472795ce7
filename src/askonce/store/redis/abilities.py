"""What a server can do, by trying it: services of the Redis protocol differ in commands, rights and defaults.

Each trial is a conversation on a connection of its own, made as a store makes its connections, about names of the
prefix that is given. It ends with a HELLO, whose reply is a map that no other command has. So a command that is
answered by pushes, by an error, or not at all, confuses nothing. A trial deletes what it wrote, which would otherwise
expire within a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import CONNECT_TIMEOUT, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import HELLO
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import NOTHING, PUSH, Connection
from askonce.store.redis.scripts import Script, pack
from askonce.store.redis.trouble import Refusal

BRIEF = 1000  # ms that what a trial wrote may live
WORDS_MOST = 100  # characters of a refusal that are told


class Ability(NamedTuple):
    """Whether a server can do something; None if that cannot be told. `why`: what it said instead."""

    can: bool | None
    why: str = ""


class Said(NamedTuple):
    """What came of a conversation: the replies, in their order, the pushes, and the commands that nothing came of."""

    replies: list[Any]
    pushes: list[list[Any]]
    unanswered: list[bytes]

    def refusals(self) -> list[Refusal]:
        """The error replies."""
        return [reply for reply in self.replies if type(reply) is Refusal]

    def pushed(self, kind: bytes) -> bool:
        """Whether a push of this kind came."""
        return any(push[0] == kind for push in self.pushes)


def converse(address: RedisAddress, *commands: bytes) -> Said:
    """Send commands one after another, each after the replies to the one before; StoreTrouble if that fails."""
    connection = open_connection(address)
    until = time.monotonic() + CONNECT_TIMEOUT
    said = Said([], [], [])
    try:
        for command in commands:
            before = len(said.replies) + len(said.pushes)
            connection.sock.sendall(command + HELLO)
            _read(connection, until, said)
            if len(said.replies) + len(said.pushes) == before:
                said.unanswered.append(command)
    except OSError as error:
        raise StoreTrouble("store-closed", f"the store closed the connection: {error}") from None
    finally:
        connection.close()
    return said


def _read(connection: Connection, until: float, said: Said) -> None:
    while True:
        while (reply := connection.gets()) is not NOTHING:
            if type(reply) is PUSH:
                said.pushes.append(reply)
            elif isinstance(reply, dict) and b"proto" in reply:
                return
            else:
                said.replies.append(reply)
        connection.listen(until)


def _judged(said: Said, *, well: bool, missing: str) -> Ability:
    """Can, if all went well; else cannot, by the first refusal, or for what is `missing`."""
    if well:
        return Ability(True)
    if said.unanswered:
        return Ability(None, "no reply came")
    refusal = next(iter(said.refusals()), None)
    if refusal is not None and refusal.redirect:
        return Ability(None, f"it is a node of a Cluster ({refusal})")
    return Ability(False, told(refusal) if refusal is not None else missing)


def told(refusal: Refusal) -> str:
    """A refusal without the arguments that some servers repeat in it."""
    return str(refusal).partition(", with args")[0][:WORDS_MOST]


def runs_scripts(address: RedisAddress, key: bytes) -> Ability:
    """Whether it runs scripts, by their text and by their hash."""
    script = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) and redis.call('GET', KEYS[1])")
    calls = [script.call((key,), (b"mine", BRIEF), whole=whole) for whole in (True, False)]
    said = converse(address, *calls, pack(b"DEL", key))
    return _judged(said, well=said.replies[:2] == [b"mine", b"mine"], missing=f"it returned {said.replies!r}"[:100])


def loads_scripts(address: RedisAddress, _key: bytes) -> Ability:
    """Whether SCRIPT LOAD and SCRIPT EXISTS work."""
    script = Script("return 1")
    said = converse(address, pack(b"SCRIPT", b"LOAD", script.text), pack(b"SCRIPT", b"EXISTS", script.sha))
    well = not said.refusals() and said.replies[-1:] == [[1]]
    return _judged(said, well=well, missing="it does not know it then")


def reads_undeclared(address: RedisAddress, key: bytes) -> Ability:
    """Whether a script may use a key that its caller did not name."""
    said = converse(address, Script("return redis.call('GET', ARGV[1])").call((), (key,), whole=True))
    return _judged(said, well=not said.refusals(), missing="")


def publishes(address: RedisAddress, channel: bytes) -> Ability:
    """Whether a script's messages reach subscribers."""
    return _published(address, channel, b"")


def publishes_sharded(address: RedisAddress, channel: bytes) -> Ability:
    """The same for sharded channels, which a Cluster needs."""
    return _published(address, channel, b"S")


def _published(address: RedisAddress, channel: bytes, sharded: bytes) -> Ability:
    script = Script(f"return redis.call('{sharded.decode()}PUBLISH', KEYS[1], ARGV[1])")
    publish = script.call((channel,), (b"word",), whole=True)
    said = converse(address, pack(sharded + b"SUBSCRIBE", channel), publish)
    return _judged(said, well=said.pushed(sharded.lower() + b"message"), missing="the message did not arrive")


def tracks(address: RedisAddress, key: bytes) -> Ability:
    """Whether client tracking (OPTIN) works: whether a connection is told that a key which it asked for has changed."""
    tracking = pack(b"CLIENT", b"TRACKING", b"ON", b"OPTIN")
    reading = pack(b"CLIENT", b"CACHING", b"YES") + pack(b"GET", key)
    said = converse(address, tracking, reading, pack(b"SET", key, b"", b"PX", BRIEF), pack(b"DEL", key))
    return _judged(said, well=said.pushed(b"invalidate"), missing="the notice of a change did not arrive")


Trial = Callable[[RedisAddress, bytes], Ability]
KEYED: dict[str, Trial] = {
    "scripts": runs_scripts,
    "loading": loads_scripts,
    "undeclared": reads_undeclared,
    "tracking": tracks,
}
CHANNELED: dict[str, Trial] = {"notices": publishes, "sharded": publishes_sharded}


def abilities(address: RedisAddress, key: bytes, channel: bytes) -> dict[str, Ability]:
    """Everything that is tried, by names that nothing else uses; StoreTrouble only if the server cannot be reached."""
    trials = [(name, trial, key) for name, trial in KEYED.items()]
    trials += [(name, trial, channel) for name, trial in CHANNELED.items()]
    return {name: _tried(trial, address, about) for name, trial, about in trials}


def _tried(trial: Trial, address: RedisAddress, about: bytes) -> Ability:
    try:
        return trial(address, about)
    except StoreTrouble as trouble:
        if trouble.at == "connecting":
            raise
        return Ability(None, str(trouble))  # it hung up, or said nothing: some proxies do, for a command they forbid


def first_reply(address: RedisAddress, *words: bytes) -> Any:
    """The reply to one command, a Refusal among them; None if it hung up or said nothing."""
    try:
        replies: Sequence[Any] = converse(address, pack(*words)).replies
    except StoreTrouble:
        return None
    return replies[0] if replies else None
