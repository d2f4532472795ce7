"""The leader of a batch: one upstream call, and a flight for each item."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from askonce.core import upstream
from askonce.core.keys import Key
from askonce.core.tape import FAILED, Ending
from askonce.engine.accounting import CALL
from askonce.engine.answer import Answer
from askonce.engine.leader import Leader, Work
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
            self._brought_nothing(group, error)
            for flight, _ in group:
                self.lost(flight, "cut-off")
            await self._land_failed(group, NoResult(error), Ending(FAILED, "gone"))
            raise
        else:
            for flight, _ in group:
                flight.answered = True
            seconds = time.monotonic() - began
            self._called(first, seconds, self._usage(answers[0].bills))
            self.accounting.took(CALL, seconds)
            await self._land_all(group, self.accounting.paid_all(group, answers, seconds), seconds)
        finally:
            if not isinstance(sys.exception(), GeneratorExit):
                for flight, _ in group:
                    self._over(flight)

    async def _land_all(
        self, group: Sequence[tuple[Flight, Question]], answers: Sequence[Answer], seconds: float
    ) -> None:
        """Store the answers that may be stored, in batches, and land each flight. All leases are renewed meanwhile."""
        landings = [
            self._landing(flight, question, answer, seconds)
            for (flight, question), answer in zip(group, answers, strict=True)
        ]
        works = [(flight.key, landing.work) for (flight, _), landing in zip(group, landings, strict=True)]
        replies = await self._asked_all(works)
        for (flight, _), landing in zip(group, landings, strict=True):
            flight.land(self._landed_by(flight, landing, None if landing.work is None else next(replies)))

    async def _asked_all(self, works: Sequence[tuple[Key, Work | None]]) -> Iterator[Any]:
        """The store's replies to the works that there are, in order."""
        asked = [(key, work) for key, work in works if work is not None]
        return iter(await self._guarded.together([key for key, _ in asked], [work for _, work in asked]))

    async def _land_failed(self, group: Sequence[tuple[Flight, Question]], error: Exception, ending: Ending) -> None:
        """Land all flights without an answer."""
        failed, hint = self._failed_for(group[0][0], error), upstream.hint_of(error)
        works = [self._release(flight, ending, failed=failed, hint=hint) for flight, _ in group]
        replies = await self._asked_all([(flight.key, work) for (flight, _), work in zip(group, works, strict=True)])
        for (flight, _), work in zip(group, works, strict=True):
            if work is not None:
                self._returned(flight, next(replies))
            flight.land(error=error)
