"""What a call of the user's brought, as it would be stored: plain JSON, and the verdict on it."""

from __future__ import annotations

import time

from askonce.core.judge import Judge, refused
from askonce.core.plain import exact_json
from askonce.engine.leader import Answer
from askonce.events import Events


def answer_of(value: object, judge: Judge, events: Events) -> Answer:
    """A value as it would be stored, and whether it may be."""
    body = exact_json(value)
    if body is not None:
        return Answer(body, judge.value(value, body, time.time()), value)
    events.warn_once(
        "not-json",
        "an answer of type %s is not plain JSON: it is returned, not stored; have the call return"
        " answer.model_dump(mode='json') (pydantic), dataclasses.asdict(answer) or the like",
        type(value).__name__,
    )
    return Answer(None, refused("not-json"), value)
