"""The arithmetic of savings: what holds for any numbers."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.savings import Latency, Row, Savings, total
from askonce.core.spent import BALANCE, KINDS, Balance, Spent
from askonce.core.tallies import EDGES

numbers = st.integers(0, 10**15)
spent = st.builds(Spent, *[numbers] * 7)
balances = st.builds(Balance, *[spent] * len(KINDS), numbers)


@given(balances)
def test_what_was_saved_is_what_was_asked_and_not_paid(balance):
    assert balance.saved == balance.asked - balance.paid
    assert balance.asked - balance.led == balance.hits + balance.joined + balance.stale
    assert balance.paid - balance.led == balance.refreshes + balance.doubled


@given(balances, balances, balances)
def test_balances_add_up_in_any_order_and_so_do_their_sums(one, two, three):
    assert (one + two) + three == three + (two + one)
    for name in ("asked", "paid", "saved"):
        assert getattr(one + two, name) == getattr(one, name) + getattr(two, name)
    assert one + Balance() == one


@given(spent, spent)
def test_what_was_added_can_be_taken_away(one, two):
    assert one + two - two == one
    assert (one + two).tokens == one.tokens + two.tokens


@given(balances)
def test_a_fill_costs_nothing_and_a_refresh_does(balance):
    more = Spent(1, 10, 20, 3, 4_000, 500)
    assert (balance + Balance(led=more)).saved == balance.saved
    assert (balance + Balance(refreshes=more)).saved == balance.saved - more
    assert (balance + Balance(joined=more, doubled=more)).saved == balance.saved  # a takeover saves nothing


@given(balances)
def test_a_ratio_is_a_share(balance):
    assert 0 <= balance.hit_ratio <= 1


def test_money_is_rounded_where_it_is_shown_and_not_where_it_is_added():
    small = Spent(calls=1, nanodollars=400)
    assert small.micros == 0
    assert sum([small] * 9, Spent()).micros == 4
    assert Spent(nanodollars=2_500_000_000).usd == 2.5


@given(st.lists(st.lists(numbers, max_size=len(EDGES) + 1).map(tuple).map(Latency), max_size=4))
def test_latencies_add_up(parts):
    whole = total(parts)
    assert whole.count == sum(part.count for part in parts)
    assert whole.count == 0 or whole.quantile(1.0) is not None


def test_a_quantile_is_the_edge_of_its_range():
    counts = [0] * (len(EDGES) + 1)
    counts[EDGES.index(1.0)], counts[EDGES.index(500.0)], counts[-1] = 90, 9, 1
    latency = Latency(tuple(counts))
    assert (latency.quantile(0.5), latency.quantile(0.95), latency.quantile(1.0)) == (1.0, 500.0, EDGES[-1])
    assert Latency().quantile(0.5) is None


@given(balances)
def test_all_of_it_is_json(balance):
    from datetime import date

    day = date(2026, 11, 26)
    said = Savings(day, day, balance, ("model",), (Row(("m",), balance),)).as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["rows"][0]["model"] == "m"
    assert set(said["total"]) >= set(BALANCE) | {"asked", "paid", "saved"}
