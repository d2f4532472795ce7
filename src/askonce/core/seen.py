"""What notes say: what became of a call (Seen), and that answers were invalidated (Invalidated).

Their texts are the operator's own (scope, model, a label that was invalidated) and words of statuses. Of a request
there are digests only, keyed with a secret of its owner, so that what one owner asked says nothing about another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from askonce.core.labels import field
from askonce.core.lease import Generations
from askonce.core.model import Corrupt, pack_extensions, pack_fields, unpack_fields, unpack_pairs
from askonce.core.notes import NAME, OWNER
from askonce.core.providers.named_tuples import NamedTuple

SAID, TREE, FIELDS, LABELS, GONE = range(1, 6)
LABEL = 4  # bytes of a label's digest
LABELS_MAX = 32  # labels of one invalidation that are noted
TEXT_MAX = 200  # characters of a text
EVERY = bytes(NAME - 1) + b"v"  # the name of an invalidation that is not of one question

Label = tuple[str, str]  # ``scope``, ``model`` or ``tag``, and its text


class Owner(NamedTuple):
    """Whose notes they are: what a store files them under, and the secret of their digests."""

    id: bytes
    secret: bytes


def owner_of(prefix: str, asker: str, key: bytes = b"") -> Owner:
    """The owner of the notes of a tenant or credential. `key`: the secret for notes, if answers are encrypted."""
    said = orjson.dumps([prefix.encode("utf-8", "surrogatepass").hex(), asker.encode("utf-8", "surrogatepass").hex()])
    return owner_named(blake2b(said, digest_size=OWNER, key=key, person=b"askonce owner").digest(), key)


def owner_named(name: bytes, key: bytes = b"") -> Owner:
    """An owner by its id."""
    return Owner(name, blake2b(name, key=key, digest_size=32, person=b"askonce fields").digest())


class Seen(NamedTuple):
    """What became of a call. Spans in ms; `lag`: from its end until it is noted.

    `unstored`: why its answer was not stored, "" if it was; `failed`: there was none; `refresh`: nobody waited for it.
    `fresh`, `hard`: how long the answer is fresh, and servable at all. `held`: until when the caller would have taken
    the entry before (ms since 1970), 0 if there was none. `wanted`: why it wanted none: ``request``, ``unverified``, or
    "". `epoch`, `clock`: the generation when the call began; `fields`, `labels`: what can invalidate the answer.
    """

    flight: bytes
    unstored: str = ""
    failed: bool = False
    refresh: bool = False
    model: str = ""
    scope: str = ""
    took: int = 0
    lag: int = 0
    fresh: int = 0
    hard: int = 0
    held: int = 0
    wanted: str = ""
    epoch: bytes = b""
    clock: int = 0
    fields: tuple[int, ...] = ()
    labels: tuple[bytes, ...] = ()
    tree: bytes = b""

    def packed(self) -> bytes:
        """As bytes."""
        said = {name: value for name, value in self._asdict().items() if value and name not in _APART}
        said |= {"flight": self.flight.hex(), "epoch": self.epoch.hex()}
        said |= {name: cut(said[name]) for name in ("model", "scope", "unstored") if name in said}
        parts = {SAID: orjson.dumps(said), FIELDS: pack_fields(self.fields), LABELS: b"".join(self.labels)}
        return pack_extensions({kind: value for kind, value in {**parts, TREE: self.tree}.items() if value})


class Invalidated(NamedTuple):
    """That answers were invalidated: by `labels`, or `everything`; or one question was forgotten."""

    labels: tuple[Label, ...] = ()
    everything: bool = False
    lag: int = 0

    def packed(self) -> bytes:
        """As bytes."""
        labels = [[kind, cut(text)] for kind, text in self.labels[:LABELS_MAX]]
        return pack_extensions({GONE: orjson.dumps([self.everything, self.lag, labels])})


_APART = frozenset({"flight", "epoch", "fields", "labels", "tree"})
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("unstored", "model", "scope", "wanted"), str),
    **dict.fromkeys(("failed", "refresh"), bool),
    **dict.fromkeys(("took", "lag", "fresh", "hard", "held", "clock"), int),
}


def read_note(data: bytes) -> Seen | Invalidated:
    """What a note says; ValueError for other bytes."""
    try:
        parts = dict(unpack_pairs(data))
        if GONE in parts:
            everything, lag, labels = orjson.loads(parts[GONE])
            return Invalidated(tuple((str(kind), str(text)) for kind, text in labels), bool(everything), _of(int, lag))
        return _seen(parts, orjson.loads(parts[SAID]))
    except (Corrupt, KeyError, TypeError, AttributeError) as wrong:
        raise ValueError("no note") from wrong


def _seen(parts: Mapping[int, bytes], said: dict[str, Any]) -> Seen:
    labels = parts.get(LABELS, b"")
    return Seen(
        bytes.fromhex(said["flight"]),
        epoch=bytes.fromhex(said["epoch"]),
        fields=unpack_fields(parts.get(FIELDS, b"")[: len(parts.get(FIELDS, b"")) // 2 * 2]),
        labels=tuple(labels[at : at + LABEL] for at in range(0, len(labels), LABEL)),
        tree=parts.get(TREE, b""),
        **{name: _of(kind, said[name]) for name, kind in _KINDS.items() if name in said},
    )


def _of(kind: type, value: Any) -> Any:
    """The value, if it is of a type; TypeError for what no note of ours holds."""
    if type(value) is not kind:
        raise TypeError(value)
    return value


def cut(text: str) -> str:
    """A text of a bounded length, of whole characters."""
    return text[:TEXT_MAX].encode("utf-8", "replace").decode()


# --- labels and generations --------------------------------------------------------------------------------------


def digest_of(label: Label, key: bytes = b"") -> bytes:
    """The digest of a label: a generation field has 14 bits only, and another label may share it."""
    return blake2b("\0".join(label).encode("utf-8", "replace"), digest_size=LABEL, key=key).digest()


def reached_by(seen: Seen, by: Invalidated, key: bytes = b"", secret: bytes = b"") -> str:
    """What of an invalidation reaches an answer: ``tag doc:42``, ``everything``; "" if nothing does.

    `key`: of the labels' digests; `secret`: of their fields.
    """
    if by.everything:
        return "everything"
    for kind, text in by.labels:
        if digest_of((kind, text), key) in seen.labels and field(kind, text, secret) in seen.fields:
            return f"{kind} {text}"
    return ""


def survives(seen: Seen, generations: Generations, until: Seen | None = None) -> bool:
    """Whether no invalidation reached an answer, as far as these generations tell. `until`: before that call began."""
    if seen.epoch != (until.epoch if until is not None and until.epoch else generations.epoch):
        return False
    last = until.clock if until is not None and until.epoch else generations.clock
    moved = [when for one in seen.fields if (when := generations.moved.get(one))]
    return not any(seen.clock < when <= last for when in (*moved, generations.floor))


def labels_of(scopes: Iterable[str], model: str, tags: Sequence[str]) -> list[Label]:
    """The labels of a question."""
    return [
        *(("scope", one) for one in scopes),
        *(("tag", one) for one in tags),
        *([("model", model)] if model else []),
    ]
