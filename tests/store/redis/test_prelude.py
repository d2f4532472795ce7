"""A script comes with what it uses of the prelude, and with nothing else: a server makes it all anew at each call."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.store.redis.prelude import used
from askonce.store.redis.scripts import Scripts

TEXTS = files("askonce.store.redis") / "lua"
SHARED = {"prelude.lua", "publish.lua", "spublish.lua"}
SCRIPTS = sorted(one.name.removesuffix(".lua") for one in TEXTS.iterdir() if one.name not in SHARED)


FUNCTION = r"^local function (\w+)"


def constants(text: str) -> list[str]:
    return [name for names in re.findall(r"^local ([A-Z_, ]+) =", text, re.MULTILINE) for name in names.split(", ")]


def made(publish: str, name: str) -> tuple[str, str]:
    """What a script is sent with, and its own text."""
    text: str = getattr(Scripts(publish=publish), name).text
    own = (TEXTS / f"{name}.lua").read_text("utf-8")
    assert text.endswith("\n" + own)
    return text.removesuffix("\n" + own), own


@pytest.mark.parametrize("publish", ["publish", "spublish"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_each_function_it_calls_and_no_other(publish: str, name: str):
    before, own = made(publish, name)
    prelude = (TEXTS / f"{publish}.lua").read_text("utf-8") + (TEXTS / "prelude.lua").read_text("utf-8")
    code = re.sub(r"--.*", "", before + own)
    functions = set(re.findall(FUNCTION, before, re.MULTILINE))
    for one in re.findall(FUNCTION, prelude, re.MULTILINE):
        mentions = len(re.findall(rf"(?<![.:\w]){one}\(", code))  # one of them in its definition
        assert (mentions > 1) == (one in functions), f"{name} calls {one} {mentions - 1} times"
    for one in constants(prelude):
        assert one in constants(before + own) or not re.search(rf"\b{one}\b", code)


@pytest.mark.parametrize(("name", "functions"), [("invalidate", 1), ("count", 2), ("discard", 0), ("forget", 0)])
def test_a_short_script_makes_few_functions(name: str, functions: int):
    # All 20 of them cost a server with a million keys as much as the rest of an invalidation.
    assert len(re.findall(FUNCTION, made("publish", name)[0], re.MULTILINE)) == functions


@st.composite
def preludes(draw: st.DrawFn) -> list[set[int]]:
    """For each function of a prelude, those before it that it calls."""
    return [
        draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        for number in range(draw(st.integers(1, 12)))
    ]


@given(preludes(), st.data())
def test_what_is_used_is_what_can_be_reached(calls: list[set[int]], data: st.DataObject):
    wanted = data.draw(st.sets(st.integers(0, len(calls) - 1)))
    text = "-- f0 of all\n" + "".join(
        f"\n-- says f{number - 1}\nlocal function f{number}(a)\n"
        + "".join(f"  a.f{number - 1} = f{one}(a)\n" for one in sorted(callees))
        + "end\n"
        for number, callees in enumerate(calls)
    )
    script = "-- f0 f1\n" + "".join(f"f{one}({{f0 = 1}})\n" for one in sorted(wanted)) + "return x.f1"
    reached, more = set[int](), wanted
    while more:
        reached |= more
        more = {one for number in more for one in calls[number]} - reached
    assert re.findall(r"local function f(\d+)", used(text, script)) == [str(one) for one in sorted(reached)]
