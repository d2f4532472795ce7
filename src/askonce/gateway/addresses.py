"""Addresses of connections, as sockets tell them, for comparison with those that an operator writes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(told: str) -> IPv4Address | IPv6Address:
    """An address without its zone; one of IPv4 that a socket of IPv6 tells is of IPv4. ValueError for no address."""
    found = ip_address(told.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found if mapped is None else mapped
