"""The leader of a batch: one upstream call, and a flight for each item."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from askonce.core import upstream
from askonce.core.tape import FAILED, Ending
from askonce.engine.accounting import CALL
from askonce.engine.answer import Answer, Landing, sent, unsent
from askonce.engine.leader import Leader
from askonce.engine.question import Question
from askonce.flight.flight import Flight, NoResult, within

Calls = Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]  # one answer for each question, in the same order


class BatchLeader(Leader):
    """A Leader whose flights share one call."""

    async def run_all(self, group: Sequence[tuple[Flight, Question]], calls: Calls) -> None:
        """`run` for a batch: make one call, and land each flight with its own answer."""
        for flight, question in group:
            self._lead(flight, question)
        first, began = group[0][1], time.monotonic()
        self._events.emit("call", first.key.text, refresh=group[0][0].is_refresh, **first.said)
        answers: Sequence[Answer] = ()
        try:
            call = partial(calls, [question for _, question in group])
            answers = await within([flight for flight, _ in group], call)
        except Exception as error:  # noqa: BLE001 - as in run
            self._brought_nothing(group, error)
            left = all(flight.left_off for flight, _ in group)
            await self._land_failed(group, NoResult(error) if left else error, self._failed(first, error))
        except GeneratorExit as error:
            self._brought_nothing(group, error)
            raise  # as in run
        except BaseException as error:
            if not answers:
                self._brought_nothing(group, error)
                for flight, _ in group:
                    self.lost(flight, "cut-off")
                await self._land_failed(group, NoResult(error), Ending(FAILED, "gone"))
            raise
        else:
            await self._land_all(group, answers, began)
        finally:
            if not isinstance(sys.exception(), GeneratorExit):
                if answers and all(unsent(flight) for flight, _ in group):
                    self._answered_all(group, answers, began)
                for flight, _ in group:
                    self._over(flight)

    def _answered_all(
        self, group: Sequence[tuple[Flight, Question]], answers: Sequence[Answer], began: float
    ) -> list[Landing]:
        """Book a call; the store's work for each of its answers, the last write of its flight from here on."""
        for flight, _ in group:
            flight.answered = True
        first, seconds = group[0][1], time.monotonic() - began
        self._called(first, seconds, self._usage(answers[0].bills))
        self.accounting.took(CALL, seconds)
        answers = self.accounting.paid_all(group, answers, seconds)
        return [
            self._landing(flight, question, answer, seconds)
            for (flight, question), answer in zip(group, answers, strict=True)
        ]

    async def _land_all(
        self, group: Sequence[tuple[Flight, Question]], answers: Sequence[Answer], began: float
    ) -> None:
        """Store the answers that may be stored, in batches, and land each flight. All leases are renewed meanwhile."""
        landings = self._answered_all(group, answers, began)
        ends = await self._send_all([flight for flight, _ in group])
        for (flight, _), landing, landed in zip(group, landings, ends, strict=True):
            flight.land(landed or self._landed_by(flight, landing, None))

    async def _send_all(self, flights: Sequence[Flight]) -> list[object]:
        """Send the last writes of the flights that have one; what each reply comes to."""
        lasts = [(flight, flight.last) for flight in flights if flight.last is not None]
        ends: dict[Flight, object] = {}
        try:
            replies = await self._guarded.together(
                [flight.key for flight, _ in lasts], [last.work for _, last in lasts]
            )
        except Exception:
            for flight, _ in lasts:
                flight.last = None  # as in _send_last
            raise
        for (flight, last), said in zip(lasts, replies, strict=True):
            ends[flight] = sent(flight, last, said)
        return [ends.get(flight) for flight in flights]

    async def _land_failed(self, group: Sequence[tuple[Flight, Question]], error: Exception, ending: Ending) -> None:
        """Land all flights without an answer."""
        failed, hint = self._failed_for(group[0][0], error), upstream.hint_of(error)
        for flight, _ in group:
            self._returning(flight, ending, error, failed=failed, hint=hint)
        await self._send_all([flight for flight, _ in group])
        for flight, _ in group:
            flight.land(error=error)
