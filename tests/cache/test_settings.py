"""What a call may say about itself, and its effect: the closed list of askonce's keywords.

The keywords of the list are askonce's; all others of `get_or_set` belong to the question. Scope, tenant and variant
join the key; tags join the entry; ttl, policy, control and store_if change what is accepted and what is kept. An
invalid value raises ConfigError before anything is paid, and says what to write instead.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import math
import re
import weakref
from decimal import Decimal

import pytest

from askonce import Cache, ConfigError, NotCached, Policy, RequestError, UsageError
from askonce.cache.options import CALL_OPTIONS
from askonce.testing.trial import Clock
from tests.crowd import ASKED, PATIENCE

URL = "memory://"


@pytest.fixture
def cache(crowd):
    return crowd.cache(URL)


def without_address(value):
    """A name that is the same in every process that collects these tests."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))


def raised(crowd, cache, request, call, **own):
    error = crowd.ask(cache, request, call, **own).exception(PATIENCE)
    assert error is not None, "nothing was raised"
    return error


# --- what joins the key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{"scope": "a/b"}, {"tenant": "t"}, {"variant": 1}, {"variant": "b"}])
def test_scope_tenant_and_variant_are_part_of_the_question(crowd, cache, call, own):
    plain = crowd.answer(cache, ASKED, call)
    other = crowd.answer(cache, ASKED, call, **own)
    assert other.key != plain.key
    assert not other.status.hit
    assert crowd.answer(cache, ASKED, call, **own).status.hit
    assert call.calls == 2


@pytest.mark.parametrize("own", [{"ttl": 60}, {"tags": ["t"]}, {"policy": Policy(ttl=60)}, {"store_if": bool}])
def test_what_concerns_only_the_keeping_is_no_part_of_the_question(crowd, cache, call, own):
    assert crowd.answer(cache, ASKED, call, **own).key == crowd.answer(cache, ASKED, call).key
    assert call.calls == 1


def test_the_first_of_several_wanted_answers_is_the_plain_one(crowd, cache, call):
    keys = {crowd.answer(cache, ASKED, call, **own).key for own in ({}, {"variant": None}, {"variant": 0})}
    assert len(keys) == 1
    assert len({crowd.answer(cache, ASKED, call, variant=number).key for number in (1, 2, 3)} | keys) == 4


def test_two_requests_that_differ_only_in_the_order_of_their_fields_are_one(crowd, cache, call):
    crowd.answer(cache, ASKED, call)
    assert crowd.answer(cache, dict(reversed(ASKED.items())), call).status.hit


def test_get_or_set_takes_its_own_keywords_and_leaves_all_others_to_the_key(crowd, cache):
    asked = []

    def answer(name):
        asked.append(name)
        return name

    def get(name, **more):
        made = answer
        if crowd.tasks:

            async def made(name):
                return answer(name)

        return crowd.do(cache.get_or_set, ASKED["messages"], "m", lambda: made(name), **more)

    assert get("first", temperature=0) == "first"
    assert get("again", temperature=0) == "first"
    assert get("warmer", temperature=0.5) == "warmer"
    assert get("seeded", temperature=0, seed=7) == "seeded"
    own = {"scope": "s", "tags": ["t"], "variant": 2, "tenant": "t", "store_if": bool}
    assert get("own", temperature=0, ttl=60, **own) == "own"
    assert get("own again", temperature=0, **own) == "own"
    assert get("not kept", temperature=0, control="no-store") == "not kept"
    assert get("user", temperature=0, user="a") == "user"
    assert asked == ["first", "warmer", "seeded", "own", "not kept", "user"]


def test_get_or_set_asks_what_fetch_asks(crowd, cache, call):
    request = {"messages": ASKED["messages"], "model": "m", "seed": 1}
    crowd.answer(cache, request, call)
    value = crowd.do(cache.get_or_set, ASKED["messages"], "m", None, seed=1)
    assert value["id"].endswith("-1")


# --- what changes the keeping ------------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timed(crowd, clock):
    return crowd.cache(URL, clock=clock, policy=Policy(jitter=0, grace=0))


def test_a_ttl_is_how_long_an_answer_stays_fresh(crowd, timed, clock, call):
    assert crowd.answer(timed, ASKED, call, ttl=60).status.stored
    clock.tick(57_000)  # a hit in its last second starts a refresh
    assert crowd.answer(timed, ASKED, call, ttl=60).status.hit
    clock.tick(4_000)
    assert not crowd.answer(timed, ASKED, call, ttl=60).status.hit


@pytest.mark.parametrize(
    ("policies", "own", "lives"),
    [
        ({"policy": Policy(ttl=100, jitter=0)}, {}, 100),
        ({"policy": Policy(ttl=100, jitter=0)}, {"policy": Policy(ttl=50)}, 50),
        ({"policy": Policy(ttl=100, jitter=0)}, {"policy": Policy(ttl=50), "ttl": 20}, 20),
        ({"policy": Policy(ttl=100, jitter=0), "scopes": {"a": Policy(ttl=40)}}, {"scope": "a/b"}, 40),
        (
            {"policy": Policy(ttl=100, jitter=0), "scopes": {"a": Policy(ttl=40), "a/b": Policy(ttl=30)}},
            {"scope": "a/b"},
            30,
        ),
        ({"policy": Policy(ttl=100, jitter=0), "scopes": {"a": Policy(ttl=40)}}, {"scope": "ab"}, 100),
        ({"policy": Policy(ttl=70, jitter=0, max_age=70)}, {"ttl": 500}, 70),
    ],
    ids=["the cache's", "a call's", "a ttl's", "a scope's", "the longest scope's", "no scope's", "capped"],
)
def test_the_nearest_policy_counts_and_a_call_only_tightens_what_the_cache_caps(
    crowd, clock, call, policies, own, lives
):
    cache = crowd.cache(URL, clock=clock, **policies)
    crowd.answer(cache, ASKED, call, **own)
    assert crowd.answer(cache, ASKED, call, **own).status.ttl in {lives - 1, lives}


def test_only_what_store_if_wants_is_stored(crowd, cache, call):
    wanted = []

    def want(answer):
        wanted.append(answer)
        return False

    outcome = crowd.answer(cache, ASKED, call, store_if=want)
    assert (outcome.status.stored, outcome.status.detail) == (False, "store-if")
    assert wanted == [outcome.value]
    assert crowd.answer(cache, ASKED, call, store_if=lambda answer: True).status.stored
    assert call.calls == 2


def test_a_store_if_that_raises_loses_no_answer_and_is_told_once(crowd, cache, call, caplog):
    caplog.set_level(logging.WARNING, "askonce")
    for _ in range(2):
        outcome = crowd.answer(cache, ASKED, call, store_if=lambda answer: answer["no such"])
        assert (outcome.status.stored, outcome.status.detail) == (False, "store-if-failed")
    assert len(caplog.records) == 1
    assert "KeyError" in caplog.text


@pytest.mark.waits
def test_a_filter_made_for_each_call_is_not_kept(cache, crowd, call):
    class Large:
        def __call__(self, answer):
            return True

    large = Large()
    seen = weakref.ref(large)
    crowd.answer(cache, ASKED, call, store_if=large)
    del large
    gc.collect()
    assert seen() is None


# --- directives --------------------------------------------------------------------------------------------------


def test_no_cache_asks_again_and_stores(crowd, cache, call):
    first = crowd.answer(cache, ASKED, call)
    second = crowd.answer(cache, ASKED, call, control="no-cache")
    assert (second.status.fwd, second.status.stored) == ("request", True)
    assert first.value != second.value == crowd.answer(cache, ASKED, call).value


def test_no_store_passes(crowd, cache, call):
    for number in (1, 2):
        outcome = crowd.answer(cache, ASKED, call, control="no-store")
        assert (outcome.status.fwd, outcome.status.detail) == ("bypass", "no-store")
        assert call.calls == number


def test_only_if_cached_never_pays(crowd, cache, call):
    error = raised(crowd, cache, ASKED, call, control="only-if-cached")
    assert isinstance(error, NotCached)
    assert isinstance(error, LookupError)
    assert len(error.key) == 64
    assert call.calls == 0
    crowd.answer(cache, ASKED, call)
    assert crowd.answer(cache, ASKED, call, control="only-if-cached").status.hit


def test_only_if_cached_does_not_pay_for_what_passes_either(crowd, cache, call):
    request = {**ASKED, "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert isinstance(raised(crowd, cache, request, call, control="only-if-cached"), NotCached)
    assert call.calls == 0
    assert crowd.answer(cache, request, call).status.detail == "tools"


def test_max_age_bounds_the_age_of_what_is_taken(crowd, timed, clock, call):
    crowd.answer(timed, ASKED, call)
    clock.tick(30_000)
    assert crowd.answer(timed, ASKED, call, control="max-age=60").status.age == 30
    outcome = crowd.answer(timed, ASKED, call, control="max-age=20")
    assert (outcome.status.fwd, outcome.status.stored) == ("request", True)
    assert crowd.answer(timed, ASKED, call, control="max-age=20").status.hit


# --- what cannot be meant ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"control": "no-cash"}, "no-cache"),
        ({"control": "max-age"}, "max-age=60"),
        ({"control": "max-age=soon"}, "max-age=60"),
        ({"control": "no-cache, no-cache"}, "once"),
        ({"control": ["no-cache"]}, "control='"),
        ({"ttl": -1}, "seconds"),
        ({"ttl": "60"}, "ttl=60"),
        ({"ttl": [60]}, "ttl=60"),
        ({"scope": "a//b"}, "'a/b'"),
        ({"scope": 7}, "'7'"),
        ({"tags": "doc:42"}, r"\['doc:42'\]"),
        ({"tags": 42}, "list of tags"),
        ({"tags": [["a"]]}, "a tag is text"),
        ({"tags": [""]}, "empty"),
        ({"variant": 1.5}, "small number"),
        ({"variant": True}, "small number"),
        ({"variant": [1]}, "small number"),
        ({"tenant": 5}, "tenant='5'"),
        ({"policy": {"ttl": 60}}, r"Policy\(ttl=60\)"),
        ({"store_if": "yes"}, "function"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_raises_before_anything_is_paid(crowd, cache, call, own, says):
    error = raised(crowd, cache, ASKED, call, **own)
    assert isinstance(error, ConfigError)
    assert isinstance(error, ValueError)
    with pytest.raises(ConfigError, match=says):
        raise error
    assert call.calls == 0


def test_a_keyword_that_is_not_ours_is_named_with_those_that_are(crowd, cache, call):
    error = raised(crowd, cache, ASKED, call, temprature=0)
    assert isinstance(error, UsageError)
    assert "temprature" in str(error)
    assert all(name in str(error) for name in CALL_OPTIONS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"policy": {"ttl": 60}}, r"Policy\(ttl=60\)"),
        ({"scopes": {"a": {"ttl": 60}}}, r"Policy\(ttl=60\)"),
        ({"scopes": {"a//b": Policy()}}, "'a/b'"),
        ({"tenant": 5}, "tenant='5'"),
        ({"prefix": 5}, "prefix='5'"),
        ({"mode": "of"}, "on, off, refresh, only-if-cached"),
        ({"max_byte": 5}, "max_byte"),
        ({"redis_client": object()}, "not both"),
    ],
    ids=without_address,
)
def test_a_cache_that_cannot_be_meant_is_not_made(options, says):
    with pytest.raises(ConfigError, match=says):
        Cache(URL, **options)


# --- requests and answers ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Note:
    text: str


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"messages": [{"content": b"bytes"}]}, "$.messages[0].content"),
        ({"temperature": float("nan")}, "$.temperature"),
        ({"a": [1, {"b": float("inf")}]}, "$.a[1].b"),
        ({"a": {1: "x"}}, "$.a[1]"),
        ({"a": {"x"}}, "$.a"),
        ({"a b": object()}, "$['a b']"),
        (object(), "$"),
    ],
    ids=without_address,
)
def test_a_request_without_an_exact_form_is_refused_with_the_place(crowd, cache, call, request_, path):
    error = raised(crowd, cache, request_, lambda: 1)
    assert isinstance(error, RequestError)
    assert isinstance(error, TypeError)
    assert error.path == path
    assert path in str(error)


def test_a_dataclass_and_a_model_are_what_they_hold(crowd, cache, call):
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        text: str

    first = crowd.answer(cache, {"note": {"text": "x"}}, lambda: 1)
    for same in (Note("x"), Model(text="x")):
        assert crowd.answer(cache, {"note": same}, lambda: 2).key == first.key


@pytest.mark.parametrize("model", ["m" * 70_000, "\ud800", "", 7, None])
def test_any_model_is_a_questions_right(crowd, cache, model):
    request = {"model": model, "n": 1}
    assert crowd.answer(cache, request, lambda: 1).status.stored
    assert crowd.answer(cache, request, lambda: 2).value == 1


def test_a_coroutine_function_given_to_a_cache_is_named_with_the_remedy(threads):
    cache = threads.cache(URL)

    async def call():
        return 1

    error = raised(threads, cache, ASKED, call)
    assert isinstance(error, UsageError)
    assert "AsyncCache" in str(error)


def test_a_plain_function_given_to_an_async_cache_is_called(tasks):
    assert tasks.answer(tasks.cache(URL), ASKED, lambda: "plain").value == "plain"


def test_an_answer_that_is_not_json_is_returned_with_one_warning_naming_the_remedy(crowd, cache, caplog):
    caplog.set_level(logging.WARNING, "askonce")
    for number in range(3):
        note = Note("x")
        outcome = crowd.answer(cache, {"n": number}, lambda note=note: note)
        assert outcome.value is note
        assert outcome.status.detail == "not-json"
    assert len(caplog.records) == 1
    assert "model_dump" in caplog.text
    assert "($: Note)" in caplog.text


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ("$.a[1].b: Decimal", {"a": [1, {"b": Decimal(1)}], "c": object()}),
        ("$.a: float nan", {"a": math.nan}),
        ("$[0]: int beyond 64 bits", [2**64]),
        ("$.a: a text that UTF-8 does not have", {"a": "\ud800"}),
        ("$.x: a key of type NoneType", {"x": {"y": 1, None: 2}}),
        ("$.x: tuple", {"w": [], "x": (1, 2)}),
        ("nested too deep", json.loads("[" * 300 + "]" * 300)),
    ],
)
def test_the_warning_names_the_place_of_what_is_no_json(told, value, caplog):
    with Cache("memory://") as cache:
        cache.fetch(ASKED, lambda: value)
    assert f"({told})" in caplog.text


def test_nobody_can_change_another_callers_value(crowd, cache):
    first = crowd.answer(cache, ASKED, lambda: {"list": [1]})
    first.value["list"].append(2)
    second = crowd.answer(cache, ASKED, lambda: None)
    second.value["list"].append(3)
    assert crowd.answer(cache, ASKED, lambda: None).value == {"list": [1]}


def test_the_call_may_keep_and_change_what_it_returned(crowd, cache):
    kept = {"list": [1]}
    crowd.answer(cache, ASKED, lambda: kept)
    kept["list"].append(2)
    assert crowd.answer(cache, ASKED, lambda: None).value == {"list": [1]}
