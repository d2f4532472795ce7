"""Prices: a list of the user's, the library, and what neither knows."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import Cache, ConfigError
from askonce.cache.pricing import pricer_of, read_prices
from askonce.core.costs import extensions_of, pack_usage, spent_of, unpack_usage
from askonce.core.prices import Library
from askonce.core.providers import APIS
from askonce.core.providers.parts import answers_in
from askonce.core.providers.usage import Bill, Usage, bill_of_events, bills_of, usage_of
from askonce.core.shared_bills import bills_in
from tests.corpus import interactions
from tests.savings.recorded import found_in

BY_NAME = {api.name: api for api in APIS}
counts = st.integers(0, 2**40)
NOW = 1_790_000_000.0


@given(st.builds(Usage, counts, counts, counts), st.none() | st.integers(0, 2**50))
def test_an_entry_gives_back_what_it_was_told(usage, price):
    assert unpack_usage(pack_usage(usage)) == usage
    found = spent_of(extensions_of(usage, price))
    assert (found.tokens_in, found.tokens_out, found.tokens_cached) == usage
    assert (found.nanodollars, found.unpriced) == (price or 0, price is None)


@given(st.binary(max_size=40))
def test_any_bytes_are_some_usage(data):
    assert len(unpack_usage(data)) == 3


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["usage", "usageMetadata", "model", "prompt_tokens", "input_tokens", "choices", "message", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_like, st.sampled_from(APIS))
def test_no_answer_makes_its_reader_raise(value, api):
    bills = [*bills_of([(value, api)]), *bills_of(answers_in(value))]
    if isinstance(value, list):
        bills.append(bill_of_events(api, [one for one in value if isinstance(one, dict)]))
    for bill in bills:
        usage = bill.usage
        assert usage is None or all(type(count) is int and count >= 0 for count in usage)
        price = pricer_of({"*": {"input": 1, "output": 1}}).price([bill])
        assert price is None or price >= 0


@given(st.sampled_from("vjs"), st.binary(max_size=60))
def test_no_bytes_make_their_reader_raise(form, body):
    assert isinstance(bills_in(form, body), list)


SHAPES = {
    "chat": {
        "object": "chat.completion",
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
    },
    "responses": {
        "object": "response",
        "status": "completed",
        "output": [],
        "usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 5}},
    },
    "messages": {
        "type": "message",
        "role": "assistant",
        "content": [],
        "usage": {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 4},
    },
    "gemini": {
        "candidates": [],
        "modelVersion": "g",
        "usageMetadata": {
            "promptTokenCount": 9,
            "candidatesTokenCount": 1,
            "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 5,
        },
    },
    "converse": {
        "output": {},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 4, "cacheReadInputTokens": 5, "outputTokens": 4},
    },
    "ollama": {"model": "m", "done": True, "message": {}, "prompt_eval_count": 9, "eval_count": 4},
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_api_tells_its_tokens(name):
    found = usage_of(BY_NAME[name], SHAPES[name])
    assert found == Usage(9, 4, 0 if name == "ollama" else 5)


@pytest.mark.parametrize("count", [-1, 2**63, 1.5, True, "7", None, [], {}])
def test_what_is_no_count_counts_nothing(count):
    answer = {"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": count, "completion_tokens": 3}}
    found = usage_of(BY_NAME["chat"], answer)
    assert found == Usage(0, 3, 0)


# --- a list of the user's


LIST = {"gpt-9*": {"input": 2, "output": 10, "cached_input": 0.5}, "gpt-9-mini": {"input": 1, "output": 1}}


def bill(model, asked="", **usage):
    return Bill(BY_NAME["chat"], {"model": model, "usage": usage}, "", asked)


def test_the_longest_pattern_counts_and_the_model_that_answered_first():
    pricer = pricer_of(LIST)
    many = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    assert pricer.price([bill("gpt-9-2026", **many)]) == 2_000_000_000
    assert pricer.price([bill("GPT-9-mini", **many)]) == 1_000_000_000
    assert pricer.price([bill("unheard-of", "gpt-9-mini", **many)]) == 1_000_000_000
    cached = {"prompt_tokens_details": {"cached_tokens": 500_000}}
    assert pricer.price([bill("gpt-9", **many, **cached)]) == 1_250_000_000
    assert pricer.price_of(Usage(0, 3), "gpt-9") == 30_000


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"gpt": {"inptu": 1, "output": 2}}, "'inptu' is unknown: write input"),
        ({"gpt": {"input": "1", "output": 2}}, "input is '1': write dollars"),
        ({"gpt": {"input": -1, "output": 2}}, "input is -1"),
        ({"gpt": {"input": math.nan, "output": 2}}, "input is nan"),
        ({"gpt": {"input": True, "output": 2}}, "input is True"),
        ({"gpt": {"input": 1}}, "has no output"),
        ({"gpt": 3}, "write input and output"),
        (7, "prices= is a int"),
        ("/nowhere/prices.toml", "cannot be read"),
    ],
)
def test_a_wrong_list_says_what_to_write(said, told):
    with pytest.raises(ConfigError, match=told):
        Cache("memory://", prices=said)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.toml", "[models", "is no TOML"),
        ("p.json", "{", "is no JSON"),
        ("p.toml", "[model.gpt]\ninput = 1\noutput = 2\n", "'model' is unknown; write a table"),
        ("p.json", "[]", "write a table"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, name, text, told):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=told) as raised:
        read_prices(path)
    assert name in str(raised.value)


def test_a_file_may_be_toml_or_json_and_the_environment_names_one(tmp_path, monkeypatch):
    toml, other = tmp_path / "prices.toml", tmp_path / "prices.json"
    toml.write_text('[models."gpt-9*"]\ninput = 2\noutput = 10\ncached_input = 0.5\n', "utf-8")
    other.write_text(json.dumps({"models": {"gpt-9*": LIST["gpt-9*"]}}), "utf-8")
    assert read_prices(toml) == read_prices(other)
    monkeypatch.setenv("ASKONCE_PRICES", str(toml))
    assert pricer_of(None).price_of(Usage(1, 0), "gpt-9") == 2_000
    assert pricer_of({"gpt-9": {"input": 7, "output": 0}}).price_of(Usage(1, 0), "gpt-9") == 7_000


# --- the library


CASES = [
    (
        "chat",
        "https://api.openai.com/v1/chat/completions",
        "gpt-4o-mini",
        {"prompt_tokens": 1000, "completion_tokens": 100},
    ),
    (
        "chat",
        "",
        "gpt-4.1",
        {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}},
    ),
    (
        "messages",
        "https://api.anthropic.com/v1/messages",
        "claude-sonnet-4-5",
        {"input_tokens": 7, "output_tokens": 9, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50},
    ),
    (
        "messages",
        "https://api.anthropic.com/v1/messages",
        "claude-sonnet-4-5",
        {"input_tokens": 300_000, "output_tokens": 9},
    ),
    (
        "responses",
        "",
        "gpt-4o",
        {"input_tokens": 7, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}},
    ),
]


@pytest.mark.parametrize(("api", "where", "model", "usage"), CASES)
def test_rates_that_are_remembered_give_the_library_s_own_price(library, api, where, model, usage):
    import genai_prices

    wanted = Bill(BY_NAME[api], {"model": model, "usage": usage}, where, "")
    provider, flavor = {
        "chat": ("openai", "chat"),
        "messages": ("anthropic", "default"),
        "responses": ("openai", "responses"),
    }[api]
    told = genai_prices.extract_usage(wanted.answer, provider_id=provider, api_flavor=flavor)
    from datetime import UTC, datetime

    exact = genai_prices.calc_price(told.usage, model, genai_request_timestamp=datetime.fromtimestamp(NOW, UTC))
    for _ in range(2):
        assert library.price(wanted, NOW) == pytest.approx(float(exact.total_price) * 1e9, abs=1)
    assert library.price(wanted, NOW) > 0


@given(st.sampled_from(CASES), st.integers(1, 10**5), st.integers(1, 10**5))
def test_rates_hold_for_any_number_of_tokens(library, case, put_in, got_out):
    api, where, model, usage = case
    names = [name for name, count in usage.items() if isinstance(count, int)]
    scaled = dict(usage) | {names[0]: put_in + usage[names[0]], names[1]: got_out}
    told = Bill(BY_NAME[api], {"model": model, "usage": scaled}, where, "")
    first, fresh = library.price(told, NOW), Library()
    fresh.load()
    assert first == fresh.price(told, NOW)


@given(json_like, st.sampled_from(APIS), st.text(max_size=20))
def test_the_library_never_raises_out_of_a_call(library, value, api, model):
    for one in (Bill(api, value if isinstance(value, dict) else {"usage": value}, "", model), bill(model)):
        price = library.price(one, NOW)
        assert price is None or price >= 0


def test_an_unknown_model_has_no_price_and_is_counted_apart(library):
    told = bill("gpt-ninety", prompt_tokens=5, completion_tokens=1)
    assert library.price(told, NOW) is None
    assert library.price_of(Usage(1, 1), "gpt-ninety", NOW) is None


def test_most_recorded_answers_have_a_price_and_streams_tell_what_their_twins_tell(library, corpus_dir):
    priced = metered = streamed = 0
    for record in interactions(corpus_dir):
        text = record["response_body"]
        if record["status"] != 200 or not text:
            continue
        bills = found_in(text, stream=record["stream"])
        usage = next((bill.usage for bill in bills), None)
        if usage is None or not usage.tokens_in + usage.tokens_out:
            continue
        metered, streamed = metered + 1, streamed + bool(record["stream"])
        told = [one._replace(model=record["model"] or "", where=f"https://{record['host']}") for one in bills]
        priced += all(library.price(one, NOW) is not None for one in told)
    assert (metered > 1500, streamed > 300) == (True, True)
    assert priced / metered > 0.9
