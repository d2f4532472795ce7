"""A whole answer told as a stream: core.providers.assemble the other way round, by the same rules.

Each part is said at once, in the events and the order in which the API says it. Readers put pieces together, so how
many there are makes no difference to them; what they are given at the end is the answer that was stored.
"""

from __future__ import annotations

from askonce.core.providers.api import Api
from askonce.core.providers.exact import Inexact, a_value

__all__ = ["ARRAY", "USAGE", "to_stream"]

USAGE = "include_usage=true"
ARRAY = "array"  # of objects, in place of events
_VARIANTS = frozenset({USAGE, ARRAY, "include_obfuscation=false"})  # we never pad


def to_stream(api: Api, answer: bytes, variant: str = "") -> bytes | None:
    """The stream that says a whole answer, in the variant asked for (`stream_variant`); None where not exact."""
    asked = frozenset(filter(None, variant.split(",")))
    if api.to_stream is None or not asked <= _VARIANTS:
        return None
    try:
        return b"".join(api.to_stream(a_value(answer), asked))
    except Inexact:
        return None
