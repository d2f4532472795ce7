"""The labels in a command line: checked where they are given, in the words of a shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from askonce.core import labels
from askonce.errors import UsageError


def scope_of(given: Any) -> Any:
    """The value of --scope, for typer; ConfigError if it is no path."""
    return _checked(given, "--scope", labels.check_scope)


def tag_of(given: Any) -> Any:
    """The value of --tag, for typer; ConfigError if it is no tag."""
    return _checked(given, "--tag", labels.check_tag)


def model_of(given: Any) -> Any:
    """The value of --model, for typer."""
    return _checked(given, "--model", str)


def _checked(given: Any, option: str, check: Callable[[str], str]) -> Any:
    for one in [given] if isinstance(given, str) else given or ():
        if not one:  # a variable of a script that is not set must not select everything, or nothing, silently
            raise UsageError(f"{option} '' is empty: leave {option} out, or name one")
        check(one)
    return given
