"""A Recording: one file, and what the test that runs has asked of it, missed, and failed to have recorded.

Identical requests are told apart by their number within one test, so that a program that asks the same thing until it
hears what it wants hears the same story again. What could not be recorded gives its number back: a request that is
tried again after a 429 is still the first of its kind.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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


Taken = dict[int, object]  # numbers, each with a mark of whoever took it: a dict, for what one step of it does


@dataclass(slots=True)
class Turn:
    """One request of a test: its place in the file; `taken` are the numbers that its kind has in this test so far."""

    place: Place
    said: Said
    secrets: set[str]
    taken: Taken = field(default_factory=dict)


class Recording:
    """One file of recorded answers and what was asked for them, for every test that uses it.

    Without a lock, which a signal's handler that asks too would wait for in vain: each change is one step of a dict's.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.mode = mode
        self.file = RecordingFile(path, writes=mode == "record")
        self._asked: dict[str, tuple[Said, set[str]]] = {}  # by the digest of what was asked
        self._turns: dict[str, Turn] = {}  # by the digest of a request, its number in it
        self._taken: dict[tuple[str, str], Taken] = {}
        self._missed: dict[str, Turn] = {}
        self._troubles: dict[str, None] = {}
        self._refused: dict[str, str] = {}  # requests that replay did not send, and why nothing is recorded for them
        self._reasons: dict[str, str] = {}
        self._unrecorded: dict[str, Place | None] = {}

    def __reduce__(self) -> tuple[type[Recording], tuple[Path, str]]:
        """As its file: another process misses and numbers requests of its own."""
        return Recording, (self.path, self.mode)

    # requests

    def asks(self, said: Said, secrets: set[str]) -> bytes:
        """The digest of a request by what may be told of it: so two are told apart by what a reader sees."""
        digest = hashlib.sha256(keys.canonical(said)).digest()
        # All that were ever hidden in it: who asks the same at this moment may hide another.
        self._asked.setdefault(digest.hex(), (said, set()))[1].update(secrets)
        return digest

    def turn(self, key: Key) -> Key:
        """A request is made now: the key under which this one of its kind is kept."""
        said, secrets = self._asked.get(key.text, ({}, set()))
        taken = self._taken.setdefault((key.text, key.form), {})
        mine = object()
        nth = next(number for number in itertools.count() if taken.setdefault(number, mine) is mine)
        own = Key(hashlib.sha256(b"%b%b%d" % (key.digest, key.form.encode(), nth)).digest(), key.form)
        self._turns[own.text] = Turn(Place(key.text, key.form, nth), said, secrets, taken)
        return own

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Requests made inside are counted by themselves: what a fixture of several tests asks, it asks but once."""
        before, self._taken = self._taken, {}
        try:
            yield
        finally:
            self._taken = before

    def begin(self) -> None:
        """A test begins, or its clearing up."""
        self._taken = {}

    # answers

    def answer(self, key: Key) -> bytes | None:
        """What is recorded for a request; StoreTrouble is noted."""
        turn = self._turns.get(key.text)
        return self._noted(lambda: self.file.answer(turn.place)) if turn else None

    def writable(self) -> None:
        """StoreTrouble, noted, if nothing can be recorded: before a call is paid for."""
        self._noted(self.file.writable)

    def keep(self, key: Key, body: bytes) -> None:
        """Record an answer."""
        turn = self._turns.get(key.text)
        if turn is not None:
            answer = redacted(key.form, body, traces(turn.secrets))
            self._noted(lambda: self.file.keep(turn.place, keys.canonical(turn.said), answer))
            # What failed before, and was tried again with success, is recorded.
            self._unrecorded = {text: place for text, place in self._unrecorded.items() if place != turn.place}

    def _noted(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except StoreTrouble as trouble:
            self._troubles[str(trouble)] = None
            raise

    # what is to be said

    def heard(self, event: Event) -> None:
        """What became of a call; one whose answer was not kept gives its number back."""
        turn = self._turns.get(event.key) if event.name in _ENDED else None
        if turn is not None and self.mode == "record":
            turn.taken.pop(turn.place.nth, None)
            text = f"{report.title(turn.said, turn.place.form)}: {report.why(event.detail)}"
            self._unrecorded[text] = turn.place

    def passes(self, title: str, reason: str) -> None:
        """A request that cannot be recorded goes upstream; or does not, in replay."""
        if self.mode == "record":
            self._unrecorded[f"{title}: {report.why(reason)}"] = None
        self._reasons[title] = report.why(reason)

    def refused(self, title: str) -> str:
        """A request was kept from going upstream; why nothing could have been recorded for it."""
        self._refused[title] = self._reasons.get(title, report.why("unknown"))
        return self._refused[title]

    def missed(self, key: Key) -> None:
        """A request is not recorded."""
        turn = self._turns.get(key.text)
        if turn is not None:
            self._missed[key.text] = turn

    def told(self) -> str:
        """What went wrong since the last time, for whoever has to mend it; "" for nothing."""
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
        """What was asked since the last time and could not be recorded, and why."""
        unrecorded, self._unrecorded = self._unrecorded, {}
        return list(unrecorded)
