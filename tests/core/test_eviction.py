"""core.eviction: which of the lowest places go, and where an entry is placed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.eviction import AGAIN, MOST, MOVES, Candidate, chosen, cost, frequency, stored, worth
from askonce.core.model import (
    DURATION,
    PRICE,
    USAGE,
    Dates,
    Snapshot,
    packed_extensions,
    read_head,
    seal,
    unpack_extensions,
    whole,
)

NOW = 1_800_000_000_000
MONEY = st.integers(0, 2**63)
SIZES = st.integers(0, 2**40)
PLACES = st.integers(0, 2**63 - 1)


def lowest(*frequencies: int, size: int = 100) -> list[Candidate[int]]:
    first = stored(0, 1, NOW, known=False)
    return [Candidate(number, first + number, size, one) for number, one in enumerate(frequencies)]


def names(some: list[Candidate[int]]) -> list[int]:
    return [one.name for one in some]


@given(MONEY, SIZES, PLACES, st.integers(0, 2**43), st.booleans())
def test_every_place_fits_into_a_row_and_is_above_every_date(price, size, level, now, known):
    place = stored(level, worth(price, size), now, known=known)
    assert max(now, 2**43) <= place < 2**63


@given(MONEY, st.integers(1, 10**6), SIZES)
def test_a_byte_of_a_dearer_or_smaller_answer_is_worth_no_less(price, more, size):
    assert worth(price + more, size) >= worth(price, size) >= worth(price, size + more) >= 1


@given(PLACES, st.integers(1, 2**32), st.integers(0, 2**43))
def test_an_entry_that_came_back_is_placed_no_lower_than_a_new_one(level, value, now):
    new, known = (stored(level, value, now, known=one) for one in (False, True))
    assert known >= new


def test_of_two_entries_of_one_rank_the_first_that_came_is_lower():
    places = [stored(0, 7, NOW + 40 * number, known=False) for number in range(100)]
    assert places == sorted(set(places))


def test_what_no_visit_reached_goes_in_order_until_there_is_room():
    found = chosen(lowest(0, 0, 0, 0), 250, lambda _: 1, NOW)
    assert names(found.victims) == [0, 1, 2]
    assert not found.moved


def test_what_was_visited_moves_up_by_its_frequency_and_its_worth():
    value = 10**6
    found = chosen(lowest(0, 3, 0), 200, lambda _: value, NOW)
    assert names(found.victims) == [0, 2]
    (moved,) = found.moved
    assert (moved.name, moved.frequency) == (1, 2)
    assert moved.place >> 20 == (lowest(0)[0].place >> 20) + AGAIN[3] * value


def test_what_moved_may_be_the_next_so_the_store_asks_again():
    first, second = lowest(1, 0)
    high = second._replace(place=second.place << 1)
    found = chosen([first, high], 200, lambda _: 1, NOW)
    assert (names(found.victims), names(found.moved)) == ([], [0])


@given(st.lists(st.integers(0, MOST), min_size=1, max_size=3 * MOVES))
def test_a_store_of_visited_entries_gives_one_up_after_a_bounded_number_of_moves(frequencies):
    found = chosen(lowest(*frequencies), 1, lambda _: 10**6, NOW)
    assert len(found.moved) <= MOVES
    assert len(found.victims) == (1 if len(frequencies) > MOVES or 0 in frequencies else 0)


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 5_000))
def test_nothing_is_chosen_twice_and_none_with_visits_is_evicted_before_its_turn(frequencies, size):
    found = chosen(lowest(*frequencies), size, lambda one: 1 + one, NOW)
    assert len({*names(found.victims), *names(found.moved)}) == len(found.victims) + len(found.moved)
    seen = len(found.victims) + len(found.moved)
    assert sorted([*names(found.victims), *names(found.moved)]) == list(range(seen))


def test_a_price_counts_and_without_one_the_duration_of_the_call():
    assert cost({PRICE: whole(5_000_000), DURATION: whole(9)}.items()) == 5_000_000
    assert cost({DURATION: whole(2_500)}.items()) == 2_500_000  # a dollar for each 1,000 s
    assert cost(()) == cost([(DURATION, b"")]) > 0


# No number has more than eight bytes: `whole` writes no other.
extensions = st.dictionaries(st.sampled_from([2, 4, 6, DURATION, USAGE, PRICE]), st.binary(max_size=8), max_size=6)


@given(extensions, st.integers(0, 2**60))
def test_an_entry_costs_what_its_extensions_say_however_they_are_packed(said, took):
    for told in (said, {**said, DURATION: whole(took)}, {**said, DURATION: whole(took), USAGE: b"\x07"}):
        data = seal("v", bytes(32), bytes(16), 1, Snapshot(b"epoch-01", 1), 1000, told, b"").dated(Dates(1, 2, 3, 4))
        head = read_head(data)
        assert cost(packed_extensions(data, head)) == cost(unpack_extensions(data, head).items())


@given(st.integers(0, MOST), st.integers(0, 10**9))
def test_a_frequency_has_an_end(before, visits):
    assert before <= frequency(before, visits) <= MOST
