"""Requests that differ in one place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any


def changed(request: dict[str, Any], path: Sequence[str | int], value: Any) -> dict[str, Any]:
    """A copy of a request with another value in one place."""
    made = copy.deepcopy(request)
    at: Any = made
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return made
