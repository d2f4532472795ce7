"""Which entries a full store evicts: those whose bytes save least.

An entry has a *place*, one integer, and the lowest place goes first. A place begins with a rank. The rank of an entry
is the rank of the last one that was evicted (the *level*), and what the entry is *worth* (its cost for each byte) times
a weight on top (the rule of GreedyDual). So an entry that was dear to answer and is small stays longer, and an entry
that nobody asks for again sinks, because the level rises with each eviction.

The weight is what makes questions that are asked once leave early, as in S3-FIFO. A new entry has a fiftieth of the
weight of one that was asked for again, or that comes back soon after it was evicted (a *ghost*). A visit moves nothing:
it only adds to the entry's frequency, which goes up to 3. An entry that is reached while its frequency is not 0 is not
evicted: it gets a new place by its frequency, which falls by one.

The end of a place is the time. So entries of one rank go in the order in which they came. A place is above every date:
what an older version of askonce stored, with a date in the place's stead, ranks below all others, as never asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from askonce.core.model import DURATION, PRICE, SPENT, of_groups

MOST = 3  # the highest frequency
NEW, KNOWN = 1, 50  # weights of an entry that is stored
AGAIN = (0, 50, 100, 150)  # weight of an entry that is reached, by its frequency
MOVES = 32  # visited entries that may be reached in turn; the next one is evicted: a fill must not take for ever
OVERHEAD = 300  # bytes that an entry costs a store beside its own

_TICK = 5  # bits of a millisecond that a place does not show
_TICKS = 20  # bits of time in a place
_RANKS = 43
_LEAST = 1 << 23  # the lowest rank: its place is above every date in ms, until the year 2248
_TOP = (1 << _RANKS) - 1
_HIGHEST = 1 << _RANKS + _TICKS  # above every place
_SCALE = 6  # bits of a worth behind the point
_MOST_WORTH = 1 << 32
_MS = 1_000  # nano-dollars that a millisecond of a call counts for, where its price is unknown


Name = TypeVar("Name")


class Candidate(NamedTuple, Generic[Name]):
    """An entry as an evicting store meets it, by the store's own name."""

    name: Name
    place: int
    size: int
    frequency: int


class Chosen(NamedTuple, Generic[Name]):
    """The entries to evict, and those that get a new place and frequency instead."""

    victims: list[Candidate[Name]]
    moved: list[Candidate[Name]]
    patience: int  # how many more may move before one is evicted


def cost(extensions: Iterable[tuple[int, bytes]]) -> int:
    """What an answer cost, in nano-dollars: its price; else a dollar for each 1,000 s of its call.

    Of the extensions as they are packed: all of a header are not taken apart for the sake of one number.
    """
    took = 0
    for kind, value in extensions:
        if kind == PRICE and (price := int.from_bytes(value[:8], "big")):
            return price
        if kind == DURATION:
            took = int.from_bytes(value[:8], "big")
        elif kind == SPENT:
            took = next(iter(of_groups(value)), 0)
    return _MS * max(1, took)


def worth(cost: int, size: int) -> int:
    """What a byte of an entry saves, at least 1."""
    return 1 + min((cost << _SCALE) // (size + OVERHEAD), _MOST_WORTH)


def stored(level: int, worth: int, now: int, *, known: bool) -> int:
    """The place of an entry that is stored at `now` (ms). `level`: the highest place that was evicted, 0 if none was.

    `known`: the entry was evicted lately.
    """
    return _place(_rank(level) + (KNOWN if known else NEW) * worth, now)


def frequency(before: int, visits: int) -> int:
    """The frequency of an entry after more visits."""
    return min(MOST, before + visits)


def chosen(
    lowest: Iterable[Candidate[Name]], size: int, worth_of: Callable[[Name], int], now: int, patience: int = MOVES
) -> Chosen[Name]:
    """Choose from the entries with the lowest places, which come in order, until `size` bytes are free.

    It ends early where a moved entry may come before the next one: the store then asks again, with the patience left.
    """
    victims, moves, next_place = list[Candidate[Name]](), list[Candidate[Name]](), _HIGHEST
    for one in lowest:
        if size <= 0 or one.place > next_place:
            break
        if one.frequency and patience:
            moves.append(_moved(one, worth_of(one.name), now))
            next_place, patience = min(next_place, moves[-1].place), patience - 1
        else:
            victims.append(one)
            size, patience = size - one.size, MOVES
    return Chosen(victims, moves, patience)


def _moved(one: Candidate[Name], worth: int, now: int) -> Candidate[Name]:
    place = _place(_rank(one.place) + AGAIN[min(one.frequency, MOST)] * worth, now)
    return one._replace(place=place, frequency=min(one.frequency, MOST) - 1)


def oldest_ghost(evicted: int, room: int) -> int:
    """The oldest ghost to keep. Ghosts are numbered by all bytes evicted so far: as many are kept as there is room."""
    return evicted - room


def _rank(place: int) -> int:
    return max(_LEAST, place >> _TICKS)


def _place(rank: int, now: int) -> int:
    return min(rank, _TOP) << _TICKS | (now >> _TICK) & ((1 << _TICKS) - 1)
