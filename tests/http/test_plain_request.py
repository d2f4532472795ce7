"""A request that nothing sends: whatever is JSON can be asked about, and anything else is said to be none."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import Cache
from askonce.errors import UsageError
from askonce.http.plain_request import PlainRequest

TEXTS = st.text(st.characters(exclude_categories=()), max_size=6)  # lone surrogates too
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
URL = "https://api.openai.com/v1/chat/completions"


@given(VALUES)
def test_its_body_is_the_json_that_was_given(value):
    assert json.loads(PlainRequest.of(URL, [], value).body.decode("utf-8", "surrogatepass")) == value


@given(value=VALUES, host=TEXTS, name=TEXTS.filter(str.strip), said=TEXTS)
def test_it_is_explained_whatever_it_says(value, host, name, said):
    header = f"{name.replace(':', '')}x: {said}"
    url = f"https://{host.replace('/', '')}/v1/chat/completions"
    with Cache("memory://") as cache, contextlib.suppress(UsageError):  # of a host that makes no URL
        assert cache.why(PlainRequest.of(url, [header], value)).sentence


@pytest.mark.parametrize("url", ["https://[", "https://[::1", "https://a:b/", "https://a:99999/", "https://[zz]/"])
def test_what_is_no_url_is_said_to_be_none(url):
    with pytest.raises(UsageError, match="is no URL"):
        PlainRequest.of(url, [], {})


def test_what_is_no_json_is_said_to_be_none():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, {1: object()}, b"bytes"):
        with pytest.raises(UsageError, match="no JSON, or nested too deep"):
            PlainRequest.of(URL, [], value)
