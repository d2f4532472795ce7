"""The Answer to a call: what upstream brought, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from askonce.core.judge import Verdict
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill


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
