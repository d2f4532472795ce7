"""Keywords: policy fields beside the others, and misspelt words, which are errors where they are given."""

import inspect
import pickle
from dataclasses import fields

import httpx
import httpx2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from askonce import AsyncCache, Cache, ConfigError, Policy, UsageError
from askonce.cache.opened import CACHE_OPTIONS
from askonce.cache.options import CALL_OPTIONS, CLIENT_OPTIONS, OPTIONS, POLICY_OPTIONS
from askonce.core.providers.inert import NAMES
from askonce.core.spelling import meant

GIVEN = {
    "ttl": 60,
    "hot_ttl": 9,
    "grace": 5,
    "stale_if_error": 7,
    "max_age": 600,
    "hot_threshold": 3,
    "hot_window": 60,
    "jitter": 0.5,
    "tool_calls": "store",
    "searched": "store",
    "on_abandon": "close",
    "abandon_limit": 3,
    "max_flight": 60,
    "max_answer_bytes": 4096,
    "consistency": "strong",
}
LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz_")


@pytest.fixture
def cache():
    with Cache("memory://") as cache:
        yield cache


class Counted:
    """A call that counts itself."""

    count = 0

    def __call__(self):
        self.count += 1
        return self.count


@pytest.fixture
def call():
    return Counted()


def terms(cache, settings):
    return cache._base._planner.plan(settings).terms


def test_every_field_of_a_policy_has_a_value_here():
    assert GIVEN.keys() == {field.name for field in fields(Policy)} == POLICY_OPTIONS | {"ttl", "consistency"}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("kind", [Cache, AsyncCache])
def test_a_field_of_a_policy_is_a_keyword_of_a_cache_a_handle_and_a_client(kind, name):
    said = {name: GIVEN[name]}
    right = getattr(terms(Cache("memory://", policy=Policy(**said)), Cache("memory://")._settings({})), name)
    made = kind("memory://", **said)
    assert getattr(terms(made, made._settings({})), name) == right
    assert getattr(terms(pickle.loads(pickle.dumps(made)), made._settings({})), name) == right
    plain = kind("memory://")
    assert getattr(terms(plain, plain.scoped(**said)._own), name) == right
    assert getattr(terms(plain, plain._settings(said)), name) == right
    rules = plain._client_rules(dict(said), share_forms=False)
    assert getattr(rules._plain.terms, name) == right


def test_a_keyword_goes_before_the_same_field_of_the_policy_beside_it():
    made = Cache("memory://", ttl=60, policy=Policy(ttl=5, grace=1))
    assert (terms(made, made._settings({})).ttl, terms(made, made._settings({})).grace) == (60, 1)
    settings = made._settings({"policy": Policy(jitter=0.5, grace=2), "grace": 3})
    assert (terms(made, settings).grace, terms(made, settings).jitter) == (3, 0.5)


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ({"a": 5}, "Policy"),
        ({"a": {"ttl": 5}}, "Policy"),
        ({"a": None}, "Policy"),
        ([("a", Policy())], "write {"),
        ({"a//b": Policy()}, "empty part"),
        ({5: Policy()}, "scope"),
    ],
)
def test_wrong_values_of_scopes_raise_where_they_are_given(scopes, said):
    with pytest.raises(ConfigError, match=said):
        Cache("memory://", scopes=scopes)


@pytest.mark.parametrize(
    ("word", "right"),
    [
        *(("tag", "tags="), ("scopes", "scopes="), ("tll", "ttl="), ("TTL", "ttl="), ("variants", "variant=")),
        *(("tenent", "tenant="), ("storeif", "store_if="), ("contol", "control="), ("requst", "request=")),
        *(("grace", "policy=Policy(grace="), ("max_bytes", "policy=Policy("), ("fold", "Cache(fold=")),
    ],
)
def test_a_keyword_of_get_or_set_that_is_nearly_askonces_is_an_error_with_the_right_word(cache, call, word, right):
    with pytest.raises(UsageError) as error:
        cache.get_or_set([], "m", call, **{word: 1})
    assert right in str(error.value)
    assert f"request={{{word!r}: ...}}" in str(error.value)
    assert call.count == 0
    cache.get_or_set([], "m", call, request={word: 1})
    cache.get_or_set([], "m", call, request={word: 2})
    assert call.count == 2, "it is a part of the question"


@pytest.mark.parametrize("request_", [1, "tag", [("a", 1)]])
def test_a_request_beside_the_messages_is_a_dict(cache, call, request_):
    with pytest.raises(UsageError, match="write a dict"):
        cache.get_or_set([], "m", call, request=request_)


def test_no_field_that_providers_have_is_taken_for_a_misspelt_word(cache, call):
    asked = {name: 1 for name in NAMES - CALL_OPTIONS - {"messages", "model"} if name.isidentifier()}
    assert len(asked) > 150
    cache.get_or_set([], "m", call, **asked, logprobs=1, n=1, top_logprobs=1, frequency_penalty=1, min_p=1, best_of=1)


@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_no_keyword_of_a_client_is_taken_for_a_misspelt_word(module, kind):
    for name in inspect.signature(getattr(module, kind)).parameters:
        assert meant(name, CLIENT_OPTIONS) is None


@given(st.sampled_from(sorted(OPTIONS)), st.integers(0, 20), LETTERS, st.sampled_from(["add", "drop", "put", "swap"]))
def test_one_wrong_letter_in_any_keyword_is_an_error_that_names_a_keyword(word, at, letter, what):
    at %= len(word)
    rest = {
        "add": word[at:],
        "drop": word[at + 1 :],
        "put": word[at + 1 :],
        "swap": word[at : at + 2][::-1] + word[at + 2 :],
    }
    wrong = word[:at] + (letter if what in {"add", "put"} else "") + rest[what]
    assume(wrong.isidentifier())
    assume(wrong not in OPTIONS | CACHE_OPTIONS | {"max_bytes", "clock"})
    with Cache("memory://") as cache:
        for give in (cache.scoped, cache.http_client, lambda **own: cache.fetch({}, dict, **own)):
            with pytest.raises(UsageError) as error:
                give(**{wrong: 1})
            assert "write " in str(error.value)
    with pytest.raises(ConfigError, match="write "):
        Cache("memory://", **{wrong: 1})
