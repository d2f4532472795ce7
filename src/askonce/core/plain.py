"""Answers as plain JSON: an answer is stored only if it reads back as what the call returned."""

from __future__ import annotations

import marshal
from typing import Any

import orjson

_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
DEEPEST = 250
LONGEST = 40  # characters of a name that are shown


def exact_json(value: Any) -> bytes | None:
    """The JSON of an answer, if it reads back as an equal value of equal types; None otherwise."""
    try:
        body = orjson.dumps(value, option=_EXACT)
        # orjson writes a member of an enum as the text or number to which it may be equal; marshal takes no such thing.
        marshal.dumps(value)
        return body if orjson.loads(body) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


class WhyNotJSON:
    """Why a value has no exact JSON: the place and what stands there, looked for when it is shown first.

    Then the value is let go: logs keep their records, and with them what they show.
    """

    def __init__(self, value: object) -> None:
        self._value = value
        self._why = ""

    def __str__(self) -> str:
        if not self._why:
            self._why, self._value = _why(self._value), None
        return self._why


def _why(value: object) -> str:
    waiting = [("$", 0, value)]
    while waiting:
        path, depth, one = waiting.pop()
        inner = list(one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ())
        if depth > DEEPEST:
            return "nested too deep"
        if wrong := [name for name, _ in inner if not isinstance(name, str) and isinstance(one, dict)]:
            return f"{path}: a key of type {type(wrong[0]).__name__}"
        if not isinstance(one, dict | list) and exact_json(one) is None:
            return f"{path}: {_what(one)}"
        waiting += [(path + _step(name), depth + 1, told) for name, told in reversed(inner)]
    return "of a type of its own"


def _step(name: str | int) -> str:
    return f"[{name}]" if isinstance(name, int) else f".{name[:LONGEST]}"


def _what(one: object) -> str:
    if type(one) is str:
        return "a text that UTF-8 does not have"
    more = f" {one}" if type(one) is float else " beyond 64 bits" if type(one) is int else ""
    return type(one).__name__ + more
