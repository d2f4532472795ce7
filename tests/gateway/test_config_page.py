"""The page of the configuration, and the examples: what they say is what is read."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from askonce.gateway.config import load
from askonce.gateway.config_page import page
from askonce.gateway.operator_rules import POLICY_WORDS, Rule
from askonce.gateway.settings import SECTIONS
from askonce.gateway.upstreams import Upstream

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gateway-config.md"
EXAMPLES = sorted((ROOT / "examples" / "gateway").glob("*.toml"))


def test_the_page_is_what_the_sections_say():
    assert PAGE.read_text("utf-8") == page(), "python -m askonce.gateway.config_page > docs/gateway-config.md"


def test_every_key_is_on_the_page():
    said = set(re.findall(r"^\| `(\w+)` \|", page(), re.MULTILINE))
    known = {one.name for kind in (*SECTIONS.values(), Upstream, Rule) for one in fields(kind)} - {"policy"}
    assert known | set(POLICY_WORDS) == said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads(path, tmp_path):
    text = path.read_text("utf-8")
    (tmp_path / "tenants.txt").write_text((path.parent / "tenants.txt").read_text("utf-8"))
    (tmp_path / "token").write_text("0123456789abcdef0")
    (tmp_path / path.name).write_text(text.replace("/run/secrets/askonce-admin", str(tmp_path / "token")))
    config = load(tmp_path / path.name)
    assert len(config.upstreams) == len(tomllib.loads(text)["upstream"])
    assert len(config.rules) == len(tomllib.loads(text)["rule"])


def test_the_examples_use_every_section_and_most_keys():
    used = set()
    for path in EXAMPLES:
        for name, value in tomllib.loads(path.read_text("utf-8")).items():
            used.add(name)
            for table in value if isinstance(value, list) else [value]:
                used |= set(table)
    assert {"server", "store", "tenants", "admin", "limits", "log", "upstream", "rule"} <= used
    assert {"path", "model", "tenant", "mode", "replay", "hit_usage", "ignore_fields", "ignore_headers", "same"} <= used


@pytest.mark.parametrize("name", ["gateway-config.md", "tenants.md"])
def test_the_toml_of_the_pages_loads(name, tmp_path):
    (tmp_path / "tenants.txt").write_text("# none\n")
    for number, block in enumerate(
        re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / name).read_text("utf-8"), re.DOTALL)
    ):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load(path)
