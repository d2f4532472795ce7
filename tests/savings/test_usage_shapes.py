"""What a library says of an answer's usage is learned once for each shape, and is what it says of each answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.prices import _READ_BY
from askonce.core.usage_shapes import BASE, MOST, UsageShapes
from tests.corpus import interactions
from tests.savings.recorded import found_in

NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
    "completion_tokens_details", "cached_tokens", "audio_tokens", "reasoning_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
    "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount",
    "inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "input_tokens_details",
    "promptTokensDetails", "cost", "service_tier", "server_tool_use", "web_search_requests",
)  # fmt: skip
numbers = st.integers(0, 10**7)
odd = st.none() | st.text(max_size=3) | st.floats() | st.booleans() | st.integers() | st.just([{"tokenCount": 3}])
usages = st.recursive(
    numbers | odd | numbers,
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=12,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["a", "b", None]),
        "modelVersion": st.sampled_from(["a", "b", 3]),
        "service_tier": st.sampled_from(["default", None]),
        "usage": usages,
        "usageMetadata": usages,
        "choices": st.just([]),
    },
)


def said(work):
    try:
        return work()
    except Exception as error:
        return type(error)


def again(answer, draw):
    """An answer of the same shape with other numbers, and another model."""
    if type(answer) is int:
        return draw(numbers)
    if type(answer) is dict:
        made = {name: again(value, draw) for name, value in answer.items()}
        return {name: draw(st.sampled_from("xyz")) if name.startswith("model") and type(value) is str else value
                for name, value in made.items()}  # fmt: skip
    return answer


@given(st.sampled_from(sorted(_READ_BY)), answers, st.data())
def test_what_was_learned_from_one_answer_holds_for_every_answer_of_its_shape(library, api, answer, data):
    shapes, read_by = UsageShapes(), _READ_BY[api]

    def ask(one):
        return library._extracted(read_by, one)

    for one in (answer, answer, again(answer, data.draw), again(answer, data.draw), answer):
        assert said(lambda one=one: shapes.counted(api, one, ask)) == said(lambda one=one: ask(one))


def test_of_answers_of_one_shape_the_library_is_asked_about_the_first(library):
    shapes, asked = UsageShapes(), []

    def ask(one):
        asked.append(one)
        return library._extracted(("openai", "chat"), one)

    for number in range(50):
        told = {"model": f"m{number}", "usage": {"prompt_tokens": number, "completion_tokens": 2 * number}}
        assert shapes.counted("chat", told, ask) == (
            f"m{number}",
            {"input_tokens": number, "output_tokens": 2 * number} if number else {},
        )
    assert len(asked) == 3


def test_a_number_that_counts_several_times_and_one_that_adds_to_another_are_told_apart():
    def ask(one):
        usage = one["usage"]
        return one["model"], {"x": usage["a"] * 3 + usage["b"], "y": usage["b"]}

    shapes = UsageShapes()
    for a, b in ((1, 1), (0, 5), (7, 11)):
        assert shapes.counted("chat", {"model": "m", "usage": {"a": a, "b": b}}, ask) == ("m", {"x": 3 * a + b, "y": b})


@pytest.mark.parametrize(
    "ask",
    [
        lambda one: (one["model"], {"x": one["usage"]["a"] * one["usage"]["b"]}),
        lambda one: (one["model"], {"x": max(one["usage"].values())}),
        lambda one: (one["model"], {"x": min(one["usage"].values())}),
        lambda one: (one["model"], {"x": abs(one["usage"]["a"] - one["usage"]["b"])}),
        lambda one: (one["model"], {"x": one["usage"]["a"] * BASE}),
        lambda one: ("always", {"x": one["usage"]["a"]}),
        lambda one: (None, {"x": one["usage"]["a"]}),
    ],
)
def test_what_is_no_sum_of_its_numbers_is_asked_for_each_time(ask):
    shapes = UsageShapes()
    for a, b in ((2, 3), (5, 7), (9, 4), (3, 3)):
        told = {"model": "m", "usage": {"a": a, "b": b}}
        assert shapes.counted("chat", told, ask) == ask(told)


def test_a_usage_of_many_numbers_is_asked_for_each_time():
    told = {"model": "m", "usage": {f"n{number}": 1 for number in range(MOST + 1)}}
    shapes = UsageShapes()
    for _ in range(2):
        assert shapes.counted("chat", told, lambda one: (one["model"], {"x": len(one["usage"])}))[1] == {"x": MOST + 1}
    assert not shapes._rules


def test_all_recorded_answers_are_counted_as_the_library_counts_them(library, corpus_dir):
    shapes, asked, learned = UsageShapes(), 0, 0
    for record in interactions(corpus_dir):
        for bill in found_in(record["response_body"] or "", stream=record["stream"]):
            if (read_by := _READ_BY.get(bill.api.name)) is None:
                continue
            calls = []

            def ask(one, read_by=read_by, calls=calls):
                calls.append(1)
                return library._extracted(read_by, one)

            told = said(lambda bill=bill, ask=ask: shapes.counted(bill.api.name, bill.answer, ask))
            asked, learned = asked + 1, learned + (not calls)
            assert told == said(lambda bill=bill, ask=ask: ask(bill.answer))
    assert asked > 1500
    assert learned / asked > 0.6
