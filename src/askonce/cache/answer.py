"""The result of a lookup; and the result of a user's call, as plain JSON to be stored, with its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from askonce.core.judge import Judge, refused
from askonce.core.plain import exact_json
from askonce.core.savings import Spent
from askonce.engine.answer import Answer
from askonce.engine.question import Question
from askonce.events import Events, Status


def answer_of(value: object, judge: Judge, events: Events) -> Answer:
    """A value as it would be stored, with the verdict on whether it may be."""
    body = exact_json(value)
    if body is not None:
        verdict = judge.value(value, body, time.time())
        return Answer(body, verdict, value, bills=judge.bills)
    events.warn_once(
        "not-json",
        "an answer of type %s is not plain JSON: it is returned and not stored; return"
        " answer.model_dump(mode='json') (pydantic), dataclasses.asdict(answer) or similar plain data",
        type(value).__name__,
    )
    return Answer(None, refused("not-json"), value)


class Explaining(Protocol):
    """The cache of an outcome."""

    def forgets(self, key: str) -> Any:
        """Invalidate one answer."""
        ...

    def explains(self, question: Question, status: Status) -> Any:
        """Why a lookup ended so."""
        ...


@dataclass(slots=True)
class Outcome:
    """The result of a lookup: `value`, the caller's own copy; `status`; `key`, 64 hex digits, to invalidate by."""

    value: Any
    status: Status
    key: str
    _cache: Explaining
    _question: Question
    _saved: Callable[[], Spent] | None = field(default=None, compare=False)

    def why(self) -> Any:
        """Why the lookup ended so: a Why (with an AsyncCache: ``await outcome.why()``). Reads the store."""
        return self._cache.explains(self._question, self.status)

    def forget(self) -> Any:
        """Make this answer unservable everywhere, at once (with an AsyncCache: ``await outcome.forget()``)."""
        return self._cache.forgets(self.key)

    @property
    def saved(self) -> Spent:
        """What a hit saved: the tokens, money and seconds of the call that brought its answer; nothing for others."""
        return Spent() if self._saved is None else self._saved()

    def __repr__(self) -> str:
        return f"<Outcome {self.status}>"
