"""Text from elsewhere (a store, a server, a request), made safe to be shown.

A terminal obeys what is in a text: colours, links and titles (ANSI, OSC), a line end that makes two log lines of one,
marks that turn the reading direction. So whatever is no letter, sign or space is shown by its escape, as in Python.
"""

from __future__ import annotations

_JOINERS = "\u200c\u200d"  # parts of emoji and of several scripts: harmless in prose


def printable(text: str, keep: str = "") -> str:
    """The text with everything that does not print, but for what is in `keep`, as an escape in the way of Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def readable(text: str) -> str:
    """Printable prose: lines, tabs and joiners stay."""
    return printable(text, "\n\t" + _JOINERS)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "surrogatepass").decode("ascii") if ord(one) != 0xA0 else " "
