"""What became of a call, or that answers were invalidated, as notes for explanations (core.seen).

The background thread makes and writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from askonce.core.codec import Codec
from askonce.core.field_digests import Digests, packed
from askonce.core.keys import RAW, Key
from askonce.core.labels import scope_paths
from askonce.core.lease import taken_until
from askonce.core.model import Lifetime
from askonce.core.notes import EVERYONE, Note
from askonce.core.parts import LARGEST, Later, Parts
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.seen import EVERY, Invalidated, Label, Owner, Seen, digest_of, labels_of, owner_of
from askonce.engine.question import Plan, Question
from askonce.flight.flight import Flight
from askonce.flight.guarded_store import GuardedStore

OWNERS = 64  # whose digests of names are remembered
NONE = Lifetime(0, 0, 0, 0)


class _Ended(NamedTuple):
    """A call that ended, and what its note is made of."""

    key: Key
    plan: Plan
    parts: Parts | Later
    seen: Seen


class Noting:
    """Notes the calls and invalidations of one engine."""

    def __init__(self, guarded: GuardedStore) -> None:
        self._queue = guarded.background.notes
        self._codec: Codec = guarded.codec
        self._prefix = guarded.store.prefix
        self._known: dict[bytes, dict[str, bytes]] = {}

    def ended(
        self,
        flight: Flight,
        question: Question,
        unstored: str,
        *,
        failed: bool = False,
        life: Lifetime = NONE,
        seconds: float = 0.0,
    ) -> None:
        """Note what became of a call. One that brought nothing for an entry that may still be there is not noted."""
        if question.parts is None or not question.plan.noted or (unstored and flight.is_refresh):
            return
        created, fresh, stale, error = life.dates(0)
        epoch, clock = (b"", 0) if flight.grant is None else flight.grant.snapshot
        seen = Seen(
            flight.id,
            unstored,
            failed,
            model=question.model,
            scope=question.plan.scope,
            took=int(seconds * 1000),
            fresh=fresh,
            hard=max(created, fresh, stale, error),
            refresh=flight.is_refresh,
            held=taken_until(question.held, question.limits) if question.held is not None else 0,
            wanted="unverified" if question.unverified else "request" * (question.forwarded == "request"),
            epoch=epoch,
            clock=clock,
            fields=question.fields,
        )
        ended = _Ended(question.key, question.plan.unfiltered, light(question.key, question.parts), seen)
        what, size = (question.key, unstored or flight.id), ended.parts.size
        if self._queue.add(what, size, lambda lag: self._note(ended, lag), once=bool(unstored)):
            question.flight = flight.id

    def _note(self, ended: _Ended, lag: int) -> Note:
        parts, plan, seen = ended.parts(), ended.plan, ended.seen
        secret = b"" if plan.names is None else plan.names.notes
        owner = owner_of(plan.prefix, parts.asker, secret)
        labels = labels_of(scope_paths(plan.scope), seen.model, plan.tags)
        digests = tuple(digest_of(label, secret) for label in labels)
        seen = seen._replace(lag=lag, labels=digests, tree=packed(self._digests(owner).tree(parts.fields())))
        name = ended.key.name
        return Note(plan.prefix, owner.id, name, self._codec.close_note(owner.id, name, seen.packed()))

    def invalidated(self, keys: Sequence[Key], labels: Sequence[Label], *, everything: bool) -> None:
        """Note an invalidation that was acknowledged."""
        for key in keys:
            self._tell(key.name, Invalidated())
        if not keys:
            self._tell(EVERY, Invalidated(tuple(labels), everything))

    def _tell(self, name: bytes, said: Invalidated) -> None:
        def note(lag: int) -> Note:
            data = self._codec.close_note(EVERYONE, name, said._replace(lag=lag).packed())
            return Note(self._prefix, EVERYONE, name, data)

        self._queue.add((name, said), 0, note)

    def _digests(self, owner: Owner) -> Digests:
        known = self._known.get(owner.id)
        if known is None:
            if len(self._known) >= OWNERS:
                self._known.clear()
            known = self._known[owner.id] = {}
        return Digests(owner.secret, known)


def light(key: Key, parts: Parts | Later) -> Parts | Later:
    """The parts without a very large body, which would wait in memory, and is not taken apart in any case."""
    if parts.size <= LARGEST:
        return parts
    return parts()._replace(body=_instead(key))


def _instead(key: Key) -> bytes:
    return RAW + sha256(key.digest).hexdigest().encode()
