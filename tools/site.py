"""`python -m tools.site build/site`: look for links that lead nowhere in the built site, and for what needs a network.

A page is opened from a disk, too: each script, style, picture and font must be a file of the site. Links to other sites
are links that a reader may follow, and are not followed here.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LOADED = {  # by tag: the attribute that names what a browser loads without being asked
    **dict.fromkeys(("audio", "embed", "iframe", "img", "input", "script", "source", "track", "video"), "src"),
    "object": "data",
}
RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest", "mask-icon", "apple-touch-icon"}
STYLED = re.compile(r"""url\(\s*['"]?([^'")]+)['"]?\s*\)|@import\s+['"]([^'"]+)""")


class Link(NamedTuple):
    """A target as a page writes it; `loaded`: a browser opens it by itself."""

    target: str
    loaded: bool


class Page(HTMLParser):
    """The links of a page, and the names that a link may have after its ``#``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.anchors: set[str] = {"", "top"}
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to, loads, and is called."""
        has = {name: value or "" for name, value in attributes}
        self.anchors |= {has[name] for name in ("id", "name") if name in has}
        self._style = tag == "style"
        loaded = {has[name] for name in (LOADED.get(tag, ""), "poster") if name in has}
        loaded |= {one.split()[0] for one in has.get("srcset", "").split(",") if one.strip()}
        loaded |= set(styled(has.get("style", "")))
        if tag == "link" and RELATIONS & set(has.get("rel", "").split()):
            loaded.add(has["href"])
        elif tag in {"a", "area"} and "href" in has:
            self.links.append(Link(has["href"], loaded=False))
        elif tag == "form" and "action" in has:
            self.links.append(Link(has["action"], loaded=False))
        self.links += [Link(target, loaded=True) for target in sorted(loaded)]

    def handle_data(self, data: str) -> None:
        """Note what a style in the page loads."""
        if self._style:
            self.links += [Link(target, loaded=True) for target in styled(data)]
        self._style = False


def styled(style: str) -> list[str]:
    """What a style loads."""
    return [found[1] or found[2] for found in STYLED.finditer(style)]


def pages(site: Path) -> dict[str, Page]:
    """The pages of a site, by their paths in it."""
    return {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def styles(site: Path) -> Iterator[tuple[str, list[Link]]]:
    """The styles of a site, and what they load."""
    for path in sorted(site.rglob("*.css")):
        loaded = styled(re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL))
        yield path.relative_to(site).as_posix(), [Link(target, loaded=True) for target in loaded]


def place(page: str, target: str) -> str:
    """The path in the site to which a relative target of a page leads."""
    path = unquote(urlsplit(target).path)
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page


def outside(target: str) -> bool:
    """Whether a target is not a file of the site: another host, or an absolute path of this one."""
    parts = urlsplit(target)
    return bool(parts.scheme or parts.netloc) or parts.path.startswith("/")


def troubles(site: Path) -> list[str]:
    """What is wrong with a site: a line for each link."""
    found = pages(site)
    linked = [(name, page.links) for name, page in found.items()] + list(styles(site))
    wrong = [
        f"{name}: {link.target}: {said}"
        for name, links in linked
        for link in links
        if (said := _wrong(site, found, name, link))
    ]
    return wrong + [f"{name}: no link leads there from index.html" for name in unreachable(found)]


def _wrong(site: Path, found: Mapping[str, Page], name: str, link: Link) -> str:
    if link.target.startswith(("data:", "mailto:")):
        return ""
    if outside(link.target):
        local = not urlsplit(link.target).netloc
        return "is not in the site, and would be loaded" if link.loaded else "is a path of one machine" if local else ""
    there = place(name, link.target)
    if not (site / there).is_file():
        return "is not there"
    anchor = unquote(urlsplit(link.target).fragment)
    return "has no such anchor" if there in found and anchor not in found[there].anchors else ""


def unreachable(found: Mapping[str, Page]) -> list[str]:
    """The pages to which no chain of links leads from the first one."""
    seen: set[str] = set()
    queue = ["index.html"]
    while queue:
        name = queue.pop()
        if name in found and name not in seen:
            seen.add(name)
            queue += [place(name, link.target) for link in found[name].links if not outside(link.target)]
    return sorted(found.keys() - seen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong with a site; 1 if something is."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", type=Path, help="the folder of the built site")
    site = parser.parse_args(arguments).site
    wrong = troubles(site)
    found = pages(site)
    print(
        "\n".join(
            [*wrong, f"{len(found)} pages, {sum(len(page.links) for page in found.values())} links, {len(wrong)} wrong"]
        )
    )
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
