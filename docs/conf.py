"""The site: `make docs` builds it from these pages and from the docstrings, so that it opens without a network."""

from __future__ import annotations

import askonce

project = "askonce"
author = "The askonce authors"
release = askonce.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"askonce {release}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, object] = {"footer_icons": []}
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
nitpicky = False
linkcheck_anchors = False
