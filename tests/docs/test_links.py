"""Links between the files of the repository, as a forge shows them: each leads to a file, and to a heading in it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from tools.blocks import ROOT

MARKDOWN = MarkdownIt("commonmark").enable("table")
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def inlines(text):
    """The pieces of a page, those inside of others too."""
    tokens = MARKDOWN.parse(text)
    return [*tokens, *(child for token in tokens for child in token.children or [])]


def links(text):
    named = {"link_open": "href", "image": "src"}
    return [str(token.attrs[named[token.type]]) for token in inlines(text) if token.type in named]


def anchors(text):
    """The names of a page's headings, as forges and the site make them."""
    tokens, found = MARKDOWN.parse(text), {""}
    for opened, inside in pairwise(tokens):
        if opened.type == "heading_open":
            words = "".join(one.content for one in inside.children if one.type in {"text", "code_inline"})
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            again = sum(bool(re.fullmatch(rf"{re.escape(name)}(-\d+)?", one)) for one in found)
            found.add(f"{name}-{again}" if again else name)
    return found


def troubles(page: Path, text: str):
    for target in links(text):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not there.is_relative_to(ROOT) or not there.exists():
            yield f"{target}: is not there"
        elif there.suffix == ".md" and unquote(parts.fragment) not in anchors(
            text if there == page else there.read_text("utf-8")
        ):
            yield f"{target}: has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_link_of_a_page_leads_to_a_file_of_the_repository_and_a_heading_in_it(page):
    assert list(troubles(page, page.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("link", "trouble"),
    [
        ("[a](docs/nothing.md)", "is not there"),
        ("![a](docs/nothing.svg)", "is not there"),
        ("[a](../outside.md)", "is not there"),
        ("[![a](docs/demo.svg)](docs/nothing.md)", "is not there"),
        ("| a |\n|---|\n| [a](docs/nothing.md) |", "is not there"),
        ("[a][b]\n\n[b]: docs/nothing.md", "is not there"),
        ("[a](docs/keys.md#nothing)", "has no such heading"),
        ("[a](#nothing)", "has no such heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link, trouble):
    (found,) = troubles(ROOT / "README.md", f"# Here\n\n{link}\n")
    assert found.endswith(trouble)


def test_links_into_code_and_headings_that_are_written_twice_are_understood():
    text = "# A `b_c` & d!\n\n## Twice\n\n## Twice\n\n`[a](docs/nothing.md)`\n\n```\n[a](docs/nothing.md)\n```\n[a](#twice-1) [b](#a-b_c--d)\n"
    assert list(troubles(ROOT / "README.md", text)) == []
