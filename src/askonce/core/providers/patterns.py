"""Regular expressions that are compiled when they are first used.

Python compiles one in a fraction of a millisecond, and there are a hundred: every program would wait for all of them
when it imports askonce, and uses few.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

_METHODS = ("findall", "finditer", "fullmatch", "match", "pattern", "search", "split", "sub")


class _Uncompiled:
    """Looks like an re.Pattern. Each method of the compiled one becomes an attribute, so later uses cost no more."""

    __slots__ = ("_flags", "_text", *_METHODS)

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:  # Python asks it only for what is not set
        if name not in _METHODS:
            raise AttributeError(name)
        compiled = re.compile(self._text, self._flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(self, name)


def pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A pattern of `re`, with the methods that it is used by; an invalid one raises when it is first used."""
    return cast("re.Pattern[AnyStr]", _Uncompiled(text, flags))
