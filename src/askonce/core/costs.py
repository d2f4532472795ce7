"""What an entry says about the cost of its answer: extensions USAGE and PRICE, beside DURATION.

USAGE is up to three numbers, tokens in, out and cached, each in groups of seven bits, the lowest first, with the top
bit set in all but the last group; numbers at the end that are 0 are left out. PRICE is nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping

from askonce.core.model import DURATION, PRICE, USAGE, in_groups, of_groups, whole
from askonce.core.providers.usage import Usage
from askonce.core.spent import Spent

LONGEST = 8  # bytes of a number


def pack_usage(usage: Usage) -> bytes:
    """The value of USAGE."""
    numbers = list(usage)
    while numbers and not numbers[-1]:
        numbers.pop()
    return b"".join(map(in_groups, numbers))


def unpack_usage(data: bytes) -> Usage:
    """The reverse of pack_usage; 0 for what is missing, and nothing of what a later version adds."""
    return Usage(*[*of_groups(data), 0, 0, 0][:3])


def extensions_of(usage: Usage | None, price: int | None) -> dict[int, bytes]:
    """The extensions of an answer with this usage and price (nano-dollars), as far as they are known."""
    said = {} if usage is None else {USAGE: pack_usage(usage)}
    return said if price is None else {**said, PRICE: whole(price)}


def spent_of(said: Mapping[int, bytes]) -> Spent:
    """What one call for the answer cost, by the extensions of its entry."""
    usage = unpack_usage(said[USAGE]) if USAGE in said else None
    return spent(usage, int.from_bytes(said[PRICE][:LONGEST], "big") if PRICE in said else None, _ms(said))


def spent(usage: Usage | None, price: int | None, ms: int = 0, calls: int = 1) -> Spent:
    """What calls with this usage and price cost; an answer with a usage and without a price is unpriced."""
    return Spent(calls, *(usage or Usage()), price or 0, ms, int(usage is not None and price is None))


def _ms(said: Mapping[int, bytes]) -> int:
    return int.from_bytes(said.get(DURATION, b"")[:LONGEST], "big")
