"""Answers as plain JSON: an answer is stored only if it reads back as what the call returned."""

from __future__ import annotations

import orjson

_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def exact_json(value: object) -> bytes | None:
    """The JSON of an answer, if it reads back as an equal value; None otherwise."""
    try:
        body = orjson.dumps(value, option=_EXACT)
        return body if orjson.loads(body) == value else None
    except (TypeError, ValueError, RecursionError):
        return None
