"""The store's contract: what holds entries, leases and generations, and wakes those who wait.

Every method is ``async def``. A store made for sync use never suspends in one (it blocks), so that the protocol above,
written once, can be finished by a single ``send(None)``. Each verb is atomic and idempotent under repetition by the
same (id, order), none has a default implementation, and each decides by the functions of `core.lease` or their twin,
with the store's own clock. Trouble is always a StoreTrouble; anything else that escapes is a bug, and is not hidden.

A Link is the store's other half: the one connection that the background thread of a process owns, on which leases are
renewed, notices to waiters arrive, and a store in trouble is probed. Only the background thread calls it, but for
`wake`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Generations
from askonce.core.model import Head, Lifetime, Sealed
from askonce.core.tape import Ending, Notice
from askonce.errors import Portable
from askonce.events import printable

TIMEOUT = 0.2  # s: the most that trouble in the store may cost a lookup
CONNECT_TIMEOUT = 1.0  # s
LOG_LIFE = 15 * 60_000  # ms that the log of a stream under way is kept, from its first byte
TAPE_LIFE = 60_000  # ms that a finished flight's tape is kept for those who were told to follow it
PARTITIONS = 64  # a constant of the key format, not a setting: two clients must never disagree about it


At = Literal["command", "connecting", "key"]


class StoreTrouble(Portable):
    """The store could not do it. `kind` is a status detail: a closed list, each with what an operator should look at.

    ``store-refused`` (nobody listens), ``store-timeout``, ``store-closed`` (the connection broke), ``store-denied``
    (rights, password), ``store-readonly``, ``store-full`` (memory, disk), ``store-foreign`` (another program's keys
    under our names), ``store-corrupt``, ``store-loading``, ``store-error`` (anything else it said). ``exit`` where
    Python ends, and the store needs what is gone by then.

    `at` says where it was met: by a ``command``, by ``connecting``, or at one ``key``, which says nothing of others.
    `about` narrows a kind down for whoever looks for the remedy: ``tls``, or "".
    """

    def __init__(self, kind: str, message: str = "", at: At = "command", about: str = "") -> None:
        super().__init__(printable(message or kind))
        self.kind = kind
        self.at: At = at
        self.about = about


class Look(NamedTuple):
    """What plain reads found: the entry's bytes, the generations (`moved` for the fields asked for), now in us.

    `head`: the entry's, where these very bytes were verified (core.model.read_entry) when they were read before.
    """

    entry: bytes | None
    generations: Generations
    now_us: int
    head: Head | None = None


class Record(NamedTuple):
    """An entry met while walking through a store: its name there, its header and extensions, its size in bytes."""

    name: bytes
    header: bytes
    size: int


class Held(NamedTuple):
    """A lease as its holder names it, for a renewal."""

    key: Key
    id: bytes
    order: int


Works = Sequence[Callable[[Any], Coroutine[Any, Any, Any]]]  # each is given a Store


class Store(Protocol):
    """Where entries, leases and generations of one prefix live."""

    address: str  # without a password; stores of one process with one address share a background thread
    kind: str  # "memory", "sqlite", "redis"

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        """The entry and the generations by plain reads, in one round trip; writes nothing."""
        ...

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Decide by core.lease.claim."""
        ...

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Store an answer: ``stored``, ``unkept``, ``moved`` or ``lost`` (core.lease.fill); wakes the waiters.

        Where core.lease.fill says so, the tape gets a SHARED ending with the detail and the body, whatever the verdict;
        but a log that is there already says all that, and stays.
        """
        ...

    async def release(
        self, key: Key, flight: bytes, order: int, ending: Ending, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Give a lease back (core.lease.release), write the ending to the tape if needed, wake the waiters.

        An `order` of 0 stands for any: a claim of this id whose reply was lost.
        """
        ...

    async def extend(self, key: Key, flight: bytes, order: int, hot_ttl: int, cap: int) -> bool:
        """Slide an entry (core.lease.extend), ms; False when there was nothing to lengthen."""
        ...

    async def count(self, key: Key, hits: int, window: int) -> int:
        """Add hits to a counter of the key's own (never its entry): the hits within about the last `window` ms.

        Two halves a window; what is returned covers the running half and the one before, so between one half and one
        whole window. Nothing is left behind when a window has passed.
        """
        ...

    async def entry(self, key: Key) -> bytes | None:
        """The entry's bytes alone."""
        ...

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        """The log of one flight from byte `start` on, or None when there is no such log."""
        ...

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        """Write `data` at `offset` of a flight's log, and SAY what is new of it; how long the log is now.

        What the log has already is not written again, so repeating is safe; where it ends before `offset` nothing is
        written. Fenced by the log's own name and length, not by the lease: an invalidation, or a successor, must not
        cut off those who follow. A new log lives LOG_LIFE; appending does not lengthen that.
        """
        ...

    async def forget(self, key: Key) -> None:
        """Delete the entries and leases of a question in all its forms: no flight under way may fill them."""
        ...

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        """Move the generations of every partition; PartialInvalidation when not all of them answered."""
        ...

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        """About `count` entries of this prefix, from cursor b"" on, and the cursor of the next; b"" at the end.

        Every entry that is there from the first step to the last is met, some perhaps twice. Gentle: a step is short.
        """
        ...

    async def standing(self) -> Sequence[Generations]:
        """The generations of every partition, with all that moved; those of an entry: [digest[0] % how many]."""
        ...

    async def discard(self, seen: Sequence[Record]) -> int:
        """Delete entries if they are still those seen (fill id and order); how many were."""
        ...

    async def raze(self, count: int) -> int:
        """Delete about `count` of whatever this prefix has, generations last; 0 when nothing is left of it."""
        ...

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        """What each of `works` does with the store that it is given, at the price of about one of them.

        Their results in their order, or in place of one the StoreTrouble that it met. Each of them is as atomic as it
        is alone, and no more. `reads`: none of them writes. Not for thousands: a batch has the time of one command.
        """
        ...

    def connected(self) -> bool:
        """Whether a command of this caller (this thread, this loop) needs no new connection."""
        ...

    def reconnect(self) -> None:
        """Make connections anew before they are used again: they may lead to what is no primary any more."""
        ...

    def link(self) -> Link:
        """A new link, for the background thread alone."""
        ...

    def blocking(self) -> Store:
        """This place for the background thread: a store that never suspends, and that the thread will close."""
        ...

    def after_fork(self) -> None:
        """Let go of what belongs to the parent (connections, locks) without disturbing it."""
        ...

    async def close(self) -> None:
        """Close what this store opened; a client handed in by the user stays open."""
        ...


class Link(Protocol):
    """The background thread's own connection to a store. Methods raise StoreTrouble; the next call starts afresh.

    A link proves its connection by itself, within `poll`: one that nothing is heard of, or that leads to no primary any
    more, is trouble, and is replaced.
    """

    def subscribe(self, key: Key) -> None:
        """Ask for the notices about a key; `poll` reports when it is in force (the key among the second part)."""
        ...

    def unsubscribe(self, key: Key) -> None:
        """No more notices about a key."""
        ...

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        """Wait at most `timeout` s, or until `wake`; (notices that came, keys whose subscription came into force).

        When the connection was lost and made anew, every key of it is reported in force once more: whoever waits
        looks again.
        """
        ...

    def wake(self) -> None:
        """Make a `poll` under way return at once. Any thread may call it, and a finaliser: it takes no lock."""
        ...

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        """``ok``, ``want`` or ``lost`` for each (core.lease.renew); heartbeat in ms."""
        ...

    def say(self, key: Key, notice: Notice) -> None:
        """Send a notice to those that wait for a key."""
        ...

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        """Send many notices, at the price of about one."""
        ...

    def probe(self) -> None:
        """One cheap write-free round trip; StoreTrouble when the store is still in trouble."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


Clock = Callable[[], int]


def machine_clock() -> int:
    """Microseconds since 1970, as the machine believes."""
    return time.time_ns() // 1000
