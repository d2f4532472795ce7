"""Strict reading, to make an answer of one form from the other.

The lists of known names are closed on purpose. An unknown field, event or kind of block that holds something may belong
elsewhere in the other form, so the answer cannot be made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from askonce.core.providers import bounded
from askonce.core.providers.patterns import pattern

Answer = dict[str, Any]


class Inexact(ValueError):
    """This cannot be said in the other form."""


def exactly(value: object, known: Iterable[str] | None = None) -> Answer:
    """`value`, which must be a dict, with content only in the fields `known`, if given."""
    if not isinstance(value, dict) or (known is not None and any(_holds(value[name]) for name in value.keys() - known)):
        raise Inexact
    return value


def _holds(value: object) -> bool:
    """Whether it has content: 0 and False are content, a dict of nulls is not."""
    if isinstance(value, dict | list):
        return any(map(_holds, value.values() if isinstance(value, dict) else value))
    return value not in (None, "")


def a_value(text: bytes) -> Answer:
    """The dict that `text` must be in JSON, with exact numbers: longer integers would become floats."""
    if LONG.search(text):
        raise Inexact
    try:
        return exactly(bounded.loads(text))
    except ValueError:
        raise Inexact from None


LONG = pattern(rb"[:\[,]\s*-?\d{19}\d")


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
    """`pieces`, which must be texts, joined."""
    texts = list(pieces)
    if not all(isinstance(text, str) for text in texts):
        raise Inexact
    return "".join(texts)  # type: ignore[arg-type]


def settle(into: Answer, said: Answer, names: Iterable[str]) -> None:
    """Copy `names` from `said`; Inexact if a value contradicts an earlier one."""
    for name in names:
        if name in said:
            before, now = into.get(name), said[name]
            if before and now and before != now:
                raise Inexact
            into[name] = before or now


def sure(fact: object) -> None:
    """Inexact unless `fact` is true."""
    if not fact:
        raise Inexact
