"""How a program begins to use a cache: the one line to change, which a page shows while nothing was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

LONGEST = 4  # upstreams of which a page shows the line

# What the SDKs of a provider read, and what they expect at the end of it.
VARIABLES = {
    "api.openai.com": ("OPENAI_BASE_URL", "/v1"),
    "api.anthropic.com": ("ANTHROPIC_BASE_URL", ""),
    "generativelanguage.googleapis.com": ("GOOGLE_GEMINI_BASE_URL", ""),
}


class Start(NamedTuple):
    """A title, and the one line to change."""

    title: str
    line: str


class Upstream(Protocol):
    """What stands behind a path of a gateway."""

    @property
    def url(self) -> str:
        """The base URL of the provider."""
        ...

    @property
    def path(self) -> str:
        """The path of the gateway."""
        ...


def of_store(url: str, prefix: str) -> Sequence[Start]:
    """For a store, in Python."""
    more = f", prefix={prefix!r}" if prefix else ""
    return (
        Start("With an SDK (Python)", f"client = OpenAI(http_client=askonce.Cache({url!r}{more}).http_client())"),
        Start("With any function (Python)", f"outcome = askonce.Cache({url!r}{more}).fetch(request, call)"),
    )


def of_gateway(upstreams: Iterable[Upstream], origin: str) -> Sequence[Start]:
    """For a gateway that is reached at `origin` (``http://127.0.0.1:8181``), in any language."""
    return [_of_upstream(one, origin) for one in upstreams][:LONGEST]


def _of_upstream(upstream: Upstream, origin: str) -> Start:
    parts = urlsplit(upstream.url)
    base = origin + upstream.path.rstrip("/")
    name, end = VARIABLES.get(parts.hostname or "", ("", ""))
    if not name:
        return Start(f"Base URL of a client, in place of {upstream.url}", base)
    whole = base if parts.path.rstrip("/") else base + end
    return Start(f"For {parts.hostname}, in any language", f"export {name}={whole}")
