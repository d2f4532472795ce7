"""What compression and encryption cost a hit, what compression saves in Redis, and what a changed bit comes to."""

from __future__ import annotations

import os
from typing import Any

import orjson

from askonce import Cache, Keys
from askonce.core.codec import Codec
from askonce.core.keys import Key
from askonce.core.model import FIELDS, SCOPE, Corrupt, Lifetime, Snapshot, read_entry
from bench.compare import Pair, Ratio, pair
from bench.hits import THREADS, hitting, turns
from bench.places import nowhere, valkey
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.stored import beside_set

ENTRIES = 1_000
TAMPERED_BITS = 8  # of each entry, in a quick run; otherwise all


@row(stores=(valkey,), modes=THREADS, ratio=Ratio("encrypted", "plain", 0.006, added=True))
def hit_encrypted(case: Case) -> Pair:
    """what a hit on Valkey takes more if entries are encrypted, 2 KB question and answer.

    Bar: <= 6 us more.
    """
    return _beside(case, encryption=Keys({"bench": os.urandom(32)}))


@row(stores=(valkey,), modes=THREADS, ratio=Ratio("compressed", "plain", 0.015, added=True))
def hit_compressed(case: Case) -> Pair:
    """what a hit on Valkey takes more if answers are compressed, 2 KB question and answer.

    Bar: <= 15 us more.
    """
    return _beside(case, compress="zstd")


def _beside(case: Case, **options: Any) -> Pair:
    request = question("sealed")
    plainly: dict[str, Any] = {"compress": "off", "encryption": False}
    with (
        Cache(case.place.url, prefix="sealed", **{**plainly, **options}) as sealed,
        Cache(case.place.url, prefix="plain", **plainly) as plain,
    ):
        return pair(hitting(sealed, [request]), hitting(plain, [request]), turns(case))


@row(heavy=True, stores=(valkey,), modes=THREADS)
def memory_compressed(case: Case) -> Seen:
    """used_memory over 100,000 entries of corpus bodies, compressed, against plain SET of 64-hex names and bodies.

    Bar: <= 0.5.

    As `memory`, with compress="zstd" and its dictionary.
    """
    return beside_set(case, 0.5, compress="zstd")


@row(heavy=True, stores=(nowhere,), modes=THREADS)
def flipped(case: Case) -> Seen:
    """every bit of 1,000 encrypted entries, flipped alone: what a reader makes of the entry.

    Bar: a visible miss, always.
    """
    codec, entries = Codec(compress=True, keys=Keys({"bench": os.urandom(32)})), 20 if case.quick else ENTRIES
    read = tried = 0
    for number in range(entries):
        key, entry = _entry(codec, number)
        step = 8 * len(entry) // TAMPERED_BITS if case.quick else 1
        for at in range(0, 8 * len(entry), step):
            tried += 1
            read += _readable(codec, key, entry, at)
    return Seen(f"{read} of {tried} changed entries could be read", not read, {"read": read}, f"{entries} entries")


def _entry(codec: Codec, number: int) -> tuple[Key, bytes]:
    key, body = Key(os.urandom(32)), orjson.dumps(answer(f"flipped {number}", 200))
    said = {SCOPE: b"support/triage", FIELDS: b"\0\1"}
    sealed = codec.seal(key, os.urandom(16), 5, Snapshot(bytes(8), 1), 60_000, said, body)
    return key, sealed.dated(Lifetime(60_000, 0, 0, 60_000).dates(1_800_000_000_000))


def _readable(codec: Codec, key: Key, entry: bytes, at: int) -> bool:
    changed = bytearray(entry)
    changed[at // 8] ^= 1 << at % 8
    data = bytes(changed)
    try:
        codec.open_entry(key, data, read_entry(data, key.digest, key.form), 2**20)
    except Corrupt:
        return False
    return True
