"""A streamed body taken apart: the JSON objects in it, whatever frames them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import orjson

from askonce.core import bounded, eventstream
from askonce.core.answers import Answer, failed
from askonce.core.bedrock import read_frames
from askonce.core.sse import Objects, parser_for, plain_data


class Read(NamedTuple):
    """A body taken apart: the JSON objects in it, in order, and what else was there."""

    values: list[Answer]
    done: bool = False  # [DONE]
    failed: bool = False  # an error among the events
    garbled: bool = False  # not what it says it is
    framed: bool = True  # as server-sent events, which can say [DONE]


def read(body: bytes, content_type: str = "") -> Read:
    """What a whole body says."""
    if bounded.flooded(body):
        return Read([], garbled=True)
    if eventstream.is_one(content_type, body[:64]):
        values, error, garbled = read_frames(body)
        return Read(values, failed=error, garbled=garbled, framed=False)
    data = plain_data(body)
    if data is not None:
        return _values(zip(repeat(""), data))
    parser = parser_for(content_type, body[:64])
    events = [event[:2] for event in parser.feed(body)]
    if isinstance(parser, Objects):
        found = _values(events)
        return found._replace(garbled=found.garbled or not parser.closed, framed=False)
    if events:
        return _values(events)
    # Headers that promise a stream may stand before a plain error.
    return Read([], failed=_plain_error(body), garbled=bool(body.strip()))


def _values(events: Iterable[tuple[str, bytes]]) -> Read:
    """Of events' names and data."""
    values: list[Answer] = []
    done = error = garbled = False
    for name, data in events:
        value = _object(data)
        if value is not None:
            values.append(value)
            error = error or name == "error" or bool(value.get("error")) or value.get("type") == "error"
        elif data.lstrip().startswith(b"[DONE]"):
            done = True
        elif data or name:  # else it keeps a connection alive
            garbled = True
            error = error or name == "error"
    return Read(values, done, error, garbled)


def _object(data: bytes) -> Answer | None:
    try:
        value = orjson.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain_error(body: bytes) -> bool:
    return failed(_object(body))
