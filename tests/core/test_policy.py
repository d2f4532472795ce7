"""What a caller may want, which settings follow, and what may be looked up and stored."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from askonce.core.judge import judge_answer
from askonce.core.policy import LONGEST, NO_CONTROL, Control, Policy, Terms, resolve
from askonce.core.providers.request import judge_request
from askonce.errors import ConfigError

TERMS = {word: resolve(Policy(tool_calls=word)) for word in ("pass", "structured", "judge", "store")}

# --- policies ---


def test_without_a_word_the_built_in_terms_hold():
    assert resolve() == Terms(
        ttl=86400.0,
        hot_ttl=21600.0,
        grace=3600.0,
        stale_if_error=86400.0,
        max_age=604800.0,
        hot_threshold=10,
        hot_window=3600.0,
        jitter=0.05,
        tool_calls="pass",
        searched="pass",
        on_abandon="finish",
        abandon_limit=30.0,
        max_flight=900.0,
        max_answer_bytes=8 * 1024 * 1024,
        consistency="bounded",
    )


def test_whoever_says_a_minute_gets_a_minute_in_every_respect():
    terms = resolve(Policy(ttl=60))
    assert (terms.hot_ttl, terms.grace, terms.stale_if_error, terms.max_age) == (15.0, 2.5, 60.0, 420.0)


def test_a_lifetime_that_is_given_is_not_worked_out():
    terms = resolve(Policy(ttl=60, grace=0, max_age=90))
    assert (terms.grace, terms.max_age, terms.stale_if_error) == (0.0, 90.0, 60.0)


@given(
    st.sampled_from(["hot_ttl", "grace", "stale_if_error"]), st.floats(0.001, LONGEST / 8), st.floats(0, LONGEST / 2)
)
def test_what_is_said_of_the_time_past_the_ttl_is_not_cut_short_by_an_end_that_nobody_said(name, ttl, said):
    for layers in ([Policy(ttl=ttl, **{name: said})], [Policy(**{name: said}), Policy(ttl=ttl)]):
        terms = resolve(*layers)
        assert getattr(terms, name) == said
        assert terms.max_age == max(7 * ttl, ttl + said)


def test_an_end_that_is_said_holds_whatever_another_layer_says():
    assert resolve(Policy(stale_if_error=86400), Policy(ttl=60, max_age=90)).max_age == 90.0


def test_the_nearest_layer_that_speaks_is_heard():
    call, scope, cache = Policy(ttl=5), Policy(ttl=6, grace=1), Policy(ttl=7, grace=2, max_answer_bytes=9)
    terms = resolve(call, None, scope, cache)
    assert (terms.ttl, terms.grace, terms.max_answer_bytes, terms.jitter) == (5.0, 1.0, 9, 0.05)


def test_what_is_relative_follows_the_ttl_that_came_out_and_not_the_layer_it_stood_in():
    assert resolve(Policy(ttl=240), Policy(ttl=24, hot_threshold=3)).grace == 10.0


def test_nothing_is_kept_with_a_ttl_of_nought():
    terms = resolve(Policy(ttl=0))
    assert (terms.ttl, terms.grace, terms.stale_if_error, terms.max_age) == (0.0, 0.0, 0.0, 0.0)


def test_a_max_age_alone_shortens_the_ttl_that_nobody_asked_for():
    terms = resolve(Policy(max_age=3600))
    assert (terms.ttl, terms.max_age, terms.hot_ttl) == (3600.0, 3600.0, 900.0)


def test_a_ttl_and_a_max_age_that_contradict_each_other_are_refused_by_name_in_one_layer_or_two():
    with pytest.raises(ConfigError, match=r"max_age=60 contradicts ttl=3600.*write ttl=60, or max_age=3600"):
        Policy(ttl=3600, max_age=60)
    with pytest.raises(ConfigError, match="max_age=60 contradicts ttl=3600"):
        resolve(Policy(ttl=3600), Policy(max_age=60))


def test_seconds_are_floats_whoever_wrote_them():
    for terms in (resolve(Policy(ttl=60, grace=True + 1)), resolve(Policy(ttl=60.0, grace=2.0))):
        assert all(isinstance(getattr(terms, name), float) for name in ("ttl", "grace", "max_age", "jitter"))
        assert isinstance(terms.max_answer_bytes, int)


def test_no_lifetime_grows_beyond_what_a_store_can_count():
    assert resolve(Policy(ttl=LONGEST)).max_age == LONGEST


@given(st.floats(0, LONGEST / 7), st.floats(1, 7))
def test_an_answer_is_fresh_before_it_is_old(ttl, factor):
    terms = resolve(Policy(ttl=ttl), Policy(max_age=min(ttl * factor, LONGEST)))
    assert terms.hot_ttl <= terms.ttl <= terms.max_age
    assert terms.grace <= terms.ttl


@pytest.mark.parametrize(
    ("given_", "remedy"),
    [
        ({"ttl": -1}, "seconds from 0"),
        ({"ttl": math.nan}, "not a number"),
        ({"ttl": math.inf}, "a hundred years"),
        ({"ttl": LONGEST * 1000}, "a hundred years"),
        ({"ttl": True}, "not a number"),
        ({"ttl": "60"}, "ttl=60"),
        ({"grace": -0.1}, "seconds from 0"),
        ({"hot_ttl": []}, "not a number"),
        ({"stale_if_error": -1}, "seconds from 0"),
        ({"max_age": False}, "not a number"),
        ({"abandon_limit": -1}, "seconds from 0"),
        ({"hot_threshold": 0}, "whole number, at least 1"),
        ({"hot_threshold": 2.5}, "whole number, at least 1"),
        ({"hot_threshold": True}, "whole number, at least 1"),
        ({"hot_window": 0}, "above 0"),
        ({"jitter": 1}, "share"),
        ({"jitter": -0.1}, "share"),
        ({"jitter": math.nan}, "not a number"),
        ({"max_flight": 0}, "up to 900"),
        ({"max_flight": 901}, "up to 900"),
        ({"max_answer_bytes": 0}, "whole number, at least 1"),
        ({"max_answer_bytes": 1e6}, "whole number, at least 1"),
        ({"tool_calls": "never"}, "'pass', 'structured', 'judge', 'store'"),
        ({"tool_calls": True}, "'pass'"),
        ({"searched": "judge"}, "'pass', 'store'"),
        ({"on_abandon": "cancel"}, "'finish', 'close'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_name_and_what_to_write(given_, remedy):
    with pytest.raises(ConfigError, match=remedy) as caught:
        Policy(**given_)
    assert str(caught.value).startswith(next(iter(given_)))


def test_equal_policies_are_one_policy():
    one, other = Policy(ttl=60), Policy(ttl=60.0)
    assert one == other
    assert hash(one) == hash(other) == hash(one)
    assert resolve(one) is resolve(other)
    assert {one: 1}[copy.copy(other)] == {one: 1}[pickle.loads(pickle.dumps(other))] == 1
    assert hash(dataclasses.replace(one, ttl=5)) == hash(Policy(ttl=5)) != hash(one)


def test_a_policy_is_not_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().ttl = 3


# --- directives ---


@pytest.mark.parametrize(
    ("text", "control"),
    [
        (None, NO_CONTROL),
        ("", NO_CONTROL),
        (" , ,", NO_CONTROL),
        ("no-cache", Control(no_cache=True)),
        ("No-Store , ONLY-IF-CACHED", Control(no_store=True, only_if_cached=True)),
        ("max-age=0", Control(max_age=0.0)),
        ('max-age="60", min-fresh = 5', Control(max_age=60.0, min_fresh=5.0)),
        ("max-stale", Control(max_stale=math.inf)),
        ("max-stale=1.5", Control(max_stale=1.5)),
        ("stale-if-error=86400,no-cache", Control(stale_if_error=86400.0, no_cache=True)),
        ("max-age=99999999999999999999", Control(max_age=1e20)),
    ],
)
def test_directives_are_read_as_rfc_9111_writes_them(text, control):
    assert Control.parse(text) == Control.parse(text, lenient=True) == control


@pytest.mark.parametrize(
    ("text", "remedy", "leniently"),
    [
        ("no-transform", "unknown: write any of no-cache", NO_CONTROL),
        ("max_age=60", "'max_age' is unknown", NO_CONTROL),
        ("max-age", "write max-age=60", Control(max_age=0.0)),
        ("max-age=", "write max-age=60", Control(max_age=0.0)),
        ("max-age=-1", "write max-age=60", Control(max_age=0.0)),
        ('max-age="60', "write max-age=60", Control(max_age=0.0)),
        ("max-age=60 s", "write max-age=60", Control(max_age=0.0)),
        ("max-age=soon, no-store", "write max-age=60", Control(max_age=0.0, no_store=True)),
        ("min-fresh=1e3", "write min-fresh=60", Control(max_age=0.0)),
        ("max-age=\u0661", "write max-age=60", Control(max_age=0.0)),
        ("max-stale=", "write max-stale=60", Control(max_stale=0.0)),
        ("stale-if-error", "write stale-if-error=60", Control(stale_if_error=0.0)),
        ('no-cache="set-cookie"', "write no-cache", Control(no_cache=True)),
        ("max-age=1, max-age=2", "twice", Control(max_age=1.0)),
        ("max-age=2, max-age=1", "twice", Control(max_age=1.0)),
        ("max-age=60, max-age=x", "twice", Control(max_age=0.0)),
        ("min-fresh=1, min-fresh=2", "twice", Control(min_fresh=2.0)),
        ("max-stale, max-stale=2", "twice", Control(max_stale=2.0)),
        ("no-cache, no-cache", "twice", Control(no_cache=True)),
        ('ext="a, no-store", no-cache', "'ext' is unknown", Control(no_cache=True)),
        ('ext="unclosed, no-store', "'ext' is unknown", Control(no_store=True)),
        ('ext="un\\"closed, no-store', "'ext' is unknown", Control(no_store=True)),
        ('ext="a, no-store, and="b"', "'ext' is unknown", Control(no_store=True)),
        ('ext="a, b"c, no-store, and="d"', "'ext' is unknown", Control(no_store=True)),
        ('a"b, no-store"', "is unknown: write", Control(no_store=True)),
        ("no-cache; no-store", "separate directives by commas", Control(no_cache=True, no_store=True)),
        ('ext="a"; no-store', "'ext' is unknown", Control(no_store=True)),
        ("max-age=60;no-store", "write max-age=60", Control(max_age=60.0, no_store=True)),
        ('ext="a, \\", no-store" , no-cache', "'ext' is unknown", Control(no_cache=True)),
        ("=5", "'' is unknown", NO_CONTROL),
        (5, "not text", None),
    ],
)
def test_a_directive_that_cannot_be_meant_is_refused_and_over_http_accepts_less(text, remedy, leniently):
    with pytest.raises(ConfigError, match=remedy):
        Control.parse(text)
    if leniently is not None:
        assert Control.parse(text, lenient=True) == leniently


TIMES = st.sampled_from(["max-age", "min-fresh", "max-stale", "stale-if-error"])
VALUES = st.text(st.sampled_from('0159.-+e "a\u0661'), max_size=6) | st.just("9" * 400)
DIRECTIVES = st.tuples(TIMES, VALUES).map("=".join) | TIMES | st.just("no-cache")
SECONDS = re.compile(r'=\s*("?)[0-9]+(\.[0-9]+)?\1\s*$')


def accepts(control: Control) -> tuple[float, ...]:
    """Each greater, the more is accepted: age, a short rest of freshness, staleness, staleness after an error."""
    age = math.inf if control.max_age is None else control.max_age
    return age, -(control.min_fresh or 0.0), control.max_stale or 0.0, control.stale_if_error or 0.0


@given(said=st.lists(DIRECTIVES, max_size=4), more=DIRECTIVES)
@example(said=['max-stale="'], more="max-age=")
@example(said=['max-stale="'], more='max-age="')
@example(said=['max-stale="'], more='max-age="5')
@example(said=['MAX-STALE ="'], more="no-cache")
def test_no_directive_that_is_added_to_a_header_makes_it_accept_more_but_for_the_first_that_extends(said, more):
    before = Control.parse(",".join(said), lenient=True)
    after = Control.parse(",".join([*said, more]), lenient=True)
    first = not any(one.startswith(more.partition("=")[0]) for one in said) and "stale" in more
    compared = zip(accepts(before), accepts(after), strict=True)
    assert first or all(one >= other for one, other in compared)
    assert after.max_age == 0 or more.partition("=")[0] not in {"max-age", "min-fresh"} or SECONDS.search(more)


@given(st.text(st.sampled_from('no-cachexmg=,"\\ 1.5\t'), max_size=30))
def test_no_header_makes_lenient_reading_raise_or_hides_the_directive_behind_it(text):
    assert isinstance(Control.parse(text, lenient=True), Control)
    assert all(Control.parse(f"{text}{sign}no-store", lenient=True).no_store for sign in (",", ", ,\t"))


# --- requests ---

FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {}}}
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
GEMINI: dict[str, Any] = {"contents": [{"parts": [{"text": "?"}]}]}
DECLARED = {"functionDeclarations": [{"name": "f"}]}
SPEC = {"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        ASKED | {"tools": [], "functions": None, "previous_response_id": None, "background": False},
        ASKED | {"temperature": 1, "seed": 3, "stream": True, "metadata": {"tools": "x"}},
        ASKED | {"mcp_servers": [], "container": None, "conversation": None, "plugins": [{"id": "file-parser"}]},
        GEMINI,
        GEMINI | {"config": {"temperature": 0}},
        "text",
        ["a", "list"],
        {"tools": [FUNCTION], "question": "not for a model"},
        {"conversation": "c", "background": True},
        None,
    ],
)
def test_a_request_that_depends_on_its_own_words_alone_is_looked_up(request_):
    assert judge_request(request_, TERMS["pass"]) == ""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"previous_response_id": "resp_1"}, "previous-response"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"thread": {"type": "create"}}, "conversation"),
        ({"background": True}, "background"),
        ({"mcp_servers": [{"url": "https://..."}]}, "server-tools"),
        ({"container": "container_1"}, "server-tools"),
        ({"web_search_options": {}}, "server-tools"),
        ({"search_parameters": {"mode": "auto"}}, "server-tools"),
        ({"plugins": [{"id": "web"}]}, "server-tools"),
        ({"model": "openai/gpt-5:online"}, "server-tools"),
        ({"model": "openai/gpt-5:online", "tools": [FUNCTION]}, "server-tools"),
        *(
            ({"tools": [{"type": kind}]}, "server-tools")
            for kind in (
                *("web_search", "web_search_preview", "web_search_20250305", "web_search_20260318", "file_search"),
                *("code_interpreter", "code_execution_20260120", "computer_use_preview", "computer_20250124", "mcp"),
                *("image_generation", "tool_search", "web_fetch_20250910", "tool_search_tool_bm25_20251119", "shell"),
                *("advisor_20260301", "mcp_toolset", "openrouter:web_search", "openrouter:advisor", "of_tomorrow"),
            )
        ),
        ({"tools": [FUNCTION, {"type": "web_search"}]}, "server-tools"),
        ({"tools": [{"googleSearch": {}}]}, "server-tools"),
        ({"tools": [{"google_search": {}}]}, "server-tools"),
        ({"tools": [{"codeExecution": {}}]}, "server-tools"),
        ({"tools": [DECLARED | {"googleSearch": {}}]}, "server-tools"),
        ({"config": {"tools": [{"url_context": {}}]}}, "server-tools"),
        ({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}, "server-tools"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[:50],
)
def test_a_request_that_depends_on_more_than_its_words_passes_whatever_is_asked_for(more, reason):
    assert {judge_request(ASKED | more, terms) for terms in TERMS.values()} == {reason}


OFFERED = [
    {"tools": [FUNCTION]},
    {"tools": [{"function": {"name": "f"}}]},
    {"tools": [{"name": "f", "input_schema": {}}]},
    {"tools": [{"type": "custom", "name": "f"}]},
    {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "memory_20250818", "name": "memory"}]},
    {"tools": [{"type": "text_editor_20250728", "name": "x"}]},
    {"functions": [{"name": "f"}]},
    {"tools": [DECLARED]},
    {"tools": [{"function_declarations": [{"name": "f"}], "google_search": None}]},
    {"config": {"tools": [DECLARED]}},
    {"toolConfig": {"tools": [SPEC, {"cachePoint": {"type": "default"}}]}},
    {"tools": [print]},
]


@pytest.mark.parametrize("more", OFFERED, ids=str)
def test_a_tool_augmented_request_passes_unless_asked_for(more):
    words = {word: judge_request(ASKED | more, terms) for word, terms in TERMS.items()}
    assert words == {"pass": "tools", "structured": "tools", "judge": "", "store": ""}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [FUNCTION, FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
        {"tools": [FUNCTION], "tool_choice": "required"},
        {"functions": [{"name": "f"}], "function_call": {"name": "f"}},
        {"tools": [{"name": "f"}, {"name": "g"}], "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [{"name": "f"}], "tool_choice": {"type": "any"}},
        {"tools": [DECLARED], "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        {
            "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        },
        {"toolConfig": {"tools": [SPEC, SPEC], "toolChoice": {"tool": {"name": "f"}}}},
        {"toolConfig": {"tools": [SPEC], "toolChoice": {"any": {}}}},
    ],
    ids=str,
)
def test_a_single_function_that_must_be_called_is_a_form_for_the_answer_and_kept_as_structured(more):
    words = {word: judge_request(ASKED | more, terms) for word, terms in TERMS.items()}
    assert words == {"pass": "tools", "structured": "", "judge": "", "store": ""}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [FUNCTION, FUNCTION], "tool_choice": "required"},
        {"tools": [FUNCTION], "tool_choice": "auto"},
        {"tools": [FUNCTION], "tool_choice": "none"},
        {"tools": [FUNCTION], "tool_choice": {"type": "auto"}},
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "tools": [{"name": "f"}]}},
        {
            "tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
        {"tools": [DECLARED], "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}},
        {"toolConfig": {"tools": [SPEC, SPEC], "toolChoice": {"any": {}}}},
        {"toolConfig": {"tools": [SPEC], "toolChoice": {"auto": {}}}},
    ],
    ids=str,
)
def test_a_choice_of_tools_is_not_a_form_for_the_answer(more):
    assert judge_request(ASKED | more, TERMS["structured"]) == "tools"


def test_a_request_known_to_be_for_a_model_is_judged_without_naming_one():
    request = {"text": "?", "tools": [FUNCTION]}
    assert judge_request(request, TERMS["pass"]) == ""
    assert judge_request(request, TERMS["pass"], known=True) == "tools"


def test_a_pydantic_request_is_judged_by_what_it_dumps():
    class Asked(BaseModel):
        model: str = "m"
        tools: list[dict[str, str]] = [{"type": "web_search"}]

    assert judge_request(Asked(), TERMS["store"]) == "server-tools"
    assert judge_request(Asked(tools=[]), TERMS["pass"]) == ""


# --- answers ---


@pytest.mark.parametrize("value", [None, "", " \n\t"])
def test_an_empty_answer_is_not_stored(value):
    assert judge_answer(value, TERMS["store"]) == "empty"


@pytest.mark.parametrize("value", ["Paris.", 0, False, [], {}, {"choices": [{"text": "A"}]}, {"error": None}, [1, "x"]])
def test_data_of_the_users_own_is_stored_as_it_is(value):
    assert judge_answer(value, TERMS["pass"]) == ""


def test_an_answer_of_a_protocol_is_judged_as_its_protocol_says_and_the_policy_wants():
    call = {"type": "function", "function": {"name": "f"}}
    answer = {
        "object": "chat.completion",
        "choices": [{"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [call]}}],
    }
    found = {word: judge_answer(answer, terms) for word, terms in TERMS.items()}
    assert found == {"pass": "tool-call", "structured": "", "judge": "tool-call", "store": ""}
    assert judge_answer({"error": {"message": "overloaded"}}, TERMS["store"]) == "error"


def test_an_answer_returned_as_the_text_of_its_json_is_judged_like_the_answer():
    cut = '{"object": "chat.completion", "choices": [{"message": {"content": "Par"}, "finish_reason": "length"}]}'
    assert judge_answer(cut, TERMS["pass"]) == "truncated"
    for text in (cut.replace("length", "stop"), '{"error": {"message": "said the model"}}', "{not json", '{"a": 1}'):
        assert judge_answer(text, TERMS["pass"]) == ""
