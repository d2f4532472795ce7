"""Upstreams: which base URL stands behind which path of the gateway."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from askonce.gateway.paths import OURS
from askonce.gateway.sections import key

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def _is_plain(path: str) -> bool:
    """Whether every server reads this path in one way; it has no slash at its end."""
    return not path or (_PATH.fullmatch(path) is not None and {".", ".."}.isdisjoint(path.split("/")))


def path_problem(path: str) -> str:
    """What is wrong with the path of an upstream, "" if nothing."""
    if path in {"", "/"}:
        return ""
    if not path.startswith("/"):
        return f"{path!r}: begin the path with a slash, {'/' + path!r}"
    plain = path.rstrip("/")
    if not _is_plain(plain):
        return f"{path!r} is no plain path: write letters, digits and '-', '_', '.', '~' between slashes, as '/openai'"
    if plain == OURS or plain.startswith(f"{OURS}/"):
        return f"{path!r} belongs to the gateway itself: write another path"
    return ""


def url_problem(url: str) -> str:
    """What is wrong with the base URL of an upstream, "" if nothing. Nothing that may be a secret is repeated."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        return f"no URL ({wrong}): write it as 'https://api.openai.com'"
    if "@" in parts.netloc:
        return "a URL with a name or a password: remove it, because callers send their own credentials"
    if "unix" in parts.scheme or parts.scheme.startswith("http+") or url.startswith("/"):
        return f"{url!r}: an upstream on a Unix socket cannot be reached: let it listen at 127.0.0.1, too"
    if parts.scheme not in {"http", "https"} or not host:
        return f"{url!r} is no URL of http or https: write it as 'https://api.openai.com'"
    if port == 0:
        return f"{url!r}: port 0 is no server's: write it as 'https://api.openai.com', or with its port"
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return "a URL with a query or a fragment: write only scheme, host and path, as 'https://api.openai.com'"
    authority = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    if not _HOST.fullmatch(authority) or not _is_plain(parts.path.rstrip("/")):
        return f"{url!r} has characters that no plain URL has: write it as 'https://api.openai.com/v1'"
    return ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream: requests to `path` and below go to `url` and below, without `path`."""

    url: str = key("", "base URL, such as https://api.openai.com", check=url_problem)
    path: str = key(
        "", "path of the gateway that stands for it, such as /openai; empty: all other paths", check=path_problem
    )
    ca: str = key("", "file of certificates (PEM) that sign the upstream's own; empty: those of the system")
    cert: str = key("", "file of the certificate (PEM) that the gateway shows to the upstream; empty: none")
    cert_key: str = key("", "file of its private key (PEM); empty: it is in cert")

    @property
    def origin(self) -> str:
        """Scheme, host and port, in lower case."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()


FILES = ("ca", "cert", "cert_key")


def files_problem(upstream: Upstream) -> str:
    """What is wrong with the files of an upstream as a whole, "" if nothing."""
    named = [name for name in FILES if getattr(upstream, name)]
    if named and upstream.url.startswith("http://"):
        return f"{' and '.join(named)} for an upstream without TLS: write url = 'https://...', or leave them out"
    if upstream.cert_key and not upstream.cert:
        return "cert_key without cert: name the file of the certificate, too"
    return ""


def parse(text: str) -> tuple[str, str]:
    """Path and URL of an upstream in a flag or a variable: ``https://...`` or ``/openai=https://...``."""
    path, equals, url = text.strip().partition("=")
    if not equals or "://" in path:
        return "", text.strip()
    return path.strip(), url.strip()


def plain(path: str) -> str:
    """A path without a slash at its end; "" for the root."""
    return path.rstrip("/")
