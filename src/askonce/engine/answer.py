"""The Answer to a call: what upstream brought, judged; how long it lives, and how its flight lands."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence

from askonce.core.judge import Verdict
from askonce.core.model import Lifetime
from askonce.core.policy import Terms
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill
from askonce.flight.flight import Flight
from askonce.flight.heartbeat import LastWrite, Work


class Answer(NamedTuple):
    """The result of an upstream call, and the verdict on it. `body` is None if the result has no exact bytes.

    `trouble`: upstream answered that it is in trouble (``upstream-503``); `hint` is its retry-after, in ms.
    `bills`: what its price depends on. `calls`: 0 if nothing was sent. Several answers of one call share the cost of
    the first one, by `weight`.
    """

    body: bytes | None
    verdict: Verdict
    value: object = None
    extensions: Mapping[int, bytes] = {}
    trouble: str = ""
    hint: int = 0
    bills: Sequence[Bill] = ()
    calls: int = 1
    weight: int = 1


class Landed(NamedTuple):
    """How a flight ended, for the callers that joined it."""

    answer: Answer
    stored: bool
    detail: str


class Landing(NamedTuple):
    """The store's work for an answer: store it (`fills`), or give its lease back; None if there is nothing to do."""

    answer: Answer
    detail: str
    work: Work | None
    fills: bool = False
    said: Mapping[str, str] = {}  # of the question, for events
    note: Callable[[str], None] | None = None  # notes what became of it: "" if it was stored, or why it was not


def lifetime_of(terms: Terms, verdict: Verdict) -> Lifetime:
    """How long an answer lives: as its terms say, and no longer than the answer itself allows."""
    ttl = int(terms.ttl * 1000 * (1.0 - terms.jitter * random.random()))
    age, cap = verdict.age, int(terms.max_age * 1000)
    most = cap if verdict.life is None else min(cap, age + verdict.life)
    return Lifetime(ttl, int(terms.grace * 1000), int(terms.stale_if_error * 1000), most, age)


def unsent(flight: Flight) -> bool:
    """Whether an interrupt, and no error, ends a flight before its last write was made."""
    return flight.last is None and not (flight.done or isinstance(sys.exception(), Exception))


def sent(flight: Flight, last: LastWrite, said: object) -> object:
    """What the reply to a last write comes to; the background thread, if it sent it too, has told of it already."""
    if flight.last is not last:
        return last.result
    flight.last = None
    return last.over(said)
