"""Ears: how a caller hears what is said about a key in other processes.

All callers of a process who wait for one key are a Party. A word for the flight they follow wakes them all, but for a
failure, which wakes one: he claims, and the others look once his claim has an answer, so that they join his call
instead of making their own.
"""

from __future__ import annotations

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


class Owner(Protocol):
    """Who has something here, and may end without giving it back."""

    def alive(self) -> bool:
        """Whether it still runs, or may yet. Asked from any thread."""
        ...


class Ear:
    """One caller's share in what is said about a key. `words` are for the flight it follows; `again`: look again.

    `owner`: whose it is, if it is to be taken away when he does not live any more.
    """

    def __init__(self, party: Party, signal: Signal, owner: Owner | None = None) -> None:
        self.signal = signal
        self.owner = owner
        self.words: deque[Word] = deque()
        self.again = False
        self.follows: tuple[bytes, int] | None = None
        self.parked = False
        self.leads = False  # a leader's ear: it hears who wants its stream, and is never sent ahead to claim
        self.party = party  # changed by the background thread alone

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
        found = self.party.brought
        return found if found is not None and (found[1].fill, found[1].order) == self.follows else None

    def tell(self, data: bytes, head: Head) -> None:
        """This is the entry: whoever else follows its flight here need not read it again."""
        self.party.brought = (data, head)

    def claimed(self) -> None:
        """The caller's claim returned: those who left it to him to try may look themselves."""
        self.party.unpark(self)

    def close(self) -> None:
        """The caller waits no more; whoever was parked behind him is woken."""
        left = None
        while left is not self.party:
            left = self.party
            left.leave(self)


class Party:
    """All callers of this process who wait for one key.

    Without a lock, which a finaliser might want while its own thread holds it. Callers add and take away their ears,
    each by one step of a dict; all else is the background thread's: it alone subscribes, passes words on, and ends a
    party.
    """

    def __init__(self, key: Key, look: Callable[[Party], None]) -> None:
        self.key = key
        self.ears: dict[Ear, None] = {}
        self.subscribed = False
        self.in_force = False
        self.brought: tuple[bytes, Head] | None = None
        self._look = look

    def unpark(self, but: Ear) -> None:
        """Wake those who were left waiting when one of them was sent ahead."""
        for ear in list(self.ears):
            if ear.parked and ear is not but:
                ear.ring(None)

    def leave(self, ear: Ear) -> None:
        """Take an ear away, and the subscription with the last one."""
        self.ears.pop(ear, None)
        self.unpark(ear)
        if not self.ears:
            self._look(self)

    def hear(self, word: Word) -> None:
        """Pass a word on. A failure wakes one: the others look again once his claim has an answer."""
        mine = (word.flight, word.order)
        ears = list(self.ears)
        told = [ear for ear in ears if ear.follows == mine]
        if word.kind == ENDED:
            for ear in ears:
                if ear.follows != mine:
                    # It may be about to learn, from a claim under way, that this is the flight to follow.
                    ear.words.append(word)
                    ear.signal.ring()
            if word.outcome == FAILED:
                told = self._ahead([ear for ear in told if not ear.leads])
        for ear in told:
            ear.ring(word)
        if told and told[0] not in self.ears:
            self.unpark(told[0])  # it left just now, perhaps before the others were parked behind it

    @staticmethod
    def _ahead(ears: list[Ear]) -> list[Ear]:
        for ear in ears[1:]:
            ear.parked = True
        return ears[:1]
