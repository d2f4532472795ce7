"""Amounts as a number and its unit; the command line and the page write different spaces between them."""

from __future__ import annotations


def size(octets: int) -> tuple[str, str]:
    """A size in bytes as a number and its unit: 812 and bytes, 3.4 and KiB."""
    amount, units = float(octets), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f}" if units[0] == "bytes" else f"{amount:.1f}", units[0]


def percent(share: float) -> str:
    """A share of 1 in per cent; never 100 or 0 for what is only near it."""
    if 0 < share < 0.1 or 0.9 < share < 1:
        return f"{min(max(share * 100, 0.1), 99.9):.1f}"
    return f"{share * 100:.0f}"
