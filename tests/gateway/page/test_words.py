"""Numbers for people: the right unit, the digits that matter, and no number that says more than is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.gateway.page import words


@pytest.mark.parametrize(
    ("micros", "said"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (1, "$0.000001"),
        (42, "$0.000042"),
        (4_200, "$0.0042"),
        (9_949, "$0.0099"),
        (9_999, "$0.010"),
        (12_345, "$0.012"),
        (99_499, "$0.099"),
        (99_500, "$0.10"),
        (12_841_000, "$12.84"),
        (1_204_560_000, "$1,204.56"),
        (12_345_678_900, "$12,346"),
        (-40_000, "\u2212$0.040"),
    ],
)
def test_money(micros, said):
    assert words.money(micros) == said


@given(st.integers(min_value=1, max_value=10**15))
def test_an_amount_is_shown_to_within_five_per_cent(micros):
    shown = float(words.money(micros).replace("$", "").replace(",", "")) * 1_000_000
    assert shown == pytest.approx(micros, rel=0.055)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.85, "850 ms"),
        (6.44, "6.4 s"),
        (41.2, "41 s"),
        (60, "1 min"),
        (3_660, "1 h 1 min"),
        (8_046, "2 h 14 min"),
        (274_330, "3 d 4 h"),
        (40_000_000, "462 d 23 h"),
        (-90, "\u22121 min 30 s"),
    ],
)
def test_spans(seconds, said):
    assert words.span(seconds).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (None, "\u2013"),
        (0.0, "0 %"),
        (0.0001, "0.1 %"),
        (0.68, "68 %"),
        (0.9995, "99.9 %"),
        (0.99999, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_that_are_only_near_all_or_nothing_do_not_say_so(share, said):
    assert words.percent(share).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "just now"), (12.9, "12 s ago"), (75, "1 min ago"), (-7_300, "in 2 h"), (0.0, "just now")],
)
def test_moments(seconds, said):
    assert words.ago(seconds).replace("\u00a0", " ") == said


@given(st.integers(min_value=0, max_value=10**18))
def test_a_size_never_takes_more_than_four_digits_and_a_unit(octets):
    number, unit = words.size(octets).split("\u00a0")
    assert len(number.replace(".", "").lstrip("0")) <= (7 if unit == "TiB" else 5)


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_every_number_has_words(number):
    for one in (words.span, words.ago, words.latency):
        assert one(number).isprintable() or "\u00a0" in one(number)
