"""The conversation that keeps a near cache coherent, on one connection: what is asked, and what the replies come to.

The connection asks the server to track (RESP3 client tracking, OPTIN): CLIENT CACHING YES stands before each read of
what is kept, and before no other command, so that only what is kept is tracked. A notice is a push that stands in the
stream before the reply to any later command. So when the reply to a proof (TIME) is here, everything that had changed
when the proof was sent has been voided. The entry's generations are read and tracked likewise: an invalidation is one
notice for a partition, however many entries it reaches.

Nothing is believed untested. Before anything is kept, the connection writes a name that it tracks itself, and must be
told. With each proof it reads the counters of the partitions it keeps; one that moved without a notice ends tracking.
This module neither sends nor waits: its link does (askonce.store.redis.link).
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from askonce.core.keys import Key
from askonce.core.lease import Generations
from askonce.core.model import Corrupt, entry_fields, read_entry
from askonce.core.near import FIELDS_MOST, Kept, Part, Place, Slot, Standing
from askonce.store import PARTITIONS
from askonce.store.redis.asking import HELLO, is_primary
from askonce.store.redis.names import Names
from askonce.store.redis.near import IDLE, INTERVAL, NOBODY, REST, RedisNear, Want, near_of
from askonce.store.redis.scripts import TIME, pack
from askonce.store.redis.trouble import Refusal

BATCH = 32  # answers read in one round trip
MOST = 512 * 1024  # bytes of them: a heartbeat may wait behind it
PAUSE = 0.02  # s between two such round trips
RETRY = 30.0  # s until tracking is tried again on a connection where it could not be tested
UNTOLD = 3  # counters that moved without a notice, until this server is not asked any more
CACHING = pack(b"CLIENT", b"CACHING", b"YES")
TRACKING = pack(b"CLIENT", b"TRACKING", b"ON", b"OPTIN")
Reads = Callable[[Sequence[Any]], None]


def _all() -> Sequence[int]:
    return range(PARTITIONS)


class Untracked(Exception):
    """This server cannot do it. `kind`: a word for the state; the text says why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class Tracking:
    """One link's part in the near cache of its process, if a cache of the process uses one."""

    def __init__(self, address: str, names: Names, partitions: Callable[[], Sequence[int]] = _all) -> None:
        self._address = address
        self._names = names
        self._now_mine = partitions  # those that this server has now
        self._partitions: tuple[int, ...] = ()  # those that it had at the last `due`
        self._places = {names.generations(partition): partition for partition in range(PARTITIONS)}
        self._known: weakref.ref[RedisNear] | None = None
        self._part: Part | None = None  # set while the server tracks for this connection
        self._tested = b""  # the name whose notice is awaited
        self._next = self._not_before = -math.inf
        self._reads: list[tuple[int, Reads]] = []  # of the round trip under way: replies, and what they come to
        self._sent = 0.0
        self._untold = 0

    def _near(self) -> RedisNear | None:
        """The near cache that lookups use now; the part in an earlier one is over."""
        near = self._known() if self._known is not None else None
        if near is None:
            self._part = None
            near = near_of(self._address)
            self._known = weakref.ref(near) if near is not None else None
        return near

    def due(self, now: float) -> float:
        """Seconds until `asks` has something to ask; inf while no lookup uses the near cache."""
        near = self._near()
        if near is None or now - near.used > REST or not self._settled(near):
            return math.inf
        if self._part is None:
            return max(0.0, self._not_before - now)
        proof = self._part.proof[0] + INTERVAL - now
        return max(0.0, min(proof, self._next - now) if self._wanted(near) else proof)

    def _settled(self, near: RedisNear) -> bool:
        """Follow the partitions that have moved; return whether this server has any."""
        mine = tuple(self._now_mine())
        if mine != self._partitions:
            gone, self._partitions = set(self._partitions).difference(mine), mine
            if self._part is not None:
                near.leave(self._part, gone)
                near.begin(self._part, mine)
        return bool(mine)

    def _wanted(self, near: RedisNear) -> bool:
        if len(self._partitions) == PARTITIONS:
            return bool(near.wanted)
        return any(key.digest[0] % PARTITIONS in self._partitions for key in list(near.wanted))

    def asks(self, now: float) -> tuple[bytes, int] | None:
        """What to send now, and the number of its replies; None if nothing is due. `now`: s of near.clock."""
        if self.due(now) > 0 or (near := self._near()) is None:
            return None
        self._sent = now
        self._reads = []
        if self._part is None:
            return self._begin()
        part = self._part
        commands = [HELLO, *self._proofs(part), *self._answers(near, part), TIME]
        self._reads.insert(0, (1, _primary))
        self._reads.append((1, partial(self._proved, part)))  # last: not before everything is compared
        return b"".join(commands), sum(count for count, _ in self._reads)

    def told(self, push: Sequence[Any]) -> bool:
        """Apply a push, if it is a notice of a change."""
        if push[0] != b"invalidate":
            return False
        near, part = self._near(), self._part
        names = push[1]
        if names is None:
            self._tested = b""
            if near is not None and part is not None:
                part.move()
                near.table.lose(part)
            return True
        for name in names:
            self._changed(near, part, name)
        return True

    def _changed(self, near: RedisNear | None, part: Part | None, name: bytes) -> None:
        if name == self._tested:
            self._tested = b""
        elif near is not None and part is not None:
            partition = self._places.get(name)
            if partition is None:
                near.table.told(name)
            else:
                part.places[partition] = None

    def said(self, replies: Sequence[Any]) -> None:
        """Apply the replies to what `asks` returned; every push that preceded them has been applied (`told`)."""
        at, reads, self._reads = 0, self._reads, []
        try:
            for count, read in reads:
                read(replies[at : at + count])
                at += count
        except Untracked as untracked:
            self._stop(untracked)

    def lost(self) -> None:
        """The connection is gone: nothing that it was told about is served any more."""
        self._reads, self._not_before = [], -math.inf
        near, part = self._near(), self._part
        self._part = None
        if near is not None and part is not None:
            near.end(part, IDLE)

    def _stop(self, untracked: Untracked) -> None:
        near = self._near()
        self._not_before = self._sent + (RETRY if untracked.kind == IDLE else math.inf)
        part, self._part = self._part, None
        if near is not None:
            near.end(part or NOBODY, untracked.kind, "" if untracked.kind == IDLE else str(untracked))

    # beginning

    def _begin(self) -> tuple[bytes, int]:
        """Turn tracking on, and write a name of this connection's own that it tracks."""
        self._tested = test = self._names.test(self._partitions[0], os.urandom(8).hex().encode())
        self._reads = [(5, self._begun)]
        write = pack(b"SET", test, b"", b"PX", 1000)
        return b"".join((TRACKING, CACHING, pack(b"GET", test), write, TIME)), 5

    def _begun(self, replies: Sequence[Any]) -> None:
        refused = next((reply for reply in replies[:3] if type(reply) is Refusal), None)
        if refused is not None:
            raise Untracked("tracking-refused", f"the server refuses client tracking ({refused})")
        if type(replies[3]) is Refusal:
            raise Untracked(IDLE, f"the server refuses to write ({replies[3]})")
        if self._tested:
            raise Untracked("no-notices", "the server tracks, and its notices do not arrive: a proxy is in between")
        near = self._near()
        if near is None:
            return
        part = Part(PARTITIONS)
        self._proved(part, replies[4:])
        self._part = part
        near.begin(part, self._partitions)

    # proofs

    def _proofs(self, part: Part) -> Iterator[bytes]:
        for partition in self._partitions:
            place = part.places[partition]
            if place is not None and place.standing is not None:
                self._reads.append((1, partial(self._compared, part, partition, place)))
                yield pack(b"HMGET", self._names.generations(partition), b"ep", b"clk")

    def _proved(self, part: Part, replies: Sequence[Any]) -> None:
        (time,) = replies
        if type(time) is list:
            part.proof = (self._sent, int(time[0]) * 1_000_000 + int(time[1]))

    def _compared(self, part: Part, partition: int, place: Place, replies: Sequence[Any]) -> None:
        """A counter that moved was told, or it is no longer known what was told."""
        standing = place.standing
        if part.places[partition] is not place or standing is None:
            return
        (reply,) = replies
        if type(reply) is Refusal:  # the partition is another primary's
            self._leave(part, partition)
        elif _counter(reply) != standing.generations[:2]:
            self._untold += 1
            often = self._untold >= UNTOLD
            why = "generations moved, and the server did not say so"
            raise Untracked("no-notices" if often else IDLE, why)

    def _leave(self, part: Part, partition: int) -> None:
        part.places[partition] = None
        if (near := self._near()) is not None:
            near.table.lose(part, (partition,))  # not near.leave: what is wanted there is tried again

    # answers

    def _answers(self, near: RedisNear, part: Part) -> Iterator[bytes]:
        """Read what lookups want: answers, and the generations of their partitions."""
        if not near.wanted or self._next > self._sent:
            return
        self._next = self._sent + PAUSE
        wanted: dict[int, set[int]] = {}
        for key, want in _some(near.wanted, set(self._partitions)):
            wanted.setdefault(key.digest[0] % PARTITIONS, set()).update(want.fields)
            slot = near.table.slots.get(key)
            if slot is None or slot.part is not part:
                yield self._answer(near, part, key, want)
            elif slot.kept is not None:
                wanted[key.digest[0] % PARTITIONS].update(slot.kept.fields)
        for partition, fields in wanted.items():
            standing = part.standing(partition)
            if standing is None or not fields <= standing.known:
                yield self._generations(part, partition, fields, standing)

    def _answer(self, near: RedisNear, part: Part, key: Key, want: Want) -> bytes:
        name = self._names.of(key)[0]
        slot = near.table.open(key, name, part, want.size)
        self._reads.append((2, partial(self._kept, slot)))
        return CACHING + pack(b"GET", name)

    def _kept(self, slot: Slot, replies: Sequence[Any]) -> None:
        near, entry = self._near(), replies[1]
        if near is None:
            return
        kept = None
        if type(replies[0]) is not Refusal and type(entry) is bytes:
            kept = _verified(slot.key, entry)
        if kept is None:
            near.table.drop(slot)
        else:
            near.table.fill(slot, kept)

    def _generations(self, part: Part, partition: int, fields: set[int], before: Standing | None) -> bytes:
        known = fields | before.known if before is not None else fields
        asked = tuple(known if len(known) <= FIELDS_MOST else fields)
        place = part.open(partition)
        self._reads.append((2, partial(self._standing, part, partition, place, asked)))
        words = (b"ep", b"clk", b"floor", *(b"t:%d" % field for field in asked))
        return CACHING + pack(b"HMGET", self._names.generations(partition), *words)

    def _standing(
        self, part: Part, partition: int, place: Place, asked: tuple[int, ...], replies: Sequence[Any]
    ) -> None:
        caching, read = replies
        generations = None if type(caching) is Refusal else _read(read, asked)
        near = self._near()
        if generations is None or near is None:
            self._leave(part, partition)
            return
        place.standing = Standing(generations, frozenset(asked))
        near.table.know(part)


def _primary(replies: Sequence[Any]) -> None:
    if not is_primary(replies[0]):
        raise Untracked(IDLE, "the server has become a replica")


def _read(read: Any, asked: tuple[int, ...]) -> Generations | None:
    """The generations in a reply; None if there are none."""
    try:
        moved = {field: int(when) for field, when in zip(asked, read[3:], strict=True) if when}
        return Generations(read[0], int(read[1] or 0), int(read[2] or 0), moved) if read[0] else None
    except (TypeError, ValueError, IndexError):  # another program's data, or another primary's partition
        return None


def _counter(read: Any) -> tuple[object, ...]:
    try:
        return (read[0], int(read[1] or 0))
    except (TypeError, ValueError, IndexError):
        return ()


def _verified(key: Key, entry: bytes) -> Kept | None:
    try:
        head = read_entry(entry, key.digest, key.form)
        return Kept(entry, head, entry_fields(entry, head))
    except Corrupt:
        return None  # the next lookup reads it from the server, and says so


def _some(wanted: dict[Key, Want], partitions: set[int]) -> Iterator[tuple[Key, Want]]:
    """Take out as many as one round trip may carry."""
    size = number = 0
    for key in list(wanted):
        if key.digest[0] % PARTITIONS in partitions and (want := wanted.pop(key, None)) is not None:
            yield key, want
            size, number = size + want.size, number + 1
        if size > MOST or number >= BATCH:
            return
