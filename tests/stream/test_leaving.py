"""A reader that is dropped: its leaving is sent to its own thread or loop, which may never run it."""

from __future__ import annotations

from typing import Any

from askonce.stream import tape as module
from askonce.stream.tape import Playback, Tape
from tests.crowd import eventually


class Lost:
    """A mode whose loop is not run any more: nothing that is sent there begins."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def signal(self) -> Any:
        return None

    def send(self, _signal: Any, work: Any) -> None:
        self.sent.append(work)


def test_a_reader_whose_leaving_never_begins_counts_for_a_moment_and_no_longer(monkeypatch):
    monkeypatch.setattr(module, "LEAVING", 0.05)
    tape, mode, notes = Tape(), Lost(), []
    reader = Playback(tape, mode, left=lambda: None, defer=notes.append)
    del reader
    assert tape.being_left(), "the background thread is yet to see to it"
    (note,) = notes
    note()
    assert len(mode.sent) == 1
    eventually(lambda: not tape.being_left(), "its flight is somebody's no more", patience=1.0)
