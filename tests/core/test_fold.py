"""What fold treats as equal, and what it never does: folding a difference that counts gives a wrong answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.fold import fold_text, folded
from askonce.core.rules import FOLDS

ALL = tuple(FOLDS)

SAME = [
    ("What is DNS?", "what is dns"),
    ("What is DNS?", "What  is\tDNS ?"),
    ("  Hello,   world!  ", "hello world"),
    ("Straße", "STRASSE"),
    ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ("caf\u00e9", "CAFE\u0301"),
    ("\u00bfQu\u00e9 es DNS?", "qu\u00e9 es dns"),
    ("Quelle est la capitale\u00a0?", "quelle est la capitale"),
    ("Quelle est la capitale ?", "Quelle est la capitale?"),
    ("\u00ab\u202fBonjour\u202f\u00bb", "\u00ab\u202fbonjour\u202f\u00bb"),
    ("\u4ec0\u4e48\u662fDNS\uff1f", "\u4ec0\u4e48\u662fdns"),
    ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u4f60\u597d\u4e16\u754c"),
    ("\u0645\u0627 \u0647\u0648\u061f", "\u0645\u0627 \u0647\u0648"),
    ("\u092f\u0939 \u0915\u094d\u092f\u093e \u0939\u0948\u0964", "\u092f\u0939 \u0915\u094d\u092f\u093e \u0939\u0948"),
    ("What\u2019s up?", "what's up"),
    ("Who said \u201ccogito\u201d?", 'Who said "cogito"'),
    ('Who said "cogito"', "who said cogito"),
    ("wait\u2026 what", "wait... what"),
    ("in 1999?", "in 1999"),
    ("one\u3000two\u00a0three", "one two three"),
    ("a \u2013 b", "a - b"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_differs_in_case_space_and_punctuation_alone_is_the_same(one, other):
    assert fold_text(one, ALL) == fold_text(other, ALL)


OTHER = [
    *(("2-1", "21"), ("2-1", "2 1"), ("2/1", "2*1"), ("1.5", "15"), ("1.5", "1 5"), ("1,5", "15"), ("-5", "5")),
    *(
        ("5!", "5"),
        ("what is 5!", "what is 5"),
        ("n!", "n"),
        ("(a+b)!", "(a+b)"),
        (".5", "5"),
        ('6"', "6"),
        ("6'", "6"),
    ),
    *(
        ("C#", "C"),
        ("C++", "C"),
        (".NET", "NET"),
        ("50%", "50"),
        ("$5", "5"),
        ("a_b", "ab"),
        ("a.b", "ab"),
        ("f()", "f"),
    ),
    *(("int[]", "int"), ("[1, 2]", "(1, 2)"), ("we're", "were"), ("it's", "its"), ("cd ..", "cd ."), ("cd ..", "cd")),
    *(("what does ? mean", "what does ! mean"), ('what is "?"', 'what is "!"'), ("what is !", "what is ?")),
    *(
        ("a, b", "a; b x"),
        ("!important", "important"),
        ("@home", "home"),
        ("#1", "1"),
        ("x == y", "x = y"),
        ("a:b", "ab"),
    ),
    *(("`a`", "a"), ("a && b", "a & b"), ("<a>", "a"), ("~x", "x"), ("3\u30015", "35"), ("x\u2212y", "x y")),
    ("\u4ec0\u4e48\u662f\u300c\uff1f\u300d", "\u4ec0\u4e48\u662f\u300c\uff01\u300d"),
    ("1\uff0c000", "1000"),
    ("resume", "r\u00e9sum\u00e9"),
    ("thisword", "this word"),
]


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_may_be_another_question_stays_another(one, other):
    assert fold_text(one, ALL) != fold_text(other, ALL)


@given(st.text(max_size=40), st.sets(st.sampled_from(FOLDS)))
def test_folding_twice_is_folding_once(text, folds):
    once = fold_text(text, folds)
    assert fold_text(once, folds) == once


@given(st.text(max_size=40), st.sampled_from(FOLDS))
def test_each_fold_takes_its_own_kind_and_no_other(text, fold):
    made = fold_text(text, {fold})
    if fold == "space":
        assert made.split() == text.split()
    if fold == "punctuation":
        assert [one for one in made if one.isalnum()] == [one for one in text if one.isalnum()]
    assert fold_text(text, ()) == text


# --- where the last user text is ---

Q = "What is DNS?"
PLACES = [
    {"messages": [{"role": "system", "content": Q}, {"role": "user", "content": Q}]},
    {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": Q}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}, {"type": "image_url", "image_url": Q}]}]},
    {"messages": [{"role": "user", "content": [{"text": Q}]}], "system": [{"text": Q}]},
    {
        "messages": [
            {"role": "user", "content": Q},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": Q}]}]},
        ]
    },
    {"model": "gpt-4.1", "input": Q, "instructions": Q},
    {"model": "m", "input": [{"role": "user", "content": Q}, {"type": "function_call_output", "output": Q}]},
    {"model": "m", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": Q}]}]},
    {"contents": [{"role": "user", "parts": [{"text": Q}]}], "systemInstruction": {"parts": [{"text": Q}]}},
    {"contents": [{"parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": Q}]}]},
    {"contents": {"parts": {"text": Q}}},
    {"contents": Q, "model": "gemini"},
    {"contents": [Q], "model": "gemini"},
]


@pytest.mark.parametrize("request_", PLACES, ids=range(len(PLACES)))
def test_the_last_user_text_is_found_and_nothing_else_is_changed(request_):
    before = copy.deepcopy(request_)
    found = folded(request_, ALL)
    assert found is not None
    assert request_ == before, "what goes upstream is not what the key is made of"
    assert json.dumps(found).count("what is dns") == 1
    assert json.dumps(found).replace("what is dns", Q) == json.dumps(request_)


def test_of_several_turns_the_last_one_of_the_users_is_folded():
    turns = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B?"},
        {"role": "user", "content": "C?"},
    ]
    found = folded({"messages": turns}, ALL)
    assert [turn["content"] for turn in found["messages"]] == ["A?", "B?", "c"]


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "text-embedding-3-small", "input": Q},
        {"model": "m", "input": Q, "encoding_format": "float"},
        {"model": "voyage-3", "input": [Q]},
        {"model": "tts-1", "input": Q, "voice": "alloy"},
        {"model": "omni-moderation-latest", "input": Q},
        {"model": "m", "input": [Q, Q]},
        {"model": "m", "prompt": Q},
        {"messages": [{"role": "system", "content": Q}]},
        {"messages": [{"role": "tool", "content": Q}]},
        {"question": Q},
        [{"role": "user", "content": Q}],
        Q,
        None,
    ],
)
def test_what_is_no_user_text_is_left_alone(request_):
    assert folded(request_, ALL) is None


junk: Any = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["messages", "input", "contents", "role", "content", "parts", "text"]), inner)
    ),
)


@given(junk)
def test_no_request_makes_folding_raise(request_):
    folded(request_, ALL)
