"""How deeply a JSON text nests. What nests deeper than this is not read as JSON: readers and writers of it recurse."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 150
_BRACKETS = re.compile(rb"[\[\]{}]")
_DEEPER = frozenset({b"[", b"{"})


def read(text: bytes, *, once: bool = False) -> Any:
    """The value of a JSON text. ValueError for what is not JSON, for numbers that are not finite, and for deep ones.

    `once`: ValueError also for an object in which a name stands twice: readers differ in which of the two counts.
    """
    if deep(text):
        raise ValueError(f"it nests deeper than {DEEPEST} levels")
    return json.loads(text, parse_constant=_refused, object_pairs_hook=_unique if once else None)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return made


def deep(text: bytes) -> bool:
    """Whether brackets nest too deeply; those inside strings count too, so it may say so too early."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth += 1 if found[0] in _DEEPER else -1
        if depth > DEEPEST:
            return True
    return False


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
