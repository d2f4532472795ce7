"""A Recording: one file, and what the running test requested, missed, and failed to record.

Equal requests are numbered within one test, so that a program that repeats a request until it likes the answer replays
the same sequence. A request that could not be recorded returns its number: after a 429, the retry is still the first of
its kind.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from askonce.cache.sealing import Encryption, codec_of, portable
from askonce.core import keys
from askonce.core.keys import Key
from askonce.core.secrets import traces
from askonce.events import Event
from askonce.recording import report
from askonce.recording.answers import redacted
from askonce.recording.file import Place, RecordingFile
from askonce.recording.report import Said
from askonce.store import StoreTrouble

T = TypeVar("T")

_ENDED = {"unstored", "failed", "dropped"}  # events after which an answer was not kept


Taken = dict[int, object]  # numbers, each with a mark of its owner; a dict, because each of its methods is atomic


@dataclass(slots=True)
class Turn:
    """One request of a test: its place in the file; `taken`: the numbers that its kind has in this test so far."""

    place: Place
    said: Said
    secrets: set[str]
    taken: Taken = field(default_factory=dict)


class Recording:
    """One file of recorded answers and their requests, for every test that uses it.

    It has no lock, which a signal handler that makes a request could wait for without end. Each change is one step of a
    dict.
    """

    def __init__(
        self, path: Path, mode: str, *, compress: str | bool = "off", encryption: Encryption | None = False
    ) -> None:
        """`compress` and `encryption` as of a Cache, but for the environment, which says nothing about a recording."""
        self.path = path
        self.mode = mode
        self._sealing: dict[str, Any] = {"compress": compress, "encryption": portable(encryption)}
        codec = codec_of(compress, encryption)
        self._names = codec.names
        self.file = RecordingFile(path, writes=mode == "record", codec=codec)
        self._asked: dict[str, tuple[Said, set[str]]] = {}  # by the digest of a request
        self._turns: dict[str, Turn] = {}  # by the digest of a request with its number
        self._taken: dict[tuple[str, str], Taken] = {}
        self._missed: dict[str, Turn] = {}
        self._troubles: dict[str, None] = {}
        self._refused: dict[str, str] = {}  # requests that replay did not send, and why nothing is recorded for them
        self._reasons: dict[str, str] = {}
        self._unrecorded: dict[str, Place | None] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the file: another process counts and misses requests of its own."""
        return partial(Recording, **self._sealing), (self.path, self.mode)

    # requests

    def asks(self, request: Said, secrets: set[str]) -> bytes:
        """The digest of a request by what may be shown of it, so that requests differ where a reader sees that."""
        digest = hashlib.sha256(keys.canonical(request)).digest()
        if self._names is not None:
            digest = self._names.digest(digest)
        # The union of all secrets: a caller with the same request at this moment may hide another one.
        self._asked.setdefault(digest.hex(), (request, set()))[1].update(secrets)
        return digest

    def turn(self, key: Key) -> Key:
        """The key of the request that is made now, with its number."""
        request, secrets = self._asked.get(key.text, ({}, set()))
        taken = self._taken.setdefault((key.text, key.form), {})
        mine = object()
        nth = next(number for number in itertools.count() if taken.setdefault(number, mine) is mine)
        own = Key(hashlib.sha256(b"%b%b%d" % (key.digest, key.form.encode(), nth)).digest(), key.form)
        self._turns[own.text] = Turn(Place(key.text, key.form, nth), request, secrets, taken)
        return own

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Number the requests made inside separately: a fixture of several tests makes them only once."""
        before, self._taken = self._taken, {}
        try:
            yield
        finally:
            self._taken = before

    def begin(self) -> None:
        """Start a test, or its teardown."""
        self._taken = {}

    # answers

    def answer(self, key: Key) -> bytes | None:
        """What is recorded for a request; StoreTrouble is noted."""
        turn = self._turns.get(key.text)
        return self._noted(lambda: self.file.answer(turn.place)) if turn else None

    def writable(self) -> None:
        """Check that answers can be recorded, before a call is paid for; StoreTrouble, also noted, if not."""
        self._noted(self.file.writable)

    def keep(self, key: Key, body: bytes) -> None:
        """Record an answer."""
        turn = self._turns.get(key.text)
        if turn is not None:
            answer = redacted(key.form, body, traces(turn.secrets))
            self._noted(lambda: self.file.keep(turn.place, keys.canonical(turn.said), answer))
            # A failure whose retry succeeded is recorded.
            self._unrecorded = {text: place for text, place in self._unrecorded.items() if place != turn.place}

    def _noted(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except StoreTrouble as trouble:
            self._troubles[str(trouble)] = None
            raise

    # what is to be said

    def heard(self, event: Event) -> None:
        """Note an event of a call; a call whose answer was not kept returns its number."""
        turn = self._turns.get(event.key) if event.name in _ENDED else None
        if turn is not None and self.mode == "record":
            turn.taken.pop(turn.place.nth, None)
            text = f"{report.title(turn.said, turn.place.form)}: {report.why(event.detail)}"
            self._unrecorded[text] = turn.place

    def passes(self, title: str, reason: str) -> None:
        """Note a request that cannot be recorded: it goes upstream, except in replay."""
        if self.mode == "record":
            self._unrecorded[f"{title}: {report.why(reason)}"] = None
        self._reasons[title] = report.why(reason)

    def refused(self, title: str) -> str:
        """Note a request kept from going upstream, and why nothing could have been recorded for it."""
        self._refused[title] = self._reasons.get(title, report.why("unknown"))
        return self._refused[title]

    def missed(self, key: Key) -> None:
        """Note a request that is not recorded."""
        turn = self._turns.get(key.text)
        if turn is not None:
            self._missed[key.text] = turn

    def told(self) -> str:
        """What went wrong since the last call, for the author of the test; "" for nothing."""
        missed, self._missed = self._missed, {}
        refused, self._refused = self._refused, {}
        troubles, self._troubles = self._troubles, {}
        lines = [f"askonce: {trouble}" for trouble in troubles]
        if missed or refused:
            number = len(missed) + len(refused)
            lines.append(f"askonce: {number} request(s) of this test are not recorded in {self.path}")
            for turn in missed.values():
                lines += ["", f"  {report.title(turn.said, turn.place.form)}", *self._missing(turn)]
            for title, why in refused.items():
                lines += ["", f"  {title}", f"    cannot be recorded: {why}"]
            lines += ["", "  to record what is missing: pytest --askonce=record"] if missed else []
        return "\n".join(lines)

    def _missing(self, turn: Turn) -> list[str]:
        place = turn.place
        try:
            recorded = self.file.count(place)
            return report.missing(turn.said, place.form, place.nth + 1, recorded, self.file.asked())
        except StoreTrouble as trouble:
            return [f"    {trouble}"]

    def unrecorded(self) -> list[str]:
        """What could not be recorded since the last call, and why."""
        unrecorded, self._unrecorded = self._unrecorded, {}
        return list(unrecorded)
