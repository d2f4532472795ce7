"""Waits for several flights of other callers at once: one signal, and their answers read in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from askonce.core.keys import Key
from askonce.core.lease import NEVER, Follow
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.tape import FAILED, SHARED, STORED
from askonce.engine.claims import Attempt
from askonce.engine.follower import Follower, Wait
from askonce.engine.question import Question
from askonce.engine.reader import Found
from askonce.flight.flight import LOOK
from askonce.runtime.mode import Signal
from askonce.store import TIMEOUT, Store, StoreTrouble


class Followed(NamedTuple):
    """A question that another caller's flight will answer."""

    question: Question
    attempt: Attempt
    claim: Follow


class BatchFollower(Follower):
    """A Follower that can wait for several flights at once."""

    async def listen_all(self, followed: Sequence[Followed], signal: Signal) -> None:
        """Open waiters on one signal, and wait until all are subscribed: at most one store timeout."""
        for question, attempt, claim in followed:
            attempt.waiter = self.listen(question, claim, attempt.owner, signal)
        waiters = [one.attempt.waiter for one in followed if one.attempt.waiter is not None]
        until = time.monotonic() + TIMEOUT
        while not all(waiter.again for waiter in waiters) and (left := until - time.monotonic()) > 0:
            await signal.wait(left)
        for waiter in waiters:
            waiter.again = False

    async def follow_all(self, followed: Sequence[Followed], signal: Signal) -> list[Found | None]:
        """Wait until all flights have ended or one of them needs a new claim. Return answers, None for none."""
        waits = [
            Wait(question, attempt.waiter, claim, self._background.heartbeat)
            for question, attempt, claim in followed
            if attempt.waiter is not None
        ]
        outcomes = await self._first_outcomes(waits, signal)
        for one, said in zip(followed, outcomes, strict=True):
            one.attempt.silent = said == NEVER
            if isinstance(said, bytes):
                one.attempt.named = None  # the flight's end is known
        stored = await self._stored([(wait, at) for at, wait in enumerate(waits) if outcomes[at] == STORED])
        shared = await self._shared([(wait, at) for at, wait in enumerate(waits) if outcomes[at] == SHARED])
        return [stored.get(at) or shared.get(at) for at in range(len(waits))]

    @staticmethod
    async def _first_outcomes(waits: Sequence[Wait], signal: Signal) -> list[bytes | int | None]:
        outcomes: list[bytes | int | None] = [None] * len(waits)
        waiting = dict(enumerate(waits))
        while waiting:
            for at, wait in list(waiting.items()):
                if (said := wait.outcome()) is not None:
                    outcomes[at] = said
                    del waiting[at]
            if not waiting or any(isinstance(said, int) or said == FAILED for said in outcomes if said is not None):
                break
            left = min(wait.left() for wait in waiting.values())
            await signal.wait(min(left, LOOK))
        return outcomes

    async def _stored(self, ended: Sequence[tuple[Wait, int]]) -> dict[int, Found]:
        """Return the answers that were stored, if the entry is still the one that the flight stored."""
        found: dict[int, Found] = {}
        for (wait, at), (data, head) in zip(
            ended, await self._reader.entries([wait.question for wait, _ in ended]), strict=True
        ):
            if data is not None and head is not None and (head.fill, head.order) == wait.claim[:2]:
                wait.waiter.share(data, head)
                found[at] = self._reader.hit(wait.question, data, head, head.created, fwd="miss")
        return found

    async def _shared(self, ended: Sequence[tuple[Wait, int]]) -> dict[int, Found]:
        """Return the answers that could not be stored, read from their tapes."""
        taped = await self.taped_all([(wait.question, wait.claim) for wait, _ in ended])
        return {at: found for (_, at), found in zip(ended, taped, strict=True) if found is not None}

    async def taped_all(self, followed: Sequence[tuple[Question, Follow]]) -> list[Found | None]:
        """`taped` for several flights, in batches."""
        works = [partial(_tape, question.key, claim) for question, claim in followed]
        logs = await self._guarded.together([question.key for question, _ in followed], works, reads=True)
        for log in logs:
            if isinstance(log, StoreTrouble):
                raise log
        return [self.read_tape(*one, log) for one, log in zip(followed, logs, strict=True)]


async def _tape(key: Key, claim: Follow, store: Store) -> bytes | None:
    return await store.tape(key, claim.id, claim.order)
