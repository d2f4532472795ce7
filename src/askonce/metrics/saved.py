"""What a caller did not spend because an answer was stored."""

from __future__ import annotations

from askonce.core.costs import spent_of
from askonce.core.model import Corrupt, read_head, unpack_extensions
from askonce.core.spent import Spent

UNKNOWN = Spent()


def spent_on(entry: bytes) -> Spent:
    """What the call for a stored answer cost, by its header; UNKNOWN if the header is encrypted or does not say."""
    try:
        return spent_of(unpack_extensions(entry, read_head(entry)))
    except Corrupt:
        return UNKNOWN
