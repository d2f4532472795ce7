"""Fields of a body that an operator declares unable to change an answer, by globs of their paths.

A path has a step for each key, with dots between; the items of a list have their numbers: ``messages.*.id`` is the id
of every message. Each step is a glob.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase, translate

from askonce.errors import ConfigError

# Without these a request is no question, or another one.
STRUCTURE = ("model", "messages", "input", "inputs", "contents", "prompt", "stream", "system", "instructions", "texts")

Steps = tuple[re.Pattern[str], ...]


def check_fields(globs: Iterable[str]) -> None:
    """ConfigError for a glob that is no path, or that leaves out what is asked."""
    for glob in globs:
        steps = glob.split(".")
        if "" in steps:
            raise ConfigError(f"ignore_fields: {glob!r} has an empty step: write a path as 'metadata.trace_id'")
        taken = [name for name in STRUCTURE if fnmatchcase(name, steps[0])]
        if len(steps) == 1 and taken:
            raise ConfigError(
                f"ignore_fields: {glob!r} leaves out {taken[0]!r}, which is what is asked: name other fields"
            )


def compiled(globs: Iterable[str]) -> tuple[Steps, ...]:
    """Globs, ready for `prune`."""
    return tuple(tuple(re.compile(translate(step)) for step in glob.split(".")) for glob in globs)


def prune(value: object, globs: Iterable[Steps]) -> None:
    """Remove from a body all fields that one of the globs names; in place."""
    for steps in globs:
        _prune(value, steps)


def _prune(value: object, steps: Steps) -> None:
    first, rest = steps[0], steps[1:]
    for name in _names(value):
        if first.fullmatch(str(name)) is None:
            continue
        if rest:
            _prune(value[name], rest)  # type: ignore[index]
        elif isinstance(value, dict):  # an item of a list is what is said; only its fields can be left out
            del value[name]


def _names(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []
