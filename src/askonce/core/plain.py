"""Answers as plain JSON: what is stored is read back as what the call returned, or is not stored."""

from __future__ import annotations

import orjson

_EXACT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def exact_json(value: object) -> bytes | None:
    """The JSON of an answer, if what it is read back as equals it: or else callers would get another answer."""
    try:
        body = orjson.dumps(value, option=_EXACT)
        return body if orjson.loads(body) == value else None
    except (TypeError, ValueError, RecursionError):
        return None
