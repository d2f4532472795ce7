"""The names under which one prefix keeps its keys in a Redis.

    {prefix:17}:e1:<digest>:<form>    entry: a string, as core.model lays it out
    {prefix:17}:l1:<digest>:<form>    lease: a hash of id, order, dl (deadline), ep and s (snapshot), t (fields),
                                      x (when it is over), want, idle, fails
    {prefix:17}:h1:<digest>:<form>    hits of a hot key: a hash of turn (which half window), now, before
    {prefix:17}:c1:<digest>:<form>    channel of the notices about a key
    {prefix:17}:s1:<flight>.<order>   tape of one flight: a string of frames
    {prefix:17}:f1                    flights of the partition: a sorted set of <digest>:<form>, by when a lease is over
    {prefix:17}:g1                    generations of the partition: a hash of ep, clk, floor and t:<field>
    {prefix:0}:y1:<table>:<bucket>    tallies (core.tallies): a hash of counter, NUL, label; see lua/tally.lua
    {prefix:0}:y1:of:<sender>         the number of the last push of a process
    {prefix:17}:w1:notes              notes (core.notes) of the owners of this partition: a list; see lua/note.lua
    {prefix:0}:w1:gone                notes of invalidations
    {prefix:17}:n1:<number>           what a near cache writes when it begins, to see whether it is told; for a second

The braces make a partition one hash slot of a Cluster, so that a script may touch all of a key's names. A name carries
the number of its format, so that versions live side by side, and 128 bits of the digest, no word of a question: the
entry holds the whole digest, which is verified on every read. An ACL user needs ``~{prefix:*`` and ``&{prefix:*``.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot

from askonce.core.keys import Form, Key
from askonce.core.notes import EVERYONE
from askonce.errors import ConfigError
from askonce.store import PARTITIONS

DEFAULT = "askonce"
PREFIX_MAX = 200
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_FORMS = {form: f":{form}".encode() for form in "vjs"}
_READS_MAX = 4096
KINDS = frozenset({b"e1", b"l1", b"h1", b"s1", b"f1", b"g1", b"y1", b"w1"})
TALLIES = 0  # the partition that has all tallies: they are few
_PLAIN = bytes(0x3F if byte in b"*?[]\\" else byte for byte in range(256))  # "?" for what a pattern would interpret


def short(data: bytes) -> bytes:
    """The 22 characters of 16 bytes."""
    return binascii.b2a_base64(data[:16], newline=False).translate(_URLSAFE)[:22]


def check_prefix(prefix: str) -> str:
    """The prefix itself; ConfigError if it cannot be part of a Redis name."""
    if not isinstance(prefix, str):
        raise ConfigError(f"prefix={prefix!r} is not text: write prefix={str(prefix)!r}")
    if "{" in prefix or "}" in prefix:
        # The first closing brace would end the hash tag, and put all partitions into one slot of a Cluster.
        plain = prefix.replace("{", "").replace("}", "")
        raise ConfigError(f"prefix {prefix!r} contains braces, which mark hash slots in Redis: write {plain!r}")
    if len(prefix) > PREFIX_MAX:
        raise ConfigError(f"prefix {prefix[:20]!r}... has {len(prefix)} characters: write at most {PREFIX_MAX}")
    return prefix


def read_member(member: bytes) -> tuple[bytes, Form]:
    """The first half of the digest, and the form, in a member of the index of flights; ValueError for any other."""
    form: Any = member[23:].decode()
    if len(member) != 24 or form not in _FORMS:
        raise ValueError(member)
    return base64.urlsafe_b64decode(member[:22] + b"=="), form


class Names:
    """Makes names; a store has one."""

    def __init__(self, prefix: str) -> None:
        base = (check_prefix(prefix) or DEFAULT).encode("utf-8", "surrogatepass")
        self._tags = [b"{%b:%d}" % (base, partition) for partition in range(PARTITIONS)]
        self._own = frozenset(self._tags)
        self._gets = [b"*2\r\n$3\r\nGET\r\n$%d\r\n%b:e1:" % (len(tag) + 28, tag) for tag in self._tags]
        self._ends = {form: name + b"\r\n" for form, name in _FORMS.items()}
        self._reads: dict[tuple[int, Sequence[int]], bytes] = {}

    def look(self, key: Key, fields: tuple[int, ...]) -> bytes:
        """The three commands of the hit path, packed: GET entry, HMGET generations, TIME."""
        # Packed by hand: all but the digest is known beforehand, and hiredis.pack_command would take 1 us.
        digest, form = key
        partition = digest[0] % PARTITIONS
        return self._gets[partition] + short(digest) + self._ends[form] + self._read(partition, fields)

    def _read(self, partition: int, fields: tuple[int, ...]) -> bytes:
        found = self._reads.get((partition, fields))
        if found is None:
            if len(self._reads) >= _READS_MAX:
                self._reads.clear()
            words = [b"HMGET", self.generations(partition), b"ep", b"clk", b"floor", *(b"t:%d" % one for one in fields)]
            command = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
            found = self._reads[partition, fields] = b"*%d\r\n%b*1\r\n$4\r\nTIME\r\n" % (len(words), command)
        return found

    def generations(self, partition: int) -> bytes:
        """The generations of a partition."""
        return self._tags[partition] + b":g1"

    def flights(self, partition: int) -> bytes:
        """The index of a partition's flights."""
        return self._tags[partition] + b":f1"

    def of_flight(self, partition: int, member: bytes) -> tuple[bytes, bytes]:
        """The lease and the channel of a member of that index."""
        return self._tags[partition] + b":l1:" + member, self._tags[partition] + b":c1:" + member

    def of(self, key: Key) -> tuple[bytes, bytes, bytes]:
        """The entry, lease and generations of a key."""
        digest, form = key
        partition = digest[0] % PARTITIONS
        tag, end = self._tags[partition], short(digest) + _FORMS[form]
        return tag + b":e1:" + end, tag + b":l1:" + end, tag + b":g1"

    def hits(self, key: Key) -> bytes:
        """The counter of a key."""
        return self._tag(key) + b":h1:" + short(key.digest) + _FORMS[key.form]

    def channel(self, key: Key) -> bytes:
        """The channel of a key's notices."""
        return self._tag(key) + b":c1:" + short(key.digest) + _FORMS[key.form]

    def unused(self, partition: int) -> tuple[bytes, bytes]:
        """The entry and the channel of a key of this partition that nobody has, for trials."""
        key = Key(bytes((partition,)) + os.urandom(31), "v")
        return self.of(key)[0], self.channel(key)

    def tape(self, key: Key, flight: bytes, order: int) -> bytes:
        """The tape of a flight; without its order if that is unknown (0)."""
        return self._tag(key) + b":s1:" + short(flight) + b"." + (b"%d" % order if order else b"")

    def test(self, partition: int, number: bytes) -> bytes:
        """A name of one connection's own."""
        return self._tags[partition] + b":n1:" + number

    def tallies(self, table: str, bucket: int) -> bytes:
        """The tallies of a bucket."""
        return b"%b:y1:%b:%d" % (self._tags[TALLIES], table.encode(), bucket)

    def sender(self, sender: bytes) -> bytes:
        """The number of a process's last push."""
        return self._tags[TALLIES] + b":y1:of:" + short(sender)

    def notes(self, owner: bytes) -> bytes:
        """The ring that has the notes of an owner."""
        return self._tags[0] + b":w1:gone" if owner == EVERYONE else self._tags[owner[0] % PARTITIONS] + b":w1:notes"

    def all_notes(self) -> list[bytes]:
        """The rings of all owners."""
        return [*(tag + b":w1:notes" for tag in self._tags), self.notes(EVERYONE)]

    def pattern(self, kind: bytes = b"*") -> bytes:
        """What SCAN should match. It may match more, so check each name with `ours`."""
        base = self._tags[0][1:-2].translate(_PLAIN)
        return b"{%b*}:%b:*" % (base, kind)

    def ours(self, name: bytes) -> bytes:
        """The kind in a name (``e1``, ``g1``, ...) if it is this prefix's, else empty: {a:b:1} is not of "a"."""
        tag, brace, rest = name.partition(b"}")
        kind = rest[1:].partition(b":")[0]
        return kind if tag + brace in self._own and kind in KINDS else b""

    def slots(self) -> list[int]:
        """The hash slot of each partition in a Cluster."""
        # By redis-py's table: what is between the braces decides, by CRC16.
        return [key_slot(tag) for tag in self._tags]

    def partition(self, name: bytes) -> int:
        """The partition of one of this prefix's names."""
        return int(name.partition(b"}")[0].rpartition(b":")[2])

    def _tag(self, key: Key) -> bytes:
        return self._tags[key.digest[0] % PARTITIONS]
