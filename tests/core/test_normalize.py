"""Keys under an operator's rules: they name how they were made, and a failing function makes none."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from typing import Any

import pytest

from askonce.core.keys import canonical
from askonce.core.normalize import NotNormal, name_of, normal_of
from askonce.core.providers.fields import FORM
from askonce.core.rules import Rules
from askonce.errors import ConfigError

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}


def body(request: Any = None, drop: Any = (), **words: Any) -> bytes | None:
    normal = normal_of(Rules.of(words))
    return normal.body(dict(ASKED) if request is None else request, drop) if normal else None


def question(request: Any) -> Any:
    return request["messages"][-1]["content"]


def test_without_rules_a_key_is_made_as_always():
    assert normal_of(Rules()) is None
    assert body({"prompt": "no user text"}, fold=["case"]) is None


def test_a_key_names_the_function_and_the_folds_that_made_it():
    plain = canonical(ASKED)
    other = [
        body(normalize=lambda request: request),
        body(normalize=question),
        body(fold=["case"]),
        body(fold=["space"]),
        body(fold=["case", "space"]),
        body(normalize=lambda request: request, fold=["case"]),
        body({**ASKED, "messages": [{"role": "user", "content": "hi?"}]}, fold=["space"]),
        plain,
    ]
    assert len(set(other)) == len(other)
    assert body(fold=["space", "case"]) == body(fold=["case", "space"])
    assert not any(made.startswith((b"{", b"[", b'"', b"raw")) for made in other[:-1] if made)


def test_two_functions_have_two_names_and_one_has_one():
    def made(prefix: str) -> Any:
        return lambda request: f"{prefix}{request}"

    def with_default(request: Any, prefix: str = "a") -> Any:
        return f"{prefix}{request}"

    class Cutter:
        def __init__(self, at: int) -> None:
            self.at = at

        def __call__(self, request: Any) -> Any:
            return str(request)[: self.at]

        def cut(self, request: Any) -> Any:
            return str(request)[: self.at]

    functions = [
        made("a"),
        made("b"),
        with_default,
        functools.partial(with_default, prefix="b"),
        lambda request: str(request).lower(),
        lambda request: str(request).upper(),
        lambda request: re.sub("a", "", str(request)),
        lambda request: re.sub("b", "", str(request)),
        lambda request: request in {"a", "b"} or "x",
        Cutter(1),
        Cutter(2),
        Cutter(1).cut,
        str,
        question,
    ]
    names = [name_of(one) for one in functions]
    assert len(set(names)) == len(names)
    assert name_of(made("a")) == names[0]
    assert name_of(Cutter(1)) == name_of(Cutter(1))


SCRIPT = """
from askonce.core.normalize import name_of
def cut(request, words=frozenset({"alpha", "beta", "gamma"})):
    return [word for word in request if word not in {"delta", "epsilon", "zeta"} | words]
print(name_of(cut))
"""


@pytest.mark.waits
def test_a_function_has_the_same_name_in_every_process():
    seeds = ("0", "1", "2")
    names = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in seeds
    }
    assert len(names) == 1


def fails(_: Any) -> Any:
    raise KeyError("messages")


async def late(_: Any) -> Any:
    return "x"


def late_all_the_same(request: Any) -> Any:
    return late(request)


@pytest.mark.parametrize(
    "function",
    [
        fails,
        lambda _: None,
        lambda request: request.clear(),
        lambda _: {},
        lambda _: "",
        lambda _: [],
        lambda _: 0,
        lambda _: True,
        lambda _: {"a": object()},
        lambda _: {1: "a"},
        lambda _: float("nan"),
        lambda _: {"a": float("nan")},
        late_all_the_same,
    ],
)
def test_what_no_key_can_be_made_of_is_refused(function):
    with pytest.raises(NotNormal):
        body(normalize=function)


def test_the_form_of_an_answer_does_not_count_in_what_a_function_gives():
    told = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    assert body(told, FORM, normalize=dict) == body(normalize=dict)
    assert body(told, normalize=dict) != body(normalize=dict)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"normalize": late}, "async"),
        ({"normalize": "lower"}, "function"),
        ({"fold": ["accents"]}, "punctuation"),
        ({"fold": "case"}, "list"),
        ({"same_as": {"a": "b", "b": "a"}}, "a is b is a"),
        ({"same_as": {"a": "a"}}, "a is a"),
        ({"same_as": {"https://a": "b"}}, "scheme"),
        ({"same_as": ["a"]}, "dict"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(words, named):
    with pytest.raises(ConfigError, match=named):
        Rules.of(words)
