"""A stored stream as the answer in one piece, and a stored answer as a stream, for questions asked in both forms.

The result says what the host would have said. Nothing is made up: content, endings, log probabilities, usage and ids
are the stored ones. Pieces are joined where the API means that (text, arguments of a call). A whole answer becomes a
stream in which each part is said at once. Details that no reader needs may differ: pauses, padding, empty fields
(`annotations: []`).

If that is impossible the result is None, and upstream is asked. Examples are an unknown event, field or kind of block
that holds something, two chunks that contradict each other, or a stream without its usage. The lists of known names are
closed, so a provider's new field is never lost from an answer; it only costs a call.
"""

from __future__ import annotations

import orjson

from askonce.core.providers.api import Api
from askonce.core.providers.exact import LONG, Inexact, a_value
from askonce.core.providers.streamed import read

__all__ = ["ARRAY", "USAGE", "to_json", "to_stream"]

USAGE = "include_usage=true"
ARRAY = "array"  # of objects, instead of events
_VARIANTS = frozenset({USAGE, ARRAY, "include_obfuscation=false"})  # padding is never written


def to_json(api: Api, stream: bytes) -> bytes | None:
    """The answer that a whole stream makes; None if it cannot be exact."""
    found = read(stream)
    if api.to_json is None or found.failed or found.garbled or LONG.search(stream):
        return None
    try:
        return orjson.dumps(api.to_json(found))
    except Inexact:
        return None


def to_stream(api: Api, answer: bytes, variant: str = "") -> bytes | None:
    """The stream of a whole answer, in the wanted variant (`stream_variant`); None if it cannot be exact."""
    asked = frozenset(filter(None, variant.split(",")))
    if api.to_stream is None or not asked <= _VARIANTS:
        return None
    try:
        return b"".join(api.to_stream(a_value(answer), asked))
    except Inexact:
        return None
