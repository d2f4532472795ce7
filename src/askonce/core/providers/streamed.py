"""A streamed body, split into its JSON objects, in any framing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice, repeat
from typing import Any

import orjson

from askonce.core.providers import bounded, eventstream
from askonce.core.providers.answers import Answer, failed
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.sse import Objects, parser_for, plain_data


class Read(NamedTuple):
    """The JSON objects in a body, in order, and what else it holds."""

    values: list[Answer]
    done: bool = False  # [DONE]
    failed: bool = False  # an error among the events
    garbled: bool = False  # not what its headers say
    framed: bool = True  # as server-sent events, which can say [DONE]


def read(body: bytes, content_type: str = "") -> Read:
    """What a whole body says."""
    if bounded.flooded(body):
        return Read([], garbled=True)
    if eventstream.is_one(content_type, body[:64]):
        return _frames(body)
    data = plain_data(body)
    if data is not None:
        return _at_once(data) or _values(zip(repeat(""), data))
    parser = parser_for(content_type, body[:64])
    events = [event[:2] for event in parser.feed(body)]
    if isinstance(parser, Objects):
        found = _values(events)
        return found._replace(garbled=found.garbled or not parser.closed, framed=False)
    if events:
        return _values(events)
    # Headers that promise a stream may precede a plain error.
    return Read([], failed=_plain_error(body), garbled=bool(body.strip()))


def _at_once(data: list[bytes]) -> Read | None:
    """What events without names hold, if each is an object and none tells of an error, but for a [DONE] at the end.

    All are read in one go, which takes half of the time. The word between two of them is a secret of this process, so
    no event can be read as a part of another one.
    """
    done = data[-1:] == [b"[DONE]"]
    objects = data[:-1] if done else data
    try:
        values = orjson.loads(b"[%b]" % _BETWEEN.join(objects))
    except ValueError:
        return None
    between, values = values[1::2], values[::2]
    apart = len(values) == len(objects) and between == [_WORD] * (len(objects) - 1)
    return Read(values, done) if apart and all(map(_harmless, values)) else None


def _harmless(value: object) -> bool:
    """Whether it is an object that tells of no error."""
    return type(value) is dict and "error" not in value and value.get("type") != "error"


_WORD = os.urandom(16).hex()
_BETWEEN = f',"{_WORD}",'.encode()


def _values(events: Iterable[tuple[str, bytes]]) -> Read:
    values: list[Answer] = []
    done = error = garbled = False
    for name, data in events:
        value = _object(data, bounded.event)
        if value is not None:
            values.append(value)
            error = error or name == "error" or bool(value.get("error")) or value.get("type") == "error"
        elif data.lstrip().startswith(b"[DONE]"):
            done = True
        elif data or name:  # an empty event only keeps a connection alive
            garbled = True
            error = error or name == "error"
    return Read(values, done, error, garbled)


def _frames(body: bytes) -> Read:
    events = list(islice(eventstream.events(body), bounded.EVENTS + 1))
    sound = [event for event in events if event is not None]
    garbled = len(sound) != len(events) or len(events) > bounded.EVENTS
    if bounded.flooded(b"\n".join(event.data for event in sound)):
        return Read([], garbled=True, framed=False)
    values: list[Answer] = []
    error = any(event.failed for event in sound)
    for event in sound:
        if event.data.strip() == b"[DONE]":  # the end of some models' own streams
            continue
        value = _object(event.data, bounded.loads)
        garbled = garbled or value is None
        values.append({event.name: value} if event.name else value or {})
        error = error or bool(values[-1].get("error")) or values[-1].get("type") == "error"
    return Read(values, failed=error, garbled=garbled, framed=False)


def _object(data: bytes, loads: Callable[[bytes], Any] = orjson.loads) -> Answer | None:
    try:
        value = loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain_error(body: bytes) -> bool:
    return failed(_object(body))
