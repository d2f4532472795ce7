"""The one line to change is right for the store or the upstream at hand."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.gateway.page.starts import of_gateway, of_store
from askonce.gateway.upstreams import Upstream

ORIGIN = "https://cache.internal:8443"


@pytest.mark.parametrize(
    ("url", "path", "line"),
    [
        ("https://api.openai.com", "", f"export OPENAI_BASE_URL={ORIGIN}/v1"),
        ("https://api.openai.com/v1", "/openai", f"export OPENAI_BASE_URL={ORIGIN}/openai"),
        ("https://API.openai.com", "/openai/", f"export OPENAI_BASE_URL={ORIGIN}/openai/v1"),
        ("https://api.anthropic.com", "/anthropic", f"export ANTHROPIC_BASE_URL={ORIGIN}/anthropic"),
        ("http://localhost:11434", "/ollama", f"{ORIGIN}/ollama"),
    ],
)
def test_a_gateway_names_the_variable_of_the_provider(url, path, line):
    (start,) = of_gateway([Upstream(url, path)], ORIGIN)
    assert start.line == line


def test_of_many_upstreams_a_page_shows_some():
    assert 1 < len(of_gateway([Upstream(f"http://h{n}", f"/{n}") for n in range(20)], ORIGIN)) < 8


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_line_for_a_store_is_python_whatever_its_names_are(url, prefix):
    for start in of_store(url, prefix):
        tree = ast.parse(start.line)
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert words == {url, *([prefix] if prefix else [])}
