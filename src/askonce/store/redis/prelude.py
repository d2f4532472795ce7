"""What the scripts have in common, and which of it a script gets: only what it uses.

A server makes all functions of a script anew at each call. All of them would double the time of a short script on a
server with a million keys, whose memory is fragmented.
"""

from __future__ import annotations

import re
from functools import cache

from askonce.core.providers.named_tuples import NamedTuple


class Part(NamedTuple):
    """One definition: the names that it gives a value, the names in it, and its text."""

    gives: frozenset[str]
    needs: frozenset[str]
    text: str


_DEFINITION = re.compile(r"^local (?:function )?(\w+(?:, \w+)*).*?(?=^(?:local|--)|\Z)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"--.*")
_NAME = re.compile(r"(?<![.:\w])[A-Za-z_]\w*(?! = )\b")  # no field of a table


@cache
def parts(prelude: str) -> tuple[Part, ...]:
    """The definitions of a prelude, in their order, without the comments above them."""
    return tuple(
        Part(frozenset(found[1].split(", ")), names(found[0]), found[0]) for found in _DEFINITION.finditer(prelude)
    )


def used(prelude: str, script: str) -> str:
    """Those definitions of a prelude that a script needs, and those that they need."""
    needed, kept = names(script), list[str]()
    for part in reversed(parts(prelude)):
        if part.gives & needed:
            kept.append(part.text)
            needed |= part.needs
    return "".join(reversed(kept))


def names(text: str) -> frozenset[str]:
    """The names that a piece of Lua reads, and a few more."""
    return frozenset(_NAME.findall(_COMMENT.sub("", text)))
