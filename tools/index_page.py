"""The page of a package index: README.md as hatchling reads it when it builds the package (a metadata hook).

An index shows the README without the repository around it, so a relative link leads nowhere there. If `[project.urls]`
in pyproject.toml has a ``Source``, relative links and pictures lead into that repository. Otherwise a link becomes its
text, and a picture is left out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hatchling.metadata.plugin.interface import MetadataHookInterface

Absolute = Callable[[str, str], str]  # from "page" or "picture" and a relative target

# What an index considers to be the address of the source: `[project.urls]` in lower case, letters only.
SOURCE = ("source", "sourcecode", "repository", "github")
# Where a forge shows a file, and where it has the file itself. HEAD is the default branch, whatever its name is.
GITHUB = {"page": "blob/HEAD", "picture": "raw/HEAD"}
GITLAB = {"page": "-/blob/HEAD", "picture": "-/raw/HEAD"}
FORGEJO = {"page": "src/branch/main", "picture": "raw/branch/main"}
FORGES = {"github.com": GITHUB, "gitlab.com": GITLAB, "codeberg.org": FORGEJO}

# What is no link, whatever it looks like: blocks of code, comments, code in a line (which no empty line interrupts).
LITERAL = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?^ {0,3}(?P=fence)[`~]*[ \t]*$|.*\Z)"
    r"|<!--.*?-->"
    r"|(?<![\\`])(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)*?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
HIDDEN = re.compile("\ue000(\\d+)\ue001")
TARGET = r"""\(\s*(?P<target><[^<>\n]*>|(?:[^\s()<]|\([^\s()]*\))*)(?P<title>\s+(?:"[^"]*"|'[^']*'))?\s*\)"""
PICTURE = re.compile(r"(?<!\\)!\[(?P<text>(?:\\.|[^\[\]\\])*)\]" + TARGET)
LINK = re.compile(r"(?<![\\!])\[(?P<text>(?:\\.|!?\[[^\[\]]*\](?:\([^()]*\))?|[^\[\]\\])*)\]" + TARGET)
# Other ways to write a link, which have no place where a text could stand instead.
OTHER = re.compile(
    r"""^ {0,3}\[[^\]]+\]:\s*<?(?P<definition>[^\s>]+)|\b(?:href|src)\s*=\s*["']?(?P<html>[^\s"'>]+)""", re.MULTILINE
)


class IndexPage(MetadataHookInterface):
    """Gives the project its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` of the project's metadata."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        page = index_page(text, absolute(metadata.get("urls") or {}))
        metadata["readme"] = {"content-type": "text/markdown", "text": page}


def absolute(urls: Mapping[str, str]) -> Absolute | None:
    """How a relative target becomes absolute, by `[project.urls]`; None without the address of the source."""
    named = {re.sub("[^a-z]", "", name.lower()): url.rstrip("/").removesuffix(".git") for name, url in urls.items()}
    source = next((named[name] for name in SOURCE if name in named), None)
    if source is None:
        return None
    places = _places(source)

    def of(kind: str, target: str) -> str:
        path, hash_sign, anchor = target.partition("#")
        return (f"{source}/{places[kind]}/{_inside(path)}" if path else source) + hash_sign + anchor

    return of


def _places(source: str) -> Mapping[str, str]:
    host = urlsplit(source).hostname or ""
    if found := FORGES.get(host) or (GITLAB if host.startswith("gitlab.") else None):
        return found
    raise ValueError(
        f"[project.urls] says that the source is at {source!r}, and how {host or 'it'} names a file is not known: "
        "add the host to FORGES in tools/index_page.py"
    )


def _inside(path: str) -> str:
    """The path from the root of the repository, where README.md is; ValueError if it leads out of it."""
    within = posixpath.normpath(path.lstrip("/"))
    if within.startswith(".."):
        raise ValueError(f"README.md links to {path!r}, which is outside of the repository")
    return within


def index_page(text: str, to: Absolute | None) -> str:
    """The page, by what makes targets absolute. ValueError for a relative link that is no ``[text](target)``."""
    literals: list[str] = []

    def hide(found: re.Match[str]) -> str:
        literals.append(found[0])
        return f"\ue000{len(literals) - 1}\ue001"

    page = LITERAL.sub(hide, text)
    page = PICTURE.sub(lambda found: _picture(found, to), page)
    page = LINK.sub(lambda found: _link(found, to), page)
    _refuse_others(page)
    page = re.sub(r"\n[ \t]*(?:\n[ \t]*)+\n", "\n\n", page)  # the place of a picture that was left out
    return HIDDEN.sub(lambda found: literals[int(found[1])], page)


def _picture(found: re.Match[str], to: Absolute | None) -> str:
    if not relative(found["target"]):
        return found[0]
    return f"![{found['text']}]({_target(to, 'picture', found)})" if to else ""


def _link(found: re.Match[str], to: Absolute | None) -> str:
    if not relative(found["target"]):
        return found[0]
    return f"[{found['text']}]({_target(to, 'page', found)})" if to else found["text"]


def _target(to: Absolute, kind: str, found: re.Match[str]) -> str:
    bare = found["target"].removeprefix("<").removesuffix(">").replace(" ", "%20")
    return to(kind, bare) + (found["title"] or "")


def relative(target: str) -> bool:
    """Whether a target leads somewhere only beside the repository's files."""
    return urlsplit(target.strip("<>")).scheme not in {"http", "https", "mailto"}


def _refuse_others(page: str) -> None:
    for found in OTHER.finditer(page):
        target = found["definition"] or found["html"]
        if relative(target):
            raise ValueError(f"README.md has a relative link to {target!r}: write it as [text]({target})")
