"""The result of a lookup; and the result of a user's call, as plain JSON to be stored, with its verdict."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from askonce.cache import results
from askonce.cache.typing import T_co
from askonce.core.judge import Judge, refused
from askonce.core.plain import WhyNotJSON, exact_json
from askonce.core.spent import Spent
from askonce.engine.answer import Answer
from askonce.engine.question import Question
from askonce.errors import UsageError
from askonce.events import Events, Status


def answer_of(value: object, judge: Judge, events: Events) -> Answer:
    """A value as it would be stored, with the verdict on whether it may be."""
    body = exact_json(value)
    if body is not None:
        verdict = judge.value(value, body, time.time())
        return Answer(body, verdict, value, bills=judge.bills)
    if (what := _not_yet(value)) is not None:
        raise UsageError(f"the call returned {what}")
    events.warn_once(
        "not-json",
        "an answer of type %s is not plain JSON (%s): it is returned and not stored; return"
        " answer.model_dump(mode='json') (pydantic), dataclasses.asdict(answer) or similar plain data, or use"
        " fetch_stream for a stream",
        type(value).__name__,
        WhyNotJSON(value),
    )
    return Answer(None, refused("not-json"), value)


def _not_yet(value: object) -> str | None:
    """What has asked nothing yet, and would ask in whoever reads, awaits or calls it, outside of the lookup."""
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "a generator, which is no answer yet: use fetch_stream, or return list(...)"
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine, which is no answer yet: await it in the call, return await ask(...)"
    if inspect.isroutine(value):
        return "a function, which is no answer yet: call it in the call, return ask(...)"
    return None


class Explaining(Protocol):
    """The cache of an outcome."""

    def forgets(self, key: str) -> Any:
        """Invalidate one answer."""
        ...

    def explains(self, question: Question | None, status: Status) -> Any:
        """Why a lookup ended so."""
        ...


class Answered:
    """A result of a lookup, which explains itself and can be forgotten."""

    __slots__ = ()
    status: Status
    key: str
    _cache: Explaining
    _question: Question | None

    def why(self) -> results.Why:
        """Return why the lookup ended as it did. Reads the store; an unreachable one is a reason, and no error."""
        why: results.Why = self._cache.explains(self._question, self.status)
        return why

    def forget(self) -> None:
        """Make this answer unservable everywhere, at once. StoreUnavailable if the store cannot be reached."""
        self._cache.forgets(self.key)


class AnsweredLater:
    """The same for an AsyncCache. They are coroutine functions, so that type checkers report a missing await."""

    __slots__ = ()
    status: Status
    key: str
    _cache: Explaining
    _question: Question | None

    async def why(self) -> results.Why:
        """Return why the lookup ended as it did. Reads the store; an unreachable one is a reason, and no error."""
        why: results.Why = await self._cache.explains(self._question, self.status)
        return why

    async def forget(self) -> None:
        """Make this answer unservable everywhere, at once. StoreUnavailable if the store cannot be reached."""
        await self._cache.forgets(self.key)


@dataclass(slots=True)
class Outcome(Answered, Generic[T_co]):
    """The result of a lookup: `value`, the caller's own copy; `status`; `key`, 64 hex digits, to invalidate by."""

    value: T_co
    status: Status
    key: str
    _cache: Explaining
    _question: Question | None
    _saved: Callable[[], Spent] | None = field(default=None, compare=False)

    @property
    def saved(self) -> Spent:
        """What a hit saved: the tokens, money and seconds of the call that brought its answer; zeros without a hit."""
        if self._saved is not None:
            return self._saved()
        served = self._question.served if self._question is not None else None
        return (None if served is None else served.cost(now=True)) or Spent()

    def __repr__(self) -> str:
        return f"<Outcome {self.status}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without its question, which holds functions and half a hash; what a hit saved is worked out here.
        return _remade, (type(self), self.value, self.status, self.key, self._cache, self.saved)


def _remade(kind: type[Outcome[Any]], value: Any, status: Status, key: str, cache: Explaining, saved: Spent) -> Any:
    return kind(value, status, key, cache, None, lambda: saved)


class AsyncOutcome(AnsweredLater, Outcome[T_co]):  # type: ignore[misc]  # what is awaited there is not here
    """The result of a lookup of an AsyncCache: an Outcome whose `forget` and `why` are awaited."""

    __slots__ = ()
