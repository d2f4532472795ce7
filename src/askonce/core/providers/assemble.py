"""A stored stream as the answer in one piece, and a stored answer as a stream: for questions asked in both forms.

What comes out says what the host would have said, and nothing is made up: content, endings, log probabilities, usage
and ids are the stored ones. Pieces are joined where joining is what the API means by them (text, arguments of a call);
a whole answer becomes a stream in which each part is said at once. What does not matter to a reader may differ: how
often a stream pauses, padding, empty fields (`annotations: []`).

Wherever that cannot be kept the answer is None, and upstream is asked: an event, a field or a kind of block that is not
known here and holds something, two chunks that contradict each other, a stream that never said its usage. Lists are
closed, so what a provider adds tomorrow is not lost from answers; it only costs a call.
"""

from __future__ import annotations

import orjson

from askonce.core.providers.api import Api
from askonce.core.providers.exact import LONG, Inexact, a_value
from askonce.core.providers.streamed import read

__all__ = ["ARRAY", "USAGE", "to_json", "to_stream"]

USAGE = "include_usage=true"
ARRAY = "array"  # of objects, in place of events
_VARIANTS = frozenset({USAGE, ARRAY, "include_obfuscation=false"})  # we never pad


def to_json(api: Api, stream: bytes) -> bytes | None:
    """The answer that a whole stream makes up; None where it could not be exact."""
    found = read(stream)
    if api.to_json is None or found.failed or found.garbled or LONG.search(stream):
        return None
    try:
        return orjson.dumps(api.to_json(found))
    except Inexact:
        return None


def to_stream(api: Api, answer: bytes, variant: str = "") -> bytes | None:
    """The stream that says a whole answer, in the variant asked for (`stream_variant`); None where not exact."""
    asked = frozenset(filter(None, variant.split(",")))
    if api.to_stream is None or not asked <= _VARIANTS:
        return None
    try:
        return b"".join(api.to_stream(a_value(answer), asked))
    except Inexact:
        return None
