"""The names of an answer's fields are gathered at every depth, and say when a walk for sources finds nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers.answers import field_names
from askonce.core.providers.sources import carries_sources, names_sources

NAMES = [
    "model",
    "choices",
    "message",
    "citations",
    "annotations",
    "search_results",
    "metadata",
    "context",
    "usage",
    "a",
]
plain = st.none() | st.booleans() | st.integers(0, 3) | st.floats(0, 1) | st.sampled_from(["", "text"])
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
)


def names_of(value: Any) -> set[str]:
    """The same, one value after another."""
    if isinstance(value, dict):
        return {*value}.union(*map(names_of, value.values()))
    vector = isinstance(value, list) and value and isinstance(value[0], int | float)
    return set().union(*map(names_of, value)) if isinstance(value, list) and not vector else set()


@given(st.lists(values, max_size=3))
def test_names_are_gathered_at_every_depth_but_in_vectors(some: list[Any]) -> None:
    assert field_names(some) == set().union(*map(names_of, some))


@given(values)
def test_an_answer_without_such_names_carries_no_sources(value: Any) -> None:
    assert carries_sources(value) == carries_sources(value, set(NAMES))
    assert names_sources(field_names([value])) or not carries_sources(value, set(NAMES))
