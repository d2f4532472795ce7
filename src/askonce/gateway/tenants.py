"""Whose answers a request may have: the tenant, by what the operator says and what the request carries.

By default there are no names, and the credential is the tenant: its digest is in the key. A name replaces it, for all
credentials of that name; then gateway.credentials decides whether a credential is good.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from askonce.core.memo import Memo
from askonce.gateway.addresses import address_of
from askonce.gateway.settings import TenantsConfig
from askonce.gateway.tenant_file import digest_of, name_problem
from askonce.http.credentials import Header
from askonce.http.rules import Passes

CALLERS = 4096  # credentials whose names are remembered
_SCHEMES = (b"authorization", b"proxy-authorization")


class Tenants:
    """The names of tenants under one configuration. `listed`: those of the file, by the digests of credentials."""

    def __init__(self, config: TenantsConfig, listed: Mapping[str, str]) -> None:
        self._by = config.by
        self.names = config.by != "credential"  # whether it has any
        self._shared = config.name if config.by == "shared" else ""
        self._listed_names = listed
        self._pass_unlisted = config.unlisted == "pass"
        self._met: Memo[bytes, str] = Memo(CALLERS)
        self.trusted = config.by == "header" and not config.verify
        self.header = config.header.encode() if config.by == "header" else b""
        self._networks = tuple(map(ipaddress.ip_network, config.proxies))

    def name_of(self, headers: Sequence[Header], secrets: bytes) -> str:
        """The tenant's name, "" if the credential is the tenant; Passes if the request may have no stored answer.

        `secrets`: all credentials of the request, as in `RequestHeaders`.
        """
        if self._by == "file":
            return self._listed(secrets)
        return self._said(headers) if self.header else self._shared

    def _said(self, headers: Sequence[Header]) -> str:
        values = [value for name, value in headers if name.lower() == self.header]
        if not values:
            return ""
        name = values[0].decode("utf-8", "replace")
        if len(values) > 1 or name_problem(name):
            raise Passes("bad-tenant")
        return name

    def _listed(self, secrets: bytes) -> str:
        found = self._met.get(secrets)
        if found is None:
            found = self._found(secrets)
            self._met.keep(secrets, found, len(secrets))
        if not found and self._pass_unlisted:
            raise Passes("unlisted-credential")
        return found

    def _found(self, secrets: bytes) -> str:
        """The one name that all credentials of a request have; "" if one of them has none, or another.

        Which of several credentials upstream goes by is unknown. One that is listed, and revoked since, must not lend
        its name to another.
        """
        lines = [line for line in secrets.split(b"\n") if line and not line.startswith(b"cookie:")]
        names = {self._listed_names.get(digest_of(bare(line)), "") for line in lines}
        return names.pop() if len(names) == 1 else ""

    def vouched(self, headers: Sequence[Header], peer: str | None) -> Sequence[Header]:
        """The headers of a request from this address: without the tenant's, unless it comes from a proxy of ours."""
        if not self.header or _within(peer, self._networks):
            return headers
        return [pair for pair in headers if pair[0].lower() != self.header]


def bare(line: bytes) -> bytes:
    """The key in a line of `RequestHeaders.secrets`, without the header or the scheme that carries it."""
    name, colon, value = line.partition(b":")
    if not colon:  # of the query: key=...
        return unquote_to_bytes(line.partition(b"=")[2])
    value = value.strip()
    if name in _SCHEMES and (words := value.split(maxsplit=1))[1:]:
        return words[1]
    return value


@lru_cache(maxsize=1024)
def _within(peer: str | None, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    """Whether an address is in one of the networks; None, of a Unix socket, is this machine's."""
    if peer is None:
        return True
    try:
        address = address_of(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
