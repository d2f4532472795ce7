"""The library of prices, loaded, for the tests that ask it."""

from __future__ import annotations

import pytest

from askonce.core.prices import Library


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("genai_prices")
    made = Library()
    made.load()
    return made
