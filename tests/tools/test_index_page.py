"""The page of a package index: no link or picture of it is relative, and what it says is what README.md says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tools.blocks import ROOT
from tools.index_page import absolute, index_page

SOURCES = {
    "https://github.com/somebody/askonce": ("blob/HEAD", "raw/HEAD"),
    "https://gitlab.com/group/below/askonce": ("-/blob/HEAD", "-/raw/HEAD"),
    "https://gitlab.example.org/group/askonce": ("-/blob/HEAD", "-/raw/HEAD"),
    "https://codeberg.org/somebody/askonce": ("src/branch/main", "raw/branch/main"),
}
README = (ROOT / "README.md").read_text("utf-8")


class Shown(HTMLParser):
    """What a reader of a rendered page sees: its links, pictures, code, and text."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown))

    def handle_starttag(self, tag, attributes):
        found = {"a": ("href", self.links), "img": ("src", self.pictures)}.get(tag)
        if found:
            found[1].append(dict(attributes)[found[0]])

    def handle_data(self, data):
        self.text += data

    @property
    def relative(self) -> list[str]:
        """Every target that is not a whole URL."""
        whole = {"http", "https", "mailto"}
        return [target for target in self.links + self.pictures if urlsplit(target).scheme not in whole]


def words(shown: Shown) -> list[str]:
    return shown.text.split()


def test_the_readme_has_links_to_pages_and_pictures_in_the_repository():
    shown = Shown(README)
    assert len(shown.relative) > 40
    assert {"docs/sdks.md", "docs/demo.svg", "LICENSE"} <= set(shown.relative)


def test_without_an_address_of_the_source_links_become_their_text_and_pictures_are_left_out():
    shown = Shown(index_page(README, None))
    assert shown.relative == shown.pictures == []
    assert words(shown) == words(Shown(README))


@pytest.mark.parametrize("source", SOURCES)
def test_with_an_address_of_the_source_each_target_is_a_file_in_it(source):
    page, picture = SOURCES[source]
    before, after = Shown(README), Shown(index_page(README, absolute({"Source": source})))
    assert after.links == [
        f"{source}/{page}/{target}" if target in before.relative else target for target in before.links
    ]
    assert after.pictures == [f"{source}/{picture}/{target}" for target in before.pictures]
    assert words(after) == words(before)


@pytest.mark.parametrize("label", ["source", "Source Code", "Repository", "GitHub"])
def test_an_address_may_have_any_label_that_an_index_takes_for_the_source(label):
    to = absolute({"Changelog": "https://example.org/news", label: "https://github.com/somebody/askonce.git/"})
    assert to
    assert to("page", "docs/keys.md#fold") == "https://github.com/somebody/askonce/blob/HEAD/docs/keys.md#fold"


def test_other_addresses_are_none_of_the_source():
    assert absolute({}) is absolute({"Homepage": "https://example.org", "Issues": "https://example.org/i"}) is None


@pytest.mark.parametrize("source", ["https://example.org/askonce", "askonce"])
def test_a_forge_that_is_not_known_is_an_error_that_says_where_to_add_it(source):
    with pytest.raises(ValueError, match=r"FORGES in tools/index_page\.py"):
        absolute({"Source": source})


@pytest.mark.parametrize(
    "text",
    ["see [keys]\n\n[keys]: docs/keys.md", '<a href="docs/keys.md">keys</a>', "<img alt='' src=docs/demo.svg>"],
)
@pytest.mark.parametrize("urls", [{}, {"Source": "https://github.com/somebody/askonce"}])
def test_a_relative_link_of_another_form_is_an_error_that_says_what_to_write(text, urls):
    with pytest.raises(ValueError, match=r"write it as \[text\]\(docs/"):
        index_page(text, absolute(urls))


def test_a_target_outside_of_the_repository_is_an_error():
    with pytest.raises(ValueError, match="outside of the repository"):
        index_page("[there](docs/../../else.md)", absolute({"Source": "https://github.com/somebody/askonce"}))


TARGETS = st.sampled_from(
    ["docs/keys.md", "docs/keys.md#a-b", "#here", "/LICENSE", "./x/../y.md", "docs/a_(b).md", "<docs/with space.md>",
     "docs/x.md 'a title'", 'docs/x.md "a title"', "https://example.org/x", "mailto:a@example.org", "?x=1", "docs/"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["word", "two words", "`code`", "`a[0]`", "**bold**", r"a \[b\]", "[inner]", "a\nline", "e.g. (so)"]
)
LITERALS = st.sampled_from(
    ["`[a](docs/x.md)`", "``[a](b`c.md)``", "```python\n[a](docs/x.md)\n```", "~~~\n![a](docs/x.svg)\n~~~",
     "````\n```\n[a](docs/x.md)\n```\n````", "<!-- [a](docs/x.md) -->", r"\[a](docs/x.md)", "a `lone tick", "x[0] (y)"]
)  # fmt: skip
LINKS = st.builds(lambda text, target: f"[{text}]({target})", TEXTS, TARGETS)
PICTURES = st.builds(lambda text, target: f"![{text}]({target})", st.sampled_from(["", "alt", "so `x`"]), TARGETS)
LINKED = st.builds(lambda picture, target: f"[{picture}]({target})", PICTURES, TARGETS)
PAGES = st.lists(LINKS | PICTURES | LINKED | LITERALS, max_size=6).map("\n\n".join)


@given(page=PAGES)
def test_however_links_are_mixed_with_what_only_looks_like_them_none_stays_relative(page):
    before, plain = Shown(page), Shown(index_page(page, None))
    assert plain.relative == []
    assert words(plain) == words(before)
    after = Shown(index_page(page, absolute({"Source": "https://github.com/somebody/askonce"})))
    assert after.relative == []
    assert (len(after.links), len(after.pictures)) == (len(before.links), len(before.pictures))
    assert words(after) == words(before)


@given(page=PAGES.filter(lambda page: not Shown(page).relative))
def test_a_page_without_relative_links_stays_as_it_is(page):
    assert re.sub(r"\n\n+", "\n\n", index_page(page, None)) == re.sub(r"\n\n+", "\n\n", page)
