"""Scripts and styles from the package: read once, compressed once, and kept by browsers for good.

The URL of a file contains a digest of all of them, so that a new version is another URL. Nothing is asked of another
host. What others made stands in `static/vendor` as its authors published it; `manifest.json` there says from where.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"
# What a browser asks for, and of which files it is made. One script and not four: htmx starts as soon as it can, and an
# extension that arrives after that is never heard of.
MADE_OF = {
    "page.js": ("vendor/htmx.min.js", "vendor/hx-sse.min.js", "vendor/uPlot.iife.min.js", "page.js"),
    "page.css": ("vendor/uPlot.min.css", "page.css"),
    "icon.svg": ("icon.svg",),
}


class Asset(NamedTuple):
    """A file: its bytes, the same compressed, and its type."""

    data: bytes
    packed: bytes
    type: str


class Assets:
    """The files of MADE_OF. `version`: a digest of them all."""

    def __init__(self) -> None:
        self._files = {name: _read(name) for name in MADE_OF}
        whole = hashlib.sha256(b"\0".join(asset.data for asset in self._files.values()))
        self.version = whole.hexdigest()[:16]

    @property
    def files(self) -> Mapping[str, Asset]:
        """All of them by name."""
        return self._files

    def answer(self, request: Request) -> Response:
        """The answer to ``static/{version}/{name}``; a page of another version gets the file, and does not keep it."""
        asset = self._files.get(request.path_params["name"])
        if asset is None:
            return Response("not found", 404, media_type="text/plain")
        tag = f'"{self.version}"'
        current = request.path_params["version"] == self.version
        headers = {"etag": tag, "vary": "accept-encoding", "cache-control": FOREVER if current else "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, headers={**headers, "content-encoding": "gzip"}, media_type=asset.type)
        return Response(asset.data, headers=headers, media_type=asset.type)


@cache
def assets() -> Assets:
    """The files, read once a process."""
    return Assets()


def _read(name: str) -> Asset:
    folder = files("askonce.gateway.page").joinpath("static")
    data = b"\n".join(folder.joinpath(part).read_bytes() for part in MADE_OF[name])
    return Asset(data, gzip.compress(data, 9, mtime=0), TYPES[name.rpartition(".")[2]])
