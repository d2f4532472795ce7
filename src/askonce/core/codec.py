"""A Codec: how an answer is compressed and encrypted before it is stored, and read again.

What it makes is an envelope, which says itself how it is to be opened, because an answer is written to two places: to
the body of an entry, and, if it may not be stored, to the end of its flight's tape, which has no header.

    0  0xA5: no body of any form begins so | 1 what was done: 1 compressed, 2 encrypted
    2  if encrypted: length of the key's id (1), length of the binding (1), id, binding, nonce (12)
       then a zstd frame, or the bytes themselves; if encrypted, in AES-256-GCM with all before it authenticated

Each flight has a key of its own for each purpose, derived from the ring's key, the question's digest, the form and the
flight's id. So an envelope that is moved to another name does not open, and no key meets the 2**32 messages after which
random nonces may repeat. A nonce is derived from the content: two writers of one log write the same bytes, and the copy
of a virtual machine, whose random numbers repeat, does not repeat a nonce. The binding ties the body of an entry to
its header, and a part of a log to its place.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from askonce.core.keyring import KeyOf, Keys, Names
from askonce.core.keys import Key
from askonce.core.model import (
    CIPHER,
    CODEC,
    CODED,
    FORMS,
    HEAD_SIZE,
    MODEL,
    PRICE,
    PRIVATE,
    SCOPE,
    TAGS,
    USAGE,
    Corrupt,
    Head,
    Sealed,
    Snapshot,
    pack_extensions,
    seal,
    unpack_pairs,
)
from askonce.core.tape import CODED_FRAME, END, FAILED, Ending, ended_by, frame, frames
from askonce.core.zstd import Zstd

MARK = 0xA5
COMPRESSED, ENCRYPTED = 1, 2
# The purposes of keys: an answer, a part of a log, what an entry says of itself, a note.
BODY, LOG, LABELS, NOTE = b"b", b"l", b"e", b"w"
NONCE, BOUND = 12, 16
START = 80  # bytes of an entry's head that are written by the client before its checksum
PEOPLE = frozenset({TAGS, SCOPE, MODEL, USAGE, PRICE})  # extensions that no store reads

NO_KEY, NO_CODEC = "store-no-key", "store-no-codec"
UNAUTHENTIC, UNENCRYPTED = "store-unauthentic", "store-unencrypted"
_OFFSET = struct.Struct(">Q")


class Codec:
    """What one cache does to the answers that it stores. Without arguments it writes them plainly.

    It opens what others have compressed, if the library is installed. With `keys`, it takes nothing that is not
    encrypted. Every `open` raises Corrupt, whose reason is a status detail, for what it cannot or may not open.
    """

    __slots__ = ("_keys", "_writer", "_zstd", "encrypts", "writes")

    def __init__(self, *, compress: bool = False, keys: Keys | None = None) -> None:
        self._zstd = Zstd()
        self._writer = self._zstd if compress else None
        self._keys = keys
        self.encrypts = keys is not None
        self.writes = compress or self.encrypts

    @property
    def keys(self) -> Keys | None:
        """The ring of keys; None if nothing is encrypted."""
        return self._keys

    @property
    def names(self) -> Names | None:
        """What keys the names in the store; None if they are not keyed."""
        return None if self._keys is None else self._keys.names

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, the one that encrypts first."""
        return () if self._keys is None else self._keys.ids

    def has(self, said: Mapping[int, bytes]) -> bool:
        """Whether the key that an entry names, by its extensions, is in the ring."""
        return CIPHER not in said or (self._keys is not None and self._keys.get(said[CIPHER]) is not None)

    # entries

    def seal(
        self,
        key: Key,
        fill: bytes,
        order: int,
        snapshot: Snapshot,
        ttl: int,
        extensions: Mapping[int, bytes],
        body: bytes,
        *,
        ends: bool = False,
    ) -> Sealed:
        """core.model.seal, with the body in an envelope and the labels encrypted."""
        packed = self._packed(body)
        said = self._said(key, fill, extensions, compressed=packed is not None)
        if packed is None and not self.encrypts:
            return seal(key.form, key.digest, fill, order, snapshot, ttl, said, body, ends=ends)

        def enclosed(header: bytes) -> bytes:
            return self._enclosed(BODY, key, fill, blake2b(header, digest_size=BOUND).digest(), body, packed)

        return seal(key.form, key.digest, fill, order, snapshot, ttl, said, enclosed, ends=ends)

    def _said(self, key: Key, fill: bytes, extensions: Mapping[int, bytes], *, compressed: bool) -> dict[int, bytes]:
        """The extensions of an entry; those for people are encrypted if the body is."""
        said = dict(extensions)
        if compressed:
            said[CODEC] = self._zstd.written
        if self._keys is not None:
            people = {kind: said.pop(kind) for kind in PEOPLE & said.keys()}
            said[CIPHER] = self._keys.first.id
            if people:
                said[PRIVATE] = self.close_text(key, fill, pack_extensions(people))
        return said

    def open_entry(self, key: Key, entry: bytes, head: Head, most: int) -> bytes:
        """A verified entry with its body as it was before it was sealed; the header stays. `most` bytes at most."""
        if not head[2] & CODED:
            self._check_plain()
            return entry
        length = head[3]
        if self._keys is None:
            return entry[:length] + self._opened(BODY, key, head[5], entry[length:], most, None)
        binding = blake2b(entry[:START] + entry[HEAD_SIZE:length], digest_size=BOUND).digest()
        return entry[:length] + self._opened(BODY, key, head[5], entry[length:], most, binding)

    def open_labels(self, head: Head, said: Mapping[int, bytes]) -> dict[int, bytes]:
        """An entry's extensions with those for people; Corrupt if there are some that it cannot read."""
        if PRIVATE not in said:
            return dict(said)
        key = Key(head.digest, head.form)  # type: ignore[arg-type]  # a Form
        return {**said, **dict(unpack_pairs(self.open_text(key, head.fill, said[PRIVATE])))}

    # tapes

    def close_ending(self, key: Key, flight: bytes, ending: Ending) -> Ending:
        """An ending with its body in an envelope."""
        return (
            ending._replace(body=self.close_body(key, flight, ending.body)) if self.writes and ending.body else ending
        )

    def close_body(self, key: Key, flight: bytes, body: bytes) -> bytes:
        """An answer that stands alone, without a header."""
        packed = self._packed(body)
        if packed is None and not self.encrypts:
            return body
        return self._enclosed(BODY, key, flight, b"", body, packed)

    def close_log(self, key: Key, flight: bytes, data: bytes, offset: int) -> bytes:
        """The whole frames `data`, which begin at `offset` of a log; the same input always gives the same bytes."""
        made = []
        for kind, payload in frames(data):
            plain = frame(kind, payload)
            made.append(self._closed_frame(key, flight, plain, offset))
            offset += len(plain)
        return b"".join(made)

    def _closed_frame(self, key: Key, flight: bytes, plain: bytes, offset: int) -> bytes:
        packed = self._packed(plain)
        if packed is None and not self.encrypts:
            return plain
        return frame(CODED_FRAME, self._enclosed(LOG, key, flight, _OFFSET.pack(offset), plain, packed))

    def open_frame(
        self, key: Key, flight: bytes, kind: int, payload: bytes, offset: int, most: int
    ) -> tuple[int, bytes]:
        """A frame of a log as its kind and payload; `offset`: where it would be in a plain log.

        An ending that its store wrote is plain, with the answer in an envelope. Of the others, only one that gives no
        answer may be plain: any other could be planted, to end a stream early.
        """
        if kind == CODED_FRAME:
            opened = frames(self._opened(LOG, key, flight, payload, most, _OFFSET.pack(offset)))
            if len(opened) != 1 or opened[0][0] == CODED_FRAME:
                raise Corrupt("store-corrupt")
            return opened[0]
        ending = ended_by(payload) if kind == END else None
        if ending is not None and ending.body:
            return kind, payload[: -len(ending.body)] + self.open_body(key, flight, ending.body, most)
        if ending is None or ending.outcome != FAILED:
            self._check_plain()
        return kind, payload

    def open_log(self, key: Key, flight: bytes, log: bytes, most: int) -> bytes:
        """A whole log without envelopes."""
        made: list[bytes] = []
        offset = 0
        for kind, payload in frames(log):
            made.append(frame(*self.open_frame(key, flight, kind, payload, offset, most)))
            offset += len(made[-1])
        return b"".join(made)

    def open_body(self, key: Key, flight: bytes, body: bytes, most: int) -> bytes:
        """The reverse of close_body."""
        if body[:1] != bytes([MARK]):
            self._check_plain()
            return body
        return self._opened(BODY, key, flight, body, most, None)

    # what is said of an answer, for people

    def close_text(self, key: Key, flight: bytes, text: bytes) -> bytes:
        """A text that describes an answer: encrypted if answers are."""
        return text if self._keys is None else self._enclosed(LABELS, key, flight, b"", text, None)

    def open_text(self, key: Key, flight: bytes, text: bytes) -> bytes:
        """The reverse of close_text."""
        return self._opened(LABELS, key, flight, text, len(text), b"")

    # notes

    def close_note(self, owner: bytes, name: bytes, data: bytes) -> bytes:
        """A note's data (core.notes): encrypted if answers are."""
        return data if self._keys is None else self._enclosed(NOTE, _named(name), owner, b"", data, None)

    def open_note(self, owner: bytes, name: bytes, data: bytes) -> bytes:
        """The reverse of close_note."""
        if data[:1] != bytes([MARK]):
            self._check_plain()
            return data
        return self._opened(NOTE, _named(name), owner, data, len(data), b"")

    # envelopes

    def _packed(self, data: bytes) -> bytes | None:
        return None if self._writer is None else self._writer.compress(data)

    def _check_plain(self) -> None:
        if self.encrypts:
            raise Corrupt(UNENCRYPTED)

    def _enclosed(
        self, purpose: bytes, key: Key, flight: bytes, binding: bytes, data: bytes, packed: bytes | None
    ) -> bytes:
        """An envelope around `data`, or around `packed`, which is the same compressed."""
        done = 0 if packed is None else COMPRESSED
        inside = data if packed is None else packed
        if self._keys is None:
            return bytes((MARK, done)) + inside
        first = self._keys.first
        context = _context(purpose, key, flight)
        nonce = blake2b(binding + inside, digest_size=NONCE, key=first.derived(b"n" + context)).digest()
        said = bytes((MARK, done | ENCRYPTED, len(first.id), len(binding))) + first.id + binding + nonce
        closed: bytes = first.cipher(context).encrypt(nonce, inside, said)
        return said + closed

    def _opened(
        self, purpose: bytes, key: Key, flight: bytes, envelope: bytes, most: int, binding: bytes | None
    ) -> bytes:
        """What is in an envelope. `binding`: what it must be bound to, None for anything."""
        if len(envelope) < 2 or envelope[0] != MARK or envelope[1] > COMPRESSED | ENCRYPTED:
            raise Corrupt(NO_CODEC)
        done = envelope[1]
        if done & ENCRYPTED:
            inside = self._decrypted(_context(purpose, key, flight), envelope, binding)
        else:
            self._check_plain()
            inside = envelope[2:]
        if done & COMPRESSED:
            return self._zstd.decompress(inside, most)
        return inside

    def _decrypted(self, context: bytes, envelope: bytes, binding: bytes | None) -> bytes:
        if len(envelope) < 4:
            raise Corrupt(UNAUTHENTIC)
        bound = 4 + envelope[2]
        at = bound + envelope[3]
        found = self._key(envelope[4:bound])
        if binding is not None and envelope[bound:at] != binding:
            raise Corrupt(UNAUTHENTIC)
        start = at + NONCE
        try:
            inside: bytes = found.cipher(context).decrypt(envelope[at:start], envelope[start:], envelope[:start])
        except Exception:  # noqa: BLE001 - InvalidTag, or ValueError for what is too short: both say the same
            raise Corrupt(UNAUTHENTIC) from None
        return inside

    def _key(self, name: bytes) -> KeyOf:
        found = self._keys.get(name) if self._keys is not None else None
        if found is None:
            raise Corrupt(NO_KEY)
        return found


def _named(name: bytes) -> Key:
    """The key of an entry's name. Any other bytes give some key, under which nothing decrypts."""
    form = name[-1:].decode("latin-1")
    return Key(name[:-1], form if form in FORMS else "v")  # type: ignore[arg-type]  # a Form


def _context(purpose: bytes, key: Key, flight: bytes) -> bytes:
    return b"".join((purpose, _FORMS[key.form], flight, key.digest))


_FORMS = {form: form.encode() for form in FORMS}


def described(said: Mapping[int, bytes]) -> dict[str, Any]:
    """How an entry is stored, by its extensions: `codec` with its dictionary, `cipher` with its key; "" if plainly."""
    codec, cipher = said.get(CODEC), said.get(CIPHER)
    return {
        "codec": "" if codec is None else Zstd.named(codec),
        "cipher": "" if cipher is None else cipher.decode("ascii", "replace"),
    }


PLAIN = Codec()
