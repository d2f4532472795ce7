"""`ignore_headers` takes globs, and none that can match nothing."""

from __future__ import annotations

import string
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.headers import CREDENTIAL_HEADERS
from askonce.core.rules import Ignored, Rules
from askonce.errors import ConfigError

NAME = string.ascii_lowercase + string.digits + "!#$%&'*+-.^_`|~"


def ignored(*globs: str) -> Ignored:
    return Ignored(Rules.of({"ignore_headers": globs}).ignore_headers)


def test_a_glob_leaves_out_what_it_matches_in_any_case_and_nothing_else():
    found = ignored("X-Turn-*", "x-[ab]-id", "x-run?", "plain")
    assert all(name in found for name in ("x-turn-", "x-turn-7", "x-a-id", "x-run1", "plain"))
    assert not any(name in found for name in ("x-turn", "ax-turn-7", "x-c-id", "x-run", "plainer", "cookie:plain"))


def test_cookies_are_left_out_by_name_and_only_by_a_glob_of_their_own():
    found = ignored("Cookie:Affinity*", "x-*")
    assert "cookie:affinity-7" in found
    assert "cookie:session" not in found
    assert "cookie:x-session" not in found
    assert "cookie:session" not in ignored("*")
    assert "cookie:session" in ignored("cookie:*")


@pytest.mark.parametrize(
    "glob",
    [
        "",
        "x turn",
        "x-turn:",
        "x-\n",
        "x-ü",
        ":path",
        "x-[",
        "x-[ ]",
        "x-[z-a]",
        "[]",
        "x-(a)",
        "cookie:",
        "cookie:a b",
        "x,y",
    ],
)
def test_a_glob_that_can_match_nothing_is_an_error_that_says_so(glob):
    with pytest.raises(ConfigError, match=r"can match nothing|not a name"):
        ignored(glob)


@pytest.mark.parametrize("name", sorted(CREDENTIAL_HEADERS))
def test_a_credential_cannot_be_left_out_and_the_error_says_what_to_do(name):
    with pytest.raises(ConfigError, match="cookie:" if name == "cookie" else "tenant="):
        ignored(name.title())


@pytest.mark.parametrize("name", ["askonce-scope", "askonce-*", "Askonce-Mine", "cache-control"])
def test_what_speaks_to_askonce_is_in_no_key_and_cannot_be_left_out(name):
    with pytest.raises(ConfigError, match="speaks to askonce"):
        ignored(name)


@given(st.text(NAME + "?[]!-: ", min_size=1, max_size=8), st.lists(st.text(NAME, min_size=1, max_size=8), max_size=20))
def test_a_glob_that_is_refused_matches_no_name_at_all(glob, names):
    matching = [fnmatchcase(name, glob) for name in names]
    try:
        found = ignored(glob)
    except ConfigError:
        matching = [name for name, matches in zip(names, matching, strict=True) if matches]
        assert CREDENTIAL_HEADERS.issuperset(matching)
        return
    assert [name in found for name in names] == matching


def test_a_name_that_is_asked_for_again_and_again_keeps_its_answer():
    found = ignored("x-*")
    for number in range(5000):
        assert f"x-{number}" in found
        assert f"y-{number}" not in found
    assert len(found._known) <= 1024
