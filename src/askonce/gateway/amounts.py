"""Amounts as a number and its unit; the command line and the page write different spaces between them."""

from __future__ import annotations


def size(octets: int) -> tuple[str, str]:
    """A size in bytes as a number and its unit: 812 and bytes, 3.4 and KiB."""
    amount, units = float(octets), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f}" if units[0] == "bytes" else f"{amount:.1f}", units[0]
