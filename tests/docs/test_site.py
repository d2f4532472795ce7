"""The site: every link leads somewhere, and a page that is opened from a disk loads nothing from anywhere else."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from tools import site
from tools.blocks import ROOT

GOOD = {
    "index.html": '<a href="howto/page.html#a%20b">p</a><a href="https://example.org/x">x</a><a href="#top">up</a><h1 id="h">',
    "howto/page.html": '<h2 id="a b"></h2><a name="old"></a><a href="../index.html#h">i</a><a href="#old"></a><a href="">me</a>'
    '<img src="../pictures/a%20b.svg" srcset="../pictures/a%20b.svg 2x"><link rel="stylesheet" href="../style.css?v=1">'
    '<script src="../code.js"></script><img src="data:image/png;base64,AA=="><a href="mailto:a@example.org"></a>',
    "pictures/a b.svg": "<svg/>",
    "style.css": 'a { background: url("pictures/a b.svg") } /* url(https://example.org/) */ b { src: url(data:x) }',
    "code.js": "",
}
BROKEN = {
    '<a href="nowhere.html">': "nowhere.html: is not there",
    '<a href="howto">': "howto: is not there",
    '<a href="howto/page.html#c">': "howto/page.html#c: has no such anchor",
    '<a href="#nothing">': "#nothing: has no such anchor",
    '<a href="/srv/index.html">': "/srv/index.html: is a path of one machine",
    '<a href="file:///srv/index.html">': "file:///srv/index.html: is a path of one machine",
    '<form action="find.html">': "find.html: is not there",
    '<area href="map.html">': "map.html: is not there",
    '<img src="gone.png">': "gone.png: is not there",
    '<img srcset="code.js 1x, gone.png 2x">': "gone.png: is not there",
    '<source src="gone.webm">': "gone.webm: is not there",
    '<video poster="gone.png">': "gone.png: is not there",
    '<script src="//cdn.example.org/x.js">': "//cdn.example.org/x.js: is not in the site, and would be loaded",
    '<script src="https://cdn.example.org/x.js">': "https://cdn.example.org/x.js: is not in the site, and would be loaded",
    '<link rel="preload stylesheet" href="https://fonts.example.org/f">': "https://fonts.example.org/f: is not in the site, and would be loaded",
    '<link rel="icon" href="gone.ico">': "gone.ico: is not there",
    '<iframe src="https://example.org/"></iframe>': "https://example.org/: is not in the site, and would be loaded",
    '<style>@import "https://example.org/f.css";</style>': "https://example.org/f.css: is not in the site, and would be loaded",
    "<p style='background: url(gone.png)'>": "gone.png: is not there",
}  # fmt: skip


def made(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def test_a_site_whose_links_all_lead_somewhere_has_no_trouble(tmp_path):
    assert site.troubles(made(tmp_path, GOOD)) == []


@pytest.mark.parametrize("html", BROKEN)
def test_a_link_that_leads_nowhere_and_a_file_from_elsewhere_are_found(tmp_path, html):
    files = GOOD | {"index.html": GOOD["index.html"] + html}
    assert site.troubles(made(tmp_path, files)) == [f"index.html: {BROKEN[html]}"]


@pytest.mark.parametrize("style", ["url(https://example.org/f.woff2)", "url('gone.woff2')"])
def test_what_a_style_loads_is_looked_at(tmp_path, style):
    (trouble,) = site.troubles(made(tmp_path, GOOD | {"style.css": f"@font-face {{ src: {style} }}"}))
    assert trouble.startswith("style.css: ")


def test_a_page_to_which_nothing_leads_is_found(tmp_path):
    lost = {"lost.html": '<a href="index.html"></a><a href="found.html"></a>', "found.html": ""}
    assert site.troubles(made(tmp_path, GOOD | lost)) == [
        "found.html: no link leads there from index.html",
        "lost.html: no link leads there from index.html",
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("furo") is None:
        pytest.skip("sphinx is not installed: `make docs` checks the site")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "-q",
        "-d",
        str(folder / "trees"),
        "-b",
        "html",
        "docs",
        str(folder / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_all_its_links_lead_somewhere(built):
    assert site.troubles(built) == []
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= site.pages(built).keys()
    assert len(pages) > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "page"), [("lease", "words.html"), ("celery", "howto/celery.html"), ("http_client", "reference/api.html")]
)
def test_search_finds_pages_in_a_site_that_was_opened_from_a_disk_without_a_network(built, tmp_path, words, page):
    browser = os.environ.get("ASKONCE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium: set ASKONCE_CHROMIUM")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--proxy-server=127.0.0.1:9",
               "--virtual-time-budget=20000", "--dump-dom", f"{(built / 'search.html').as_uri()}?q={words}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    results = said[said.index('id="search-results"') :]
    assert re.search(rf'<a href="(?:\./)?{page}[^"]*"', results), results[:2000]
