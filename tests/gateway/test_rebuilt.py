"""Results go to JSON and come back the same; JSON of another form is refused, not half understood."""

import json
from datetime import UTC, date, datetime

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.savings import Activity, Hour, Latency, Row, Savings
from askonce.core.spent import Balance, Spent
from askonce.core.why import Miss, Why
from askonce.gateway import results
from askonce.gateway.rebuilt import rebuilt
from askonce.gateway.results import plain
from askonce.gateway.savings_json import activity_json, savings_of

KINDS = [results.About, results.Stats, results.Rows, results.Swept, results.Pulse]
LISTS = [list[results.Flight], list[Miss], Why]

numbers = st.integers(0, 10**12)
spent = st.builds(Spent, *[numbers] * 7)
balances = st.builds(Balance, *[spent] * 6, numbers)
days = st.dates(date(2020, 1, 1), date(2100, 1, 1))


@pytest.mark.parametrize("kind", [*KINDS, *LISTS])
@given(st.data())
def test_what_is_written_is_read_as_the_same(kind, data):
    made = data.draw(st.from_type(kind).filter(lambda one: "nan" not in repr(one)))
    assert rebuilt(kind, json.loads(json.dumps(plain(made)))) == made


json_like = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)


@given(st.from_type(results.Row), json_like, st.fixed_dictionaries({"key": json_like}), st.none() | st.integers())
def test_a_body_and_an_aim_are_whatever_json_they_were(row, body, aim, reached):
    form = results.Answer(**{**plain(row), "tags": row.tags, "took": 0.5, "body": body})
    hypothesis.assume("nan" not in repr(form))
    for made in (results.Answers([form], 1.5), results.Invalidated("p", aim, True, reached, 0.25)):
        assert rebuilt(type(made), json.loads(json.dumps(plain(made)))) == made


@given(days, days, balances, st.lists(st.tuples(st.text(), st.text(), balances), max_size=3))
def test_savings_are_read_as_they_were(since, until, total, groups):
    rows = tuple(Row((model, scope), balance) for model, scope, balance in groups)
    savings = Savings(since, until, total, ("model", "scope"), rows)
    assert savings_of(json.loads(json.dumps(savings.as_dict()))) == savings


@given(balances, st.lists(st.integers(0, 1000), max_size=25))
def test_an_activity_is_json(balance, counts):
    latency = Latency(tuple(counts))
    hour = Hour(datetime(2026, 11, 26, 5, tzinfo=UTC), balance, latency, latency)
    told = json.loads(json.dumps(activity_json(Activity((hour,), {"tools": 2}, {"length": 1}, (("k", 3),)))))
    assert told["hours"][0]["at"] == "2026-11-26T05:00:00Z"
    assert told["hits"]["count"] == sum(counts)
    assert (told["passed"], told["hottest"]) == ({"tools": 2}, [{"key": "k", "hits": 3}])


ABOUT = {"version": "1", "store": "s", "prefix": "", "now": 1}


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "about",
        {},
        {**ABOUT, "now": "1"},
        {**ABOUT, "now": True},
        {**ABOUT, "store": 1},
        {**ABOUT, "now": None},
    ],
)
def test_json_of_another_form_is_refused(told):
    with pytest.raises(ValueError, match=r"."):
        rebuilt(results.About, told)


def test_what_a_newer_version_adds_is_ignored():
    assert rebuilt(results.About, {**ABOUT, "more": [1]}) == results.About("1", "s", "", 1.0)


@pytest.mark.parametrize(
    "told", [{}, {"since": 1}, {"since": "x", "until": "y", "by": [], "total": {}, "rows": []}, []]
)
def test_what_is_no_savings_is_refused(told):
    with pytest.raises(ValueError, match=r"."):
        savings_of(told)
