"""What commands read: a text or JSON, from a file or standard input. UsageError says what to give instead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from askonce.cache.files import MOST, text_of
from askonce.core.wording import shown
from askonce.errors import UsageError

MARK = "\ufeff"  # of byte order, with which some editors and shells begin a file


def text_in(name: str, told: str, remedy: str) -> str:
    """The text of a file, or of standard input if its name is ``-``. `told` names it."""
    try:
        if name != "-":
            return text_of(Path(name))
        return "" if sys.stdin is None else sys.stdin.read(MOST).removeprefix(MARK)
    except UnicodeDecodeError:
        raise UsageError(f"{told} is not text in UTF-8: {remedy}") from None
    except (OSError, ValueError) as error:  # the latter: a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{told} cannot be read ({why}): name a file of JSON, or - for input") from None


def request_in(name: str, option: str = "") -> Any:
    """A request in JSON, by the `option` that names its file."""
    told = f"{option} {name if len(name) < len(shown(name)) else shown(name)}" if option else "standard input"
    give = "give the request as it is given to fetch(), in JSON"
    try:
        request = json.loads(text_in(name, told, give))
    except ValueError as error:
        raise UsageError(f"{told} is not JSON ({error}): {give}") from None
    except RecursionError:
        raise UsageError(f"{told} is nested too deep: {give}") from None
    if request is None:
        raise UsageError(f"{told} is null: give a request, as to fetch()")
    return request
