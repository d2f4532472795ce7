"""The store's contract. A store holds entries, leases and generations, and wakes waiting callers.

Every method is ``async def``. A store made for sync use never suspends in one (it blocks), so a single ``send(None)``
finishes the protocol above. Each verb is atomic, and may be repeated with the same (id, order) without further effect.
No verb has a default implementation. Each decides by the functions of `core.lease` or their twin, with the store's own
clock. Trouble is always a StoreTrouble; any other exception is a bug, and is not hidden.

A Link is the other half of a store: one connection, owned by a process's background thread. It renews leases, receives
the notices to waiters, and notices when the store is in trouble. Only the background thread calls it, except for
`wake`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from typing import Any, Literal, Protocol

from askonce.core.hot_keys import Visits
from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Claim, Generations
from askonce.core.model import Head, Lifetime, Sealed
from askonce.core.near import Kept
from askonce.core.notes import RING, Note, Noted
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.tallies import Push, Tallied
from askonce.core.tape import Ending, Notice
from askonce.errors import Portable
from askonce.events import printable

TIMEOUT = 0.2  # s: the most that store trouble may cost a lookup, but for one that waits for another's call
CONNECT_TIMEOUT = 1.0  # s
STEP_BYTES = 2**21  # of entries that a walk deletes at once, about: SQLite takes a microsecond for each hundred
LOG_LIFE = 15 * 60_000  # ms that the log of a stream under way is kept, from its first byte
TAPE_LIFE = 60_000  # ms that a finished flight's tape is kept for its followers
PARTITIONS = 64  # a constant of the key format, not a setting: two clients must never disagree about it


At = Literal["command", "connecting", "key"]


class StoreTrouble(Portable):
    """The store could not do it. `kind` is a status detail, of a closed list; each says where an operator should look.

    ``store-refused`` (nothing listens), ``store-timeout``, ``store-closed`` (the connection broke), ``store-denied``
    (rights, password), ``store-readonly``, ``store-full`` (memory, disk), ``store-foreign`` (another program's keys
    under our names), ``store-corrupt``, ``store-loading``, ``store-down`` (no primary of a Cluster has the
    key), ``store-moving`` (its slot is being moved), ``store-mismatch`` (a URL of a single server for a Cluster, or the
    other way round), ``store-error`` (any other refusal). ``exit``: Python ends, and what the store needs is gone.

    `at`: where it was met: by a ``command``, by ``connecting``, or at one ``key``, which proves nothing about others.
    `about` narrows a kind down to find the remedy: ``tls``, or "". `primary`: the primary that has it (Store.primary).
    """

    def __init__(self, kind: str, message: str = "", at: At = "command", about: str = "", *, primary: str = "") -> None:
        super().__init__(printable(message or kind))
        self.kind = kind
        self.at: At = at
        self.about = about
        self.primary = primary

    def alone(self) -> StoreTrouble:
        """The same for what keeps it: without the frames that it passed, which have connections, until Python ends."""
        return copy(self)


class Look(NamedTuple):
    """The result of plain reads: the entry's bytes, the generations (`moved` for the fields asked for), now in us.

    `head`: the entry's head, if these very bytes were read and verified before (core.model.read_entry).
    """

    entry: bytes | None
    generations: Generations
    now_us: int
    head: Head | None = None


class Record(NamedTuple):
    """An entry met in a walk through a store: its name there, its header and extensions, its size in bytes."""

    name: bytes
    header: bytes
    size: int


class Held(NamedTuple):
    """A lease as its holder names it, for a renewal."""

    key: Key
    id: bytes
    order: int


class Running(NamedTuple):
    """A flight under way, by its lease: `digest` is the first half of its key's. `since` and `deadline` in ms.

    `wanted`: a caller of another process was told to follow it. `waiting`: the processes that wait for notices about
    its key; None where the store does not know.
    """

    digest: bytes
    form: Form
    id: bytes
    order: int
    since: int
    deadline: int
    wanted: bool
    waiting: int | None = None


class Near(Protocol):
    """Answers of a store in this process: what `look` returns was true at the store at most 2 s ago. Takes no lock."""

    def look(self, key: Key, fields: tuple[int, ...]) -> tuple[Kept, int] | None:
        """A kept answer that no invalidation has reached, and the store's time, us; None if the store must be asked."""
        ...

    def seen(self, key: Key, fields: tuple[int, ...], size: int) -> bool:
        """Note that the store answered with an entry of `size` bytes. True: wake the background thread."""
        ...

    def tell(self, listener: NearListener) -> None:
        """Tell a listener of changes, for as long as it lives."""
        ...

    def stats(self) -> dict[str, object]:
        """What it holds now."""
        ...


class NearListener(Protocol):
    """It is told that a near cache began or stopped."""

    def near_changed(self, state: str, why: str) -> None:
        """It began (``on``), or stopped; `why`: a sentence for people, "" if it goes on by itself."""


Works = Sequence[Callable[[Any], Coroutine[Any, Any, Any]]]  # each is given a Store


class Store(Protocol):
    """The entries, leases and generations of one prefix."""

    address: str  # without a password; the stores of a process with one address share a background thread
    kind: str  # "memory", "sqlite", "redis"
    prefix: str

    @property
    def near(self) -> Near | None:
        """The near cache, if one was asked for."""
        ...

    @property
    def visits(self) -> Visits | None:
        """What this process has to `tell`; None if the store does not choose what is evicted."""
        ...

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        """Read the entry and the generations plainly, in one round trip; write nothing."""
        ...

    def at_hand(self, key: Key, fields: Sequence[int]) -> Look | None:
        """What `look` returns, if it can be read in this thread without waiting; else None. No trouble is raised."""
        ...

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Decide by core.lease.claim."""
        ...

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Store an answer: ``stored``, ``unkept``, ``moved`` or ``lost`` (core.lease.fill). Wakes the waiters.

        If core.lease.fill says so, a SHARED ending with the detail and the body goes to the tape, whatever the verdict.
        A log that exists already holds all of that, and stays.
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
        """Slide an entry (core.lease.extend), in ms; False if there was nothing to lengthen."""
        ...

    async def count(self, key: Key, hits: int, window: int) -> int:
        """Add hits to the key's own counter, never to its entry. Return the hits within about the last `window` ms.

        A window has two halves. The result covers the current half and the one before: between one half and one whole
        window. A counter is deleted when a window has passed.
        """
        ...

    async def tell(self, count: int) -> None:
        """Tell the store of the visits of up to `count` keys, so that what is used is not evicted."""
        ...

    async def tally(self, push: Push) -> None:
        """Add what a process gathered (core.tallies.add), to the buckets of now. A push that came before counts once.

        It counts under the push's prefix, which is this store's wherever the address of a store shows its prefix.
        """
        ...

    async def tallied(self, table: str, back: int) -> tuple[int, list[Tallied]]:
        """The time, ms, and the tallies of a table in the last `back` buckets; 1: only those of the current one."""
        ...

    async def entry(self, key: Key) -> bytes | None:
        """Read only the entry's bytes."""
        ...

    async def tape(self, key: Key, flight: bytes, order: int, start: int = 0) -> bytes | None:
        """Read the log of one flight from byte `start` on; None if there is no such log."""
        ...

    async def append(self, key: Key, flight: bytes, order: int, offset: int, data: bytes) -> int:
        """Write `data` at `offset` of a flight's log, and SAY what is new in it. Return the log's new length.

        Bytes that the log has already are not written again, so repeating is safe. If it ends before `offset`, nothing
        is written. The log's own name and length fence it, not the lease: an invalidation or a new leader must not cut
        its followers off. A new log lives LOG_LIFE; appending does not lengthen that.
        """
        ...

    async def note(self, notes: Sequence[Note]) -> None:
        """Append notes, in order, each to its ring (core.notes). Repeating appends them twice."""
        ...

    async def notes(self, owner: bytes, name: bytes = b"", count: int = RING) -> list[Noted]:
        """The last `count` notes of an owner about names that begin with `name`, the newest first. b"": any owner."""
        ...

    async def forget(self, key: Key) -> None:
        """Delete the entries and leases of a question in all its forms: no flight under way may fill them."""
        ...

    async def invalidate(self, fields: Sequence[int], *, everything: bool = False) -> None:
        """Move the generations of every partition; PartialInvalidation if not all of them answered."""
        ...

    async def scan(self, cursor: bytes, count: int) -> tuple[bytes, list[Record]]:
        """About `count` entries of this prefix from `cursor` on (b"" first), and the next cursor, b"" at the end.

        It meets every entry that is there from the first step to the last, some perhaps twice. A step is short.
        """
        ...

    async def flights(self, count: int) -> list[Running]:
        """Up to `count` leases of flights under way (core.lease.flying), in every process, the longest first.

        It reads no entry.
        """
        ...

    async def standing(self) -> Sequence[Generations]:
        """The generations of every partition, with all that moved. An entry's are at [digest[0] % length]."""
        ...

    async def discard(self, seen: Sequence[Record]) -> int:
        """Delete entries that are still the ones seen (fill id and order). Return how many."""
        ...

    async def raze(self, count: int) -> int:
        """Delete about `count` of this prefix's data, generations last. Return how many; 0 when nothing is left."""
        ...

    async def together(self, works: Works, *, reads: bool = False) -> list[Any]:
        """Run each of `works` with a store given to it, at the price of about one. Return their results in order.

        A work that met StoreTrouble has that as its result. Each is as atomic as alone, and no more. `reads`: none of
        them writes. Not for thousands of works: a batch has the timeout of one command.
        """
        ...

    def primary(self, key: Key) -> str:
        """The name of the primary that has a key now: "" where it is not known, and where a store has only one."""
        ...

    def primaries(self) -> Sequence[str]:
        """The names of all primaries that have keys now."""
        ...

    def connected(self, key: Key) -> bool:
        """Whether a command of this caller (this thread, this loop) about a key needs no new connection."""
        ...

    def reconnect(self, primary: str) -> None:
        """Make new connections to a primary before the next use: the old ones may no longer lead to one."""
        ...

    def link(self) -> Link:
        """A new link, only for the background thread."""
        ...

    def blocking(self) -> Store:
        """The same store for the background thread: it never suspends, and the thread closes it."""
        ...

    def after_fork(self) -> None:
        """In a forked child: drop what belongs to the parent (connections, locks) without disturbing it."""
        ...

    async def close(self) -> None:
        """Close what this store opened; a client that the user passed in stays open."""
        ...


class Link(Protocol):
    """The background thread's own connection to a store. Methods raise StoreTrouble; the next call connects anew.

    A link tests its connection itself, in `poll`. A connection that is silent, or no longer leads to a primary, is
    trouble, and is replaced.

    `trouble`: that of one of several primaries, while the others work; None if there is none.
    """

    @property
    def trouble(self) -> StoreTrouble | None:
        """The trouble of a primary that is needed, where others work."""
        ...

    def subscribe(self, key: Key) -> None:
        """Ask for the notices about a key. `poll` returns the key in its second list when that is in force."""
        ...

    def unsubscribe(self, key: Key) -> None:
        """Ask for no more notices about a key."""
        ...

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        """Wait at most `timeout` s, or until `wake`. Return (new notices, keys whose subscription came into force).

        After a lost connection is replaced, every key is returned as in force once more: its waiters claim again.
        """
        ...

    def wake(self) -> None:
        """Make a `poll` under way return at once. Takes no lock: any thread and any finaliser may call it."""
        ...

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        """Return ``ok``, ``want`` or ``lost`` for each lease (core.lease.renew); heartbeat in ms.

        ``late``: the primary that has the key did not answer, and others did; renew it again soon.
        """
        ...

    def say(self, key: Key, notice: Notice) -> None:
        """Send a notice to the waiters of a key."""
        ...

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        """Send many notices, at the price of about one."""
        ...

    def probe(self) -> None:
        """Make one cheap round trip that writes nothing; StoreTrouble if the store is still in trouble."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


Clock = Callable[[], int]


def machine_clock() -> int:
    """Microseconds since 1970, by the machine's clock."""
    return time.time_ns() // 1000
