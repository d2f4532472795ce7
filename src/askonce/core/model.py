"""An Entry: a stored answer, its dates, and the bytes of both.

The client seals an entry and the store dates it. The client writes everything that is known when the lease is granted
(digest, fill id, order, generation), because only the client can afford a checksum over the body. The store writes the
dates in the one script that stores the entry, because only its clock counts; their checksum is simple enough for Lua.
So the first 84 bytes never change, a slide may move the next 36, and neither check needs the other.

    0  magic "ao" | 2 format | 3 flags | 4 header length | 8 digest (32) | 40 fill id (16) | 56 order us
    64 epoch (8)  | 72 clock | 76 ttl ms | 80 check of 0..80 and all from 120 on
    84 created ms | 92 fresh until | 100 stale until | 108 on error until | 116 check of the dates
    120 extensions: type, length, value ...  then the body

A reader may skip extensions with even types; an unknown odd type makes the entry a visible miss. The flag ODD says that
an odd type other than FIELDS is present, so that a plain hit walks no extensions. The flag CODED says that these are
CODEC and CIPHER only: the body is an envelope (core.codec). An earlier version, which knows ODD alone, refuses it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from askonce.core.providers.named_tuples import NamedTuple

FORMAT = 1
MAGIC = b"ao"
FORMS = ("v", "j", "s")
ODD = 0x10  # an odd extension other than FIELDS is present: walk them before serving
CODED = 0x40  # the odd extensions are CODEC and CIPHER: the body is an envelope
ENDS = 0x20  # its life does not slide: the answer named its own end, or its policy says so

_SEALED = struct.Struct(">2sBBI32s16sQ8sII")
_CHECK = struct.Struct(">I")
_DATES = struct.Struct(">QQQQI")
_HEAD = struct.Struct(">2sBBI32s16sQ8sIIIQQQQI")
SEALED_SIZE = _SEALED.size + _CHECK.size  # 84
HEAD_SIZE = _HEAD.size  # 120
DATES_AT = SEALED_SIZE
_TLV = struct.Struct(">BH")
_new = tuple.__new__

FIELDS, CODEC, CIPHER = 1, 3, 5
TAGS, SCOPE, MODEL, META, DURATION, USAGE, FIELD_DIGESTS, PRIVATE, PRICE, SPENT = 2, 4, 6, 8, 10, 12, 14, 16, 18, 20
KNOWN_ODD = frozenset({FIELDS, CODEC, CIPHER})
PRIME = 4294967291  # the largest below 2**32; a power of two would ignore the upper halves of the dates
TTL_CAP = 0xFFFFFFFF  # ms, 49.7 days: longer lifetimes compare as equal


class Head(NamedTuple):
    """The fixed part of an entry. Dates and ttl in ms of the store's clock, `order` in us."""

    magic: bytes
    format: int
    flags: int
    length: int
    digest: bytes
    fill: bytes
    order: int
    epoch: bytes
    clock: int
    ttl: int
    check: int
    created: int
    fresh: int
    stale: int
    error: int
    dates_check: int

    @property
    def form(self) -> str:
        """``v`` a value, ``j`` JSON over HTTP, ``s`` a stream."""
        return FORMS[self.flags & 3]

    @property
    def slides(self) -> bool:
        """Whether its life may be lengthened."""
        return not self.flags & ENDS

    @property
    def hard(self) -> int:
        """When the entry stops being servable at all, ms."""
        return max(self.fresh, self.stale, self.error)


class Dates(NamedTuple):
    """The dates that the store writes when it fills; ms of its clock."""

    created: int
    fresh: int
    stale: int
    error: int


class Lifetime(NamedTuple):
    """How long an answer lives, ms: `ttl` jittered, `cap` the hard end; `age`: how old it is when it is filled."""

    ttl: int
    grace: int
    error: int
    cap: int
    age: int = 0

    def dates(self, now: int) -> Dates:
        """The dates of an entry filled at `now`."""
        born = now - self.age
        end = born + self.cap
        fresh = min(born + self.ttl, end)
        return Dates(born, fresh, min(fresh + self.grace, end), min(fresh + self.error, end))


class Corrupt(ValueError):
    """Bytes under an entry's name that are not a whole entry of this format; `reason` is a status detail."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _dates_check(dates: Dates) -> int:
    # A weighted sum and not a CRC: the store's script writes it too, and a CRC in Lua costs 20 us.
    return (dates.created + 3 * dates.fresh + 5 * dates.stale + 7 * dates.error) % PRIME


def pack_dates(dates: Dates) -> bytes:
    """The 36 bytes at DATES_AT."""
    return _DATES.pack(*dates, _dates_check(dates))


def pack_fields(fields: Iterable[int]) -> bytes:
    """Generation fields as big-endian u16."""
    return b"".join(field.to_bytes(2, "big") for field in fields)


def unpack_fields(data: bytes) -> tuple[int, ...]:
    """The reverse of pack_fields."""
    return struct.unpack(f">{len(data) // 2}H", data)


def pack_extensions(extensions: Mapping[int, bytes]) -> bytes:
    """Type, length and value of each; odd types first, so that FIELDS is where the store's script looks for it."""
    parts = [(kind, extensions[kind]) for kind in _in_order(tuple(extensions))]
    return b"".join([_TLV.pack(kind, len(value)) + value for kind, value in parts])


@lru_cache(maxsize=256)
def _in_order(kinds: tuple[int, ...]) -> list[int]:
    return sorted(kinds, key=lambda kind: (kind % 2 == 0, kind))


def unpack_extensions(data: bytes, head: Head) -> dict[int, bytes]:
    """All extensions of an entry; Corrupt if their lengths do not add up."""
    return _apart(dict(packed_extensions(data, head)))


def packed_extensions(data: bytes, head: Head) -> Iterator[tuple[int, bytes]]:
    """The extensions of an entry as they are packed: SPENT is not taken apart. Corrupt as above."""
    if not HEAD_SIZE <= head.length <= len(data):
        raise Corrupt("store-corrupt")
    return unpack_pairs(data, HEAD_SIZE, head.length)


def unpack_pairs(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The reverse of pack_extensions, from `at` to `end`; Corrupt if the lengths do not add up."""
    end = len(data) if end is None else end
    while at + _TLV.size <= end:
        kind, size = _TLV.unpack_from(data, at)
        at += _TLV.size + size
        yield kind, data[at - size : at]
    if at != end:
        raise Corrupt("store-corrupt")


def whole(number: int) -> bytes:
    """A number in as few bytes as it takes, because every entry holds one."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _together(extensions: Mapping[int, bytes]) -> Mapping[int, bytes]:
    """DURATION and USAGE, a few bytes each, as one extension, SPENT: a number in groups of seven bits, then USAGE."""
    took = int.from_bytes(extensions.get(DURATION, b""), "big")
    if USAGE not in extensions or extensions.get(DURATION) != whole(took):
        return extensions
    rest = {kind: value for kind, value in extensions.items() if kind not in {DURATION, USAGE}}
    return {**rest, SPENT: in_groups(took) + extensions[USAGE]}


def _apart(extensions: dict[int, bytes]) -> dict[int, bytes]:
    """The reverse of _together; Corrupt if the number does not end."""
    spent = extensions.pop(SPENT, None)
    if spent is None:
        return extensions
    end = next((at for at, byte in enumerate(spent) if byte < 0x80), None)
    if end is None:
        raise Corrupt("store-corrupt")
    (took,) = of_groups(spent[: end + 1])
    return {**extensions, DURATION: whole(took), USAGE: spent[end + 1 :]}


def in_groups(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first, with the top bit set in all but the last."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def of_groups(data: bytes) -> list[int]:
    """The numbers that `in_groups` wrote one after the other; one that does not end is left out."""
    numbers, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return numbers


class Sealed(NamedTuple):
    """An entry as the client hands it to the store: everything but the dates."""

    start: bytes
    extensions: bytes
    body: bytes

    def dated(self, dates: Dates) -> bytes:
        """The whole entry."""
        return b"".join((self.start, pack_dates(dates), self.extensions, self.body))

    @property
    def size(self) -> int:
        """Bytes of the whole entry."""
        return HEAD_SIZE + len(self.extensions) + len(self.body)


class Snapshot(NamedTuple):
    """The generation of a partition when a lease was granted: its epoch and counter."""

    epoch: bytes
    clock: int


def seal(
    form: str,
    digest: bytes,
    fill: bytes,
    order: int,
    snapshot: Snapshot,
    ttl: int,
    extensions: Mapping[int, bytes],
    body: bytes | Callable[[bytes], bytes],
    *,
    ends: bool = False,
) -> Sealed:
    """An entry without its dates. `ttl` in ms before jitter; `order` in us; `ends`: the answer named its own end.

    `body` may be a function that makes it from the header, without checksum and dates, to which it is to be bound.
    """
    flags = FORMS.index(form) | _odd(extensions) | (ENDS if ends else 0)
    packed = pack_extensions(_together(extensions))
    length = HEAD_SIZE + len(packed)
    start = _SEALED.pack(
        MAGIC, FORMAT, flags, length, digest, fill, order, snapshot.epoch, snapshot.clock, min(ttl, TTL_CAP)
    )
    if callable(body):
        body = body(start + packed)
    check = zlib.crc32(body, zlib.crc32(packed, zlib.crc32(start)))
    return Sealed(start + _CHECK.pack(check), packed, body)


def _odd(extensions: Mapping[int, bytes]) -> int:
    """The flags of the odd extensions."""
    odd = {kind for kind in extensions if kind % 2 and kind != FIELDS}
    return 0 if not odd else ODD | CODED if odd <= {CODEC, CIPHER} else ODD


def foreign(flags: int) -> bool:
    """Whether an entry with these flags carries what this version does not know."""
    return flags & (ODD | CODED) == ODD


def read_head(data: bytes) -> Head:
    """The fixed part, with its format and dates checked, but not the body; Corrupt, with a reason, otherwise."""
    if len(data) < HEAD_SIZE:
        raise Corrupt("store-corrupt" if data[:2] == MAGIC else "store-foreign")
    head: Head = _new(Head, _HEAD.unpack_from(data))  # not _make, which counts the fields once more
    if head[0] != MAGIC:
        raise Corrupt("store-foreign")
    if head[1] != FORMAT:
        raise Corrupt("store-newer-format")
    if head[15] != (head[11] + 3 * head[12] + 5 * head[13] + 7 * head[14]) % PRIME:
        raise Corrupt("store-corrupt")
    return head


def read_entry(data: bytes, digest: bytes, form: str) -> Head:
    """The fixed part of a whole entry that answers exactly this question in this form; Corrupt otherwise."""
    head = read_head(data)
    view = memoryview(data)
    if zlib.crc32(view[HEAD_SIZE:], zlib.crc32(view[: _SEALED.size])) != head[10]:
        raise Corrupt("store-corrupt")
    if head[4] != digest or head[2] & 3 != FORMS.index(form):
        raise Corrupt("store-foreign")
    if head[2] & ODD and not head[2] & CODED:
        check_odd(data, head)
    return head


def check_odd(data: bytes, head: Head) -> None:
    """Check for odd extensions that this version does not know; Corrupt if there is one."""
    if any(kind % 2 and kind not in KNOWN_ODD for kind in unpack_extensions(data, head)):
        raise Corrupt("store-newer-format")


def entry_fields(data: bytes, head: Head) -> tuple[int, ...]:
    """The generation fields of the entry's own tags; Corrupt if its header does not add up."""
    packed = unpack_extensions(data, head).get(FIELDS, b"")
    if len(packed) % 2:
        raise Corrupt("store-corrupt")
    return unpack_fields(packed)


def entry_body(data: bytes, head: Head) -> memoryview:
    """The body of a whole entry, not copied."""
    return memoryview(data)[head.length :]
