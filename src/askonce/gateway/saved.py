"""What a stored answer saved its caller, in headers of the answer: tokens and US dollars, by what its call cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from askonce.core.memo import Memo
from askonce.core.spent import NANO, Spent
from askonce.engine.batch import BatchEngine
from askonce.engine.reader import Found
from askonce.http.credentials import Header

TOKENS, USD = b"askonce-saved-tokens", b"askonce-saved-usd"
ENTRIES = 4096  # whose headers are remembered
_NOTHING: Sequence[Header] = ()


def saved_headers(engine: Callable[[], BatchEngine]) -> Callable[[Found], Sequence[Header]]:
    """A function that returns the headers of a hit; none for what is not known of its answer."""
    known: Memo[tuple[bytes, int], Sequence[Header]] = Memo(ENTRIES)

    def headers(found: Found) -> Sequence[Header]:
        head = found.head
        if head is None or found.status.collapsed:
            return _NOTHING
        name = head.fill, head.order
        made = known.get(name)
        if made is None:
            spent = engine().accounting.saved(head, found.entry)
            made = headers_of(spent)
            if not spent.unpriced:  # otherwise the price may be known later
                known.keep(name, made, len(head.fill))
        return made

    return headers


def headers_of(spent: Spent) -> Sequence[Header]:
    """The headers of an answer that cost so much."""
    if not spent.tokens and not spent.nanodollars:
        return _NOTHING
    tokens = (TOKENS, b"%d" % spent.tokens)
    return (tokens,) if spent.unpriced else (tokens, (USD, _usd(spent.nanodollars)))


def _usd(nanodollars: int) -> bytes:
    """Dollars, without digits that say nothing."""
    whole, part = divmod(nanodollars, NANO)
    return f"{whole}.{f'{part:09}'.rstrip('0') or '0'}".encode()
