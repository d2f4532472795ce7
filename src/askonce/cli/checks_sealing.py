"""What the doctor says of compression and encryption: which keys are here, and which ones the entries need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from askonce.cache import sealing
from askonce.cli import say
from askonce.cli.check import Check
from askonce.core import labels
from askonce.core.codec import Codec
from askonce.core.keyring import Keys
from askonce.core.model import entry_fields
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble, inventory
from askonce.store.inventory import Listed

SAMPLE = 50_000  # entries that are counted: some seconds


class Counted(NamedTuple):
    """The entries that were met, by the id of their key ("" for none), and those whose labels have other fields."""

    by_key: Counter[str]
    misnamed: int
    all: bool


def sealing_checks(store: Store) -> Iterator[Check]:
    """Lines about the codec of this environment, and about the entries of this prefix."""
    codec = sealing.codec_of(None, None)
    keys = codec.keys
    try:
        counted = drive(_count(store, codec))
    except StoreTrouble as trouble:
        yield Check("keys", f"cannot tell which keys the entries need: {trouble}", "hint")
        return
    if (compression := sealing.find_compression(None)) != "off":
        yield Check("compress", compression)
    if keys is not None or set(counted.by_key) - {""}:
        yield _keys(keys, counted)
    if keys is not None and keys.names_from:
        yield Check(
            "names",
            f"the digests of questions are keyed with a secret derived from the key {keys.names_from}",
            "hint",
            f"before you remove {keys.names_from}, give the secret a line of its own: askonce keys --file FILE --add",
        )
    if counted.misnamed:
        yield Check(
            "names",
            f"{say.count(counted.misnamed, 'entry is', 'entries are')} named with another secret: no lookup finds them",
            "bad",
            "use the ring of keys of the processes that store here: its line names=, or its last key, differs",
        )


async def _count(store: Store, codec: Codec) -> Counted:
    keys = codec.keys
    by_key, misnamed, met = Counter[str](), 0, 0
    async for record, head, live in inventory.records(store):
        entry = inventory.listed(record, head, live, codec)
        by_key[entry.cipher] += 1
        if keys is not None and entry.cipher and entry.readable:
            misnamed += not set(_fields(entry, keys)) <= set(entry_fields(record.header, head))
        met += 1
        if met == SAMPLE:
            break
    return Counted(by_key, misnamed, met < SAMPLE)


def _fields(entry: Listed, keys: Keys) -> tuple[int, ...]:
    return labels.fields(entry.scope, entry.model, entry.tags, keys.names.labels)


def _keys(keys: Keys | None, counted: Counted) -> Check:
    ring = () if keys is None else keys.ids
    parts = [f"{name}{' (encrypts)' * (name == ring[0])}: {counted.by_key[name]}" for name in ring]
    foreign = {name: number for name, number in counted.by_key.items() if name and name not in ring}
    parts += [f"{name}, which is not here: {number}" for name, number in sorted(foreign.items())]
    if plain := counted.by_key[""]:
        parts.append(f"not encrypted: {plain}")
    said = f"entries by key{'' if counted.all else f', of the first {SAMPLE}'}: " + ", ".join(parts)
    if foreign:
        remedy = f"add {', '.join(sorted(foreign))} to $ASKONCE_KEYS; without them these entries are misses"
        return Check("keys", said, "bad" if keys is not None else "hint", remedy)
    if plain and keys is not None:
        return Check("keys", said, "hint", "those that are not encrypted are not served: they go when they expire")
    return Check("keys", said)
