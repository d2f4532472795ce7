"""The refusals of a Redis, and the system's connection errors, as kinds of StoreTrouble.

Every word is looked for anywhere in a reply, not only at its start: an error inside a script comes wrapped, and each
server wraps it differently.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Any, TypeVar

from redis import exceptions as said

from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import At, StoreTrouble

T = TypeVar("T")
_KINDS = {
    "NOAUTH": "store-denied",
    "WRONGPASS": "store-denied",
    "NOPERM": "store-denied",
    "ACL failure": "store-denied",  # within a script
    "has no permissions": "store-denied",
    "READONLY": "store-readonly",
    "MASTERDOWN": "store-readonly",  # a replica that lost its primary
    "NOREPLICAS": "store-readonly",  # min-replicas-to-write is not met
    "UNBLOCKED": "store-readonly",  # it became a replica while a command waited
    "OOM": "store-full",
    "MISCONF": "store-full",  # it cannot persist, so it refuses writes: usually a full disk
    "LOADING": "store-loading",
    "WRONGTYPE": "store-foreign",
    "BUSY": "store-timeout",  # it runs somebody's script, and nothing else
    "max number of clients": "store-refused",
    "CLUSTERDOWN": "store-down",  # no primary has the key's slot
    "MOVED": "store-mismatch",  # to a client of a single server
    "ASK": "store-mismatch",
}
_WORDS = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in _KINDS))
# After these a new connection may work: with new credentials, or with a name that leads to the new primary.
_STALE = re.compile(r"\b(NOAUTH|READONLY|MASTERDOWN|LOADING|UNBLOCKED)\b")
_REDIRECT = re.compile(r"(MOVED|ASK) \d+ (\S*):(\d+)")
# What a slot of a Cluster says while it is being moved. The last is said within scripts.
_MOVING = re.compile(r"\bTRYAGAIN\b|attempted to access a non local key")


class Redirect(NamedTuple):
    """Where a node of a Cluster sends its client; ASK: for this one command. No `host`: the same one."""

    kind: str
    host: str
    port: int


_UNSUPPORTED = re.compile(
    r"unknown (sub)?command|\bun(supported|available)\b|\bnot (supported|allowed|permitted)\b", re.IGNORECASE
)


class Refusal(Exception):
    """An error reply. It is one of a batch's replies, so it is a value, and is never raised."""

    @property
    def noscript(self) -> bool:
        """Whether the server does not know a script by its hash."""
        return str(self).startswith("NOSCRIPT")

    @property
    def denied(self) -> bool:
        """Whether this user may not do it."""
        return _kind(str(self)) == "store-denied"

    @property
    def unsupported(self) -> bool:
        """Whether the server does not know the command, or forbids it to everybody, as managed services do."""
        return _UNSUPPORTED.search(str(self)) is not None

    @property
    def stale(self) -> bool:
        """Whether the connection should not be used again."""
        # Not only at the start: an error inside a script comes wrapped.
        return _STALE.search(str(self)) is not None

    @property
    def redirect(self) -> Redirect | None:
        """Where the command should be sent, if it is to be sent elsewhere."""
        found = _REDIRECT.match(str(self))
        return Redirect(found[1], found[2], int(found[3])) if found else None

    @property
    def moving(self) -> bool:
        """Whether the command's keys are at two nodes, because their slot is being moved."""
        return _MOVING.search(str(self)) is not None

    @property
    def down(self) -> bool:
        """Whether no primary has the key's slot, or too few of the cluster's servers answer."""
        return str(self).startswith("CLUSTERDOWN")

    @property
    def strays(self) -> bool:
        """Whether another node, or another moment, may do it."""
        text = str(self)
        return _REDIRECT.match(text) is not None or _MOVING.search(text) is not None or text.startswith("READONLY")

    def trouble(self) -> StoreTrouble:
        """The same as a StoreTrouble, for the store's callers."""
        kind = _kind(str(self))
        if kind == "store-mismatch":
            return StoreTrouble(kind, f"the server is a node of a Cluster ({self}): write redis+cluster://host:port")
        at: At = "key" if kind == "store-foreign" else "command"
        return StoreTrouble(kind, f"the store said: {self}", at, "unsupported" if self.unsupported else "")


def unrefused(reply: Any) -> Any:
    """The reply itself; StoreTrouble if it is a Refusal."""
    if type(reply) is Refusal:
        raise reply.trouble()
    return reply


def untroubled(said: Iterable[T | StoreTrouble]) -> list[T]:
    """What was said to several commands or verbs that ran together; StoreTrouble if one of them met that."""
    found = []
    for one in said:
        if isinstance(one, StoreTrouble):
            raise one
        found.append(one)
    return found


def read_time(reply: Any) -> int:
    """The server's clock in the reply to TIME, ms; StoreTrouble for a refusal, and for what is no time."""
    try:
        seconds, micros = unrefused(reply)
        return int(seconds) * 1000 + int(micros) // 1000
    except (TypeError, ValueError):
        raise garbled(repr(reply)[:80]) from None


def _kind(text: str) -> str:
    found = _WORDS.search(text)
    return _KINDS[found.group()] if found else "store-error"


def connecting(error: BaseException) -> StoreTrouble:
    """Why a connection was not made."""
    text = str(error) or type(error).__name__
    if "unknown command" in text or "NOPROTO" in text:
        text += " (askonce needs RESP3, so Redis 6 or newer, or Valkey)"
    about = "tls" if isinstance(_cause(error), ssl.SSLError) else ""
    return StoreTrouble(_connect_kind(error), f"no connection to the store: {text}", "connecting", about)


def _cause(error: BaseException) -> BaseException | None:
    # redis-py wraps the system's error; the wrapped error says more than redis-py's text.
    return error.__cause__ or error.__context__


def _connect_kind(error: BaseException) -> str:
    cause = _cause(error)
    if isinstance(error, TimeoutError | said.TimeoutError) or isinstance(cause, TimeoutError):
        return "store-timeout"
    if isinstance(error, said.AuthenticationError) or isinstance(cause, ssl.SSLError | PermissionError):
        return "store-denied"
    if isinstance(error, said.BusyLoadingError):
        return "store-loading"
    kind = _kind(str(error))
    if kind == "store-error" and isinstance(error, OSError | said.ConnectionError):
        return "store-refused" if isinstance(cause or error, OSError) else "store-closed"
    return kind


def closed(error: object = "") -> StoreTrouble:
    """The other end closed the connection."""
    return StoreTrouble("store-closed", f"the store closed the connection {error}".rstrip())


def over() -> StoreTrouble:
    """The store was closed here."""
    return StoreTrouble("store-closed", "the store was closed by its user")


def silent(seconds: float) -> StoreTrouble:
    """No reply came in time."""
    return StoreTrouble("store-timeout", f"the store did not answer within {seconds} s")


def unconnected(seconds: float) -> StoreTrouble:
    """No connection was made in time."""
    return StoreTrouble("store-timeout", f"no connection to the store within {seconds} s", "connecting")


def single(place: str, said: object) -> StoreTrouble:
    """A single server where a node of a Cluster should be."""
    about = f"{place} is a single server, and no node of a Cluster ({said}): write redis://host:port/0"
    return StoreTrouble("store-mismatch", about, "connecting", "cluster")


def moving(said: object) -> StoreTrouble:
    """The slot of a key is being moved, and this command cannot be run meanwhile."""
    return StoreTrouble("store-moving", f"the key's slot is being moved between primaries ({said})", "key")


def uncovered() -> StoreTrouble:
    """No primary has the slot of a key."""
    return StoreTrouble("store-down", "no primary of the cluster has the key's slot: see CLUSTER INFO", "key")


def foreign() -> StoreTrouble:
    """The generations are not askonce's."""
    return StoreTrouble("store-foreign", "another program wrote the data under the name of the generations")


def garbled(what: object) -> StoreTrouble:
    """A reply that does not fit the command: the connection is out of step, or leads to no Redis."""
    return StoreTrouble("store-error", f"the store sent a reply that does not fit the command: {what}")
