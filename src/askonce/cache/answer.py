"""The result of a lookup; and the result of a user's call, as plain JSON to be stored, with its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from askonce.core.judge import Judge, refused
from askonce.core.plain import exact_json
from askonce.engine.leader import Answer
from askonce.events import Events, Status


def answer_of(value: object, judge: Judge, events: Events) -> Answer:
    """A value as it would be stored, with the verdict on whether it may be."""
    body = exact_json(value)
    if body is not None:
        return Answer(body, judge.value(value, body, time.time()), value)
    events.warn_once(
        "not-json",
        "an answer of type %s is not plain JSON: it is returned and not stored; return"
        " answer.model_dump(mode='json') (pydantic), dataclasses.asdict(answer) or similar plain data",
        type(value).__name__,
    )
    return Answer(None, refused("not-json"), value)


@dataclass(slots=True)
class Outcome:
    """The result of a lookup: `value`, the caller's own copy; `status`; `key`, 64 hex digits, to invalidate by."""

    value: Any
    status: Status
    key: str
    _forget: Callable[[str], Any]

    def forget(self) -> Any:
        """Make this answer unservable everywhere, at once (with an AsyncCache: ``await outcome.forget()``)."""
        return self._forget(self.key)

    def __repr__(self) -> str:
        return f"<Outcome {self.status}>"
