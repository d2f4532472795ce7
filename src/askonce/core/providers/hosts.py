"""Whose host a request goes to.

A provider's own host is known by its name. It serves its operations at exact paths, and its documentation says which
fields of a request cannot change an answer. Nothing is known of any other host, whatever its path says: a gateway may
route, log, price or answer by any field. An operator who knows more says so in `same_as`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from askonce.core.providers.named_tuples import NamedTuple

__all__ = ["Place", "place_of", "provider_of"]

_AWS = r"\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
PROVIDERS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "openai": r"(?:[a-z]{2}\.)?api\.openai\.com",  # and its regions: eu.api.openai.com
        "azure": r"[\w-]+\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)",
        "anthropic": r"api\.anthropic\.com",
        "gemini": r"generativelanguage\.googleapis\.com",
        "vertex": r"(?:[\w-]+-)?aiplatform\.googleapis\.com|aiplatform\.[\w-]+\.rep\.googleapis\.com",
        "bedrock": r"(?:vpce-[\w-]+\.)?bedrock-runtime(?:-fips)?\.[^.]+(?:\.vpce)?" + _AWS,
        "mistral": r"api\.mistral\.ai",
        "voyage": r"api\.voyageai\.com",
    }.items()
}
_PORT = re.compile(r":\d+$")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@lru_cache(maxsize=256)
def provider_of(host: str) -> str:
    """The provider whose own host this is, "" for any other; a host with a port of its own is another."""
    host = host.lower().removesuffix(".")
    return next((name for name, pattern in PROVIDERS.items() if pattern.fullmatch(host)), "")


class Place(NamedTuple):
    """Where a request goes: its scheme and host as in the key, and the provider whose host it is.

    `same`: an operator declared this host the same as another. Then its scheme, and what stands before the provider's
    own path, belong to a mirror and count no more than its name.
    """

    scheme: str
    host: str
    provider: str
    same: bool = False


def place_of(scheme: str, authority: str, same_as: Mapping[str, str]) -> Place:
    """The place of a URL's scheme and authority (without credentials)."""
    port = _DEFAULT_PORTS.get(scheme, ":")
    authority = authority.lower().removesuffix(port)
    meant = _meant(authority, port, same_as)
    if meant == authority and authority not in same_as.values():
        return Place(scheme, authority, provider_of(authority))
    return Place("https", meant, provider_of(meant), same=True)


def _meant(authority: str, port: str, same_as: Mapping[str, str]) -> str:
    """The host that a host stands for, followed through `same_as`; a name with its port comes before one without."""
    for _ in same_as:  # a chain is no longer than the mapping
        host = _PORT.sub("", authority)
        names = (authority,) if host != authority else (authority + port, authority)
        found = next((same_as[name] for name in (*names, host) if name in same_as), None)
        if found is None:
            break
        authority = found
    return authority
