"""A request over HTTP that nothing sends: what `Cache.why` explains when there is no client at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from askonce.errors import UsageError


class RawHeaders(NamedTuple):
    """Headers, as clients keep them."""

    raw: list[tuple[bytes, bytes]]

    def get(self, name: str, default: str = "") -> str:
        """The value of a header."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for one, value in self.raw if one.lower() == wanted), default)


class PlainRequest(NamedTuple):
    """A POST of a JSON body."""

    url: str
    headers: RawHeaders
    body: bytes
    method: str = "POST"

    @classmethod
    def of(cls, url: str, headers: Iterable[str], request: Any) -> PlainRequest:
        """A request to a URL, with headers as ``name: value``; UsageError for one that is none."""
        raw = [(b"host", url.split("://", 1)[-1].split("/", 1)[0].encode()), (b"content-type", b"application/json")]
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon or not name.strip():
                raise UsageError(f"{header!r} is not a header: write 'name: value'")
            raw.append((name.strip().encode(), value.strip().encode()))
        return cls(url, RawHeaders(raw), orjson.dumps(request))

    def read(self) -> bytes:
        """The body."""
        return self.body
