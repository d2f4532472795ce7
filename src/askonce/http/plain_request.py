"""A request over HTTP that nothing sends: what `Cache.why` explains when there is no client at hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import orjson

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.urls import without_password
from askonce.core.wording import shown, whole
from askonce.errors import UsageError

_NAME = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110: a token
_VALUE = pattern(r"[^\x00-\x08\n-\x1f\x7f]*")  # and anything but control characters; a tab is none there


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
        """A request to a URL, with headers as ``name: value``; UsageError for what is no URL, no header or no JSON."""
        raw = [(b"host", _bytes(_authority(url))), (b"content-type", b"application/json")]
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon or not _NAME.fullmatch(name.strip()) or not _VALUE.fullmatch(value.strip()):
                raise UsageError(f"{shown(header)} is not a header: write 'name: value'")
            raw.append((_bytes(name.strip()), _bytes(value.strip())))
        return cls(url, RawHeaders(raw), _json(request))

    def read(self) -> bytes:
        """The body."""
        return self.body


def _authority(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError as wrong:
        raise UsageError(f"{whole(without_password(url))} is no URL ({wrong}): {_WRITE}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{whole(without_password(url))} is no URL of http or https: {_WRITE}")
    return parts.netloc


_WRITE = "write it as https://api.openai.com/v1/..."


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates, nested too deep
        pass
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError, RecursionError):
        raise UsageError("the request is no JSON, or nested too deep: pass the body that is sent") from None
