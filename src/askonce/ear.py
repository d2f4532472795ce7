"""Ears: how a caller hears what is said about a key in other processes.

All callers of a process who wait for one key are a Party. A word for the flight they follow wakes them all, but for a
failure, which wakes one: he claims, and the others look once his claim has an answer, so that they join his call
instead of making their own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.tape import ENDED, FAILED, Word


class Signal(Protocol):
    """What a waiting caller is woken by; `ring` may come from any thread."""

    def ring(self) -> None:
        """Wake the caller; a ring before the wait is not lost."""
        ...

    async def wait(self, timeout: float) -> bool:
        """Wait for a ring, at most `timeout` s; whether it came."""
        ...


class Ear:
    """One caller's share in what is said about a key. `words` are for the flight it follows; `ready`: look again."""

    def __init__(self, party: Party, signal: Signal) -> None:
        self.signal = signal
        self.words: deque[Word] = deque()
        self.again = False
        self.follows: tuple[bytes, int] | None = None
        self.parked = False
        self.leads = False  # a leader's ear: it hears who wants its stream, and is never sent ahead to claim
        self._party = party

    def ring(self, word: Word | None) -> None:
        """A word about the flight followed; None: look again."""
        if word is None:
            self.again = True
        else:
            self.words.append(word)
        self.parked = False
        self.signal.ring()

    @property
    def brought(self) -> tuple[bytes, Head] | None:
        """The entry of the flight followed, with its head, if another caller of this process has read it."""
        found = self._party.brought
        return found if found is not None and (found[1].fill, found[1].order) == self.follows else None

    def tell(self, data: bytes, head: Head) -> None:
        """This is the entry: whoever else follows its flight here need not read it again."""
        self._party.brought = (data, head)

    def claimed(self) -> None:
        """The caller's claim returned: those who left it to him to try may look themselves."""
        self._party.unpark(self)

    def close(self) -> None:
        """The caller waits no more; whoever was parked behind him is woken."""
        self._party.leave(self)


class Party:
    """All callers of this process who wait for one key."""

    def __init__(self, key: Key, lock: threading.RLock, left: Callable[[Party], None]) -> None:
        self.key = key
        self.ears: list[Ear] = []
        self.in_force = False
        self.brought: tuple[bytes, Head] | None = None
        self._lock = lock
        self._left = left

    def unpark(self, but: Ear) -> None:
        """Wake those who were left waiting when one of them was sent ahead."""
        with self._lock:
            parked = [ear for ear in self.ears if ear.parked and ear is not but]
        for ear in parked:
            ear.ring(None)

    def leave(self, ear: Ear) -> None:
        """Take an ear away, and the subscription with the last one."""
        with self._lock:
            if ear in self.ears:
                self.ears.remove(ear)
        self.unpark(ear)
        self._left(self)

    def hear(self, word: Word) -> None:
        """Pass a word on. A failure wakes one: the others look again once his claim has an answer."""
        mine = (word.flight, word.order)
        with self._lock:
            ears = [ear for ear in self.ears if ear.follows == mine]
            if word.kind == ENDED:
                for ear in self.ears:
                    if ear.follows != mine:
                        # It may be about to learn, from a claim under way, that this is the flight to follow.
                        ear.words.append(word)
                        ear.signal.ring()
                if word.outcome == FAILED:
                    ears = [ear for ear in ears if not ear.leads]
                    for ear in ears[1:]:
                        ear.parked = True
                    ears = ears[:1]
        for ear in ears:
            ear.ring(word)
