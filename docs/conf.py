"""The site: `make docs` builds it from these pages and from the docstrings, so that it opens without a network."""

from __future__ import annotations

import sys
from typing import Any

import askonce

project = "askonce"
author = "The askonce authors"
release = askonce.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conf.py"]
smartquotes = False  # what looks like a quote or a dash is a part of an example
html_theme = "furo"
html_title = f"askonce {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_search_summary = False  # it is fetched, and a page that was opened from a disk may not fetch
html_theme_options: dict[str, object] = {"footer_icons": []}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
default_role = "code"
autoclass_content = "both"  # a cache's options are described where they are given
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", rf"({'|'.join(sorted(sys.stdlib_module_names))})\..*"),  # their pages are in a network
    ("py:class", r"(opentelemetry|prometheus_client)\..*"),  # likewise
    ("py:class", r"(askonce\.cache\.\w+\.)?[A-Z]"),  # type variables
    ("py:class", r"askonce\.cache\.typing\.\w+"),  # keywords that are unpacked: the text beside them names each
    ("py:class", r"[A-Z]\w+"),  # a name of an alias, or of an extra's type: without a module, nothing can be linked to
]


def setup(app: Any) -> None:
    """Let docstrings hold examples as Python's own do: indented, after an empty line."""
    app.connect("autodoc-process-docstring", lambda *of: of[-1].__setitem__(slice(None), _literal(of[-1])))


def _literal(lines: list[str]) -> list[str]:
    made: list[str] = []
    before = ""  # the last line that is not empty
    for line in lines:
        if line.startswith(" ") and made and not made[-1] and not before.startswith((" ", "-", "..")):
            made += ["::", ""]
        made.append(line)
        before = line or before
    return made
