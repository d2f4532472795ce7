"""Reading that refuses what it does not know: for making an answer of one form from one of the other.

The lists are closed on purpose. A field, an event or a kind of block that is not on them, and holds something, may mean
what the other form says in another place, so the answer cannot be made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from askonce.core.providers import bounded

Answer = dict[str, Any]


class Inexact(ValueError):
    """This cannot be said in the other form."""


def exactly(value: object, known: Iterable[str] | None = None) -> Answer:
    """`value`, which must be a dict and, given `known`, hold nothing else."""
    if not isinstance(value, dict) or (known is not None and any(_holds(value[name]) for name in value.keys() - known)):
        raise Inexact
    return value


def _holds(value: object) -> bool:
    """Whether there is anything in it: 0 and False are something, a dict of nulls is nothing."""
    if isinstance(value, dict | list):
        return any(map(_holds, value.values() if isinstance(value, dict) else value))
    return value not in (None, "")


def a_value(text: bytes) -> Answer:
    """The dict that `text` must be in JSON, its numbers exact: longer integers would come out as floats."""
    if LONG.search(text):
        raise Inexact
    try:
        return exactly(bounded.loads(text))
    except ValueError:
        raise Inexact from None


LONG = re.compile(rb"[:\[,]\s*-?\d{19}\d")


def a_list(value: object) -> list[Answer]:
    """`value`, which must be a list of dicts."""
    if not isinstance(value, list):
        raise Inexact
    return [exactly(item) for item in value]


def an_int(value: object) -> int:
    """`value`, which must be a whole number."""
    if not isinstance(value, int):
        raise Inexact
    return value


def joined(pieces: Iterable[object]) -> str:
    """The texts that `pieces` must be, one after the other."""
    texts = list(pieces)
    if not all(isinstance(text, str) for text in texts):
        raise Inexact
    return "".join(texts)  # type: ignore[arg-type]


def settle(into: Answer, said: Answer, names: Iterable[str]) -> None:
    """Take what `said` says of `names`; Inexact where it contradicts what was said before."""
    for name in names:
        if name in said:
            before, now = into.get(name), said[name]
            if before and now and before != now:
                raise Inexact
            into[name] = before or now


def sure(fact: object) -> None:
    """Inexact without it."""
    if not fact:
        raise Inexact
