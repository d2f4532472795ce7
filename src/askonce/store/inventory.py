"""A walk through a store: what is there, what can still be served, and what may be deleted.

For people and commands, never for lookups: it reads headers in small steps, and takes as long as it needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace

from askonce.core.codec import PLAIN, Codec, described
from askonce.core.keys import Key
from askonce.core.lease import Generations, valid
from askonce.core.model import (
    DURATION,
    FORMS,
    MODEL,
    SCOPE,
    TAGS,
    Corrupt,
    Head,
    Snapshot,
    entry_fields,
    read_entry,
    read_head,
    unpack_extensions,
)
from askonce.core.tape import DATA, frames
from askonce.store import STEP_BYTES, Record, Store

ANY_SIZE = 2**28  # bytes of an answer that is shown, however large the largest one of its cache may be
STEP = 500  # entries in a step: some milliseconds of the store's time


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as `ls` shows it. `created`, and until when it is `fresh`, `stale`, served on `error`: in s since 1970
    by the store's clock. `took` in s, `size` in bytes.

    `key`: 64 hex digits. `form`: ``v`` a value, ``j`` JSON over HTTP, ``s`` a stream. `scope`, `model`, `tags`: its
    labels. `live`: no invalidation reached it (it may still be past its dates). `codec`, `cipher`: how it is
    compressed, and the id of the key that it is encrypted with, "" if it is not. `readable`: False if that key is not
    here, so that its labels are unknown.
    """

    key: str
    form: str
    scope: str
    model: str
    tags: tuple[str, ...]
    created: float
    fresh: float
    stale: float
    error: float
    took: float
    size: int
    live: bool
    codec: str = ""  # how it is compressed
    cipher: str = ""  # the id of the key that it is encrypted with
    readable: bool = True  # False: it is encrypted, and the key is not here, so scope, model and tags are unknown


async def records(store: Store) -> AsyncIterator[tuple[Record, Head, bool]]:
    """Every readable entry with its head, and whether its generation still stands."""
    standing = await store.standing()
    cursor = b""
    while True:
        cursor, seen = await store.scan(cursor, STEP)
        for record in seen:
            try:
                head = read_head(record.header)
                yield record, head, _stands(record, head, standing)
            except Corrupt:
                continue
        if not cursor:
            return


def _stands(record: Record, head: Head, standing: Sequence[Generations]) -> bool:
    generations = standing[head.digest[0] % len(standing)]
    return valid(Snapshot(head.epoch, head.clock), entry_fields(record.header, head), generations)


def listed(record: Record, head: Head, live: bool, codec: Codec = PLAIN) -> Listed:
    """An entry as words and numbers."""
    told = unpack_extensions(record.header, head)
    stored = described(told)
    readable = codec.has(told)
    try:
        told = codec.open_labels(head, told)
    except Corrupt:
        readable = False
    text = {kind: told.get(kind, b"").decode("utf-8", "replace") for kind in (SCOPE, MODEL, TAGS)}
    return Listed(
        key=head.digest.hex(),
        form=head.form,
        scope=text[SCOPE],
        model=text[MODEL],
        tags=tuple(text[TAGS].split("\0")) if text[TAGS] else (),
        created=head.created / 1000,
        fresh=head.fresh / 1000,
        stale=head.stale / 1000,
        error=head.error / 1000,
        took=int.from_bytes(told.get(DURATION, b"")[:8], "big") / 1000,
        size=record.size,
        live=live,
        readable=readable,
        **stored,
    )


async def read(store: Store, key: Key, codec: Codec = PLAIN) -> tuple[Listed, bytes | None] | None:
    """One entry, and its body without askonce's own framing; None if it is absent or damaged.

    No body, if the codec cannot open it.
    """
    data = await store.entry(key)
    if data is None:
        return None
    try:
        head = read_entry(data, key.digest, key.form)
    except Corrupt:
        return None
    record = Record(b"", data, len(data))
    entry = listed(record, head, _stands(record, head, await store.standing()), codec)
    try:
        body = codec.open_entry(key, data, head, ANY_SIZE)[head.length :]
    except Corrupt:
        return replace(entry, readable=False), None
    return entry, _plain(key.form, body)


def _plain(form: str, body: bytes) -> bytes:
    if form == "s":
        return b"".join(payload[4:] for kind, payload in frames(body) if kind == DATA)
    if form == "j":
        return body[4 + int.from_bytes(body[:4], "big") :]
    return body


async def now_us(store: Store) -> int:
    """The store's clock, us since 1970: ours does not count."""
    return (await store.look(Key(bytes(32)), ())).now_us


async def reached(store: Store, fields: Iterable[int], keys: Iterable[Key] = (), *, everything: bool = False) -> int:
    """How many live entries an invalidation of these fields, or of these keys in all their forms, would reach now."""
    wanted, named = set(fields), set(keys)
    count = 0
    now = await now_us(store) // 1000
    async for record, head, live in of_keys(store, named) if named else records(store):
        whole = everything or named or wanted.intersection(entry_fields(record.header, head))
        if live and now < head.hard and whole:
            count += 1
    return count


async def of_keys(store: Store, keys: Iterable[Key]) -> AsyncIterator[tuple[Record, Head, bool]]:
    """The same as `records`, of these keys alone: without a walk."""
    standing = await store.standing()
    for key in {one._replace(form=form) for one in keys for form in FORMS}:  # type: ignore[arg-type]  # a Form
        if (data := await store.entry(key)) is None:
            continue
        with contextlib.suppress(Corrupt):
            head = read_entry(data, key.digest, key.form)
            record = Record(b"", data, len(data))
            yield record, head, _stands(record, head, standing)


async def sweep(store: Store) -> AsyncIterator[tuple[int, int]]:
    """Delete the entries that can serve no lookup any more. After each step, yield (entries met, deleted) so far."""
    met = gone = 0
    dead: list[Record] = []
    async for record, _, live in records(store):
        met += 1
        if not live:
            dead.append(record)
        if met % STEP == 0:
            gone += await _discarded(store, dead)
            yield met, gone
    gone += await _discarded(store, dead)
    yield met, gone


async def _discarded(store: Store, dead: list[Record]) -> int:
    """Discard all of them, a few megabytes at a time: others wait to write meanwhile."""
    gone = size = 0
    some: list[Record] = []
    for one in dead:
        some.append(one)
        size += one.size
        if size >= STEP_BYTES or one is dead[-1]:
            gone += await store.discard(some)
            some, size = [], 0
    dead.clear()
    return gone


async def raze(store: Store) -> AsyncIterator[int]:
    """Delete everything of a prefix that is no longer used. After each step, yield how much was deleted so far."""
    gone = 0
    while step := await store.raze(STEP):
        gone += step
        yield gone
