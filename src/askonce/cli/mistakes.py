"""What is wrong with a command line, in one line that says what to write.

The parser's own words depend on its version, and leave out the value, the bounds or the right word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from askonce.core.spelling import meant
from askonce.core.wording import shown

# What is given to these as an argument may be a secret, and is not repeated.
ARGUMENTS = {"digest": "A key is never an argument, which other users can read: write `askonce digest < FILE`"}
KINDS = {"N": "a whole number", "SECONDS": "a number of seconds"}


def told(error: Any, args: Sequence[str]) -> str:
    """What an error of the parser says to a user."""
    context = getattr(error, "ctx", None)
    help_ = f"(see {context.command_path if context else 'askonce'} --help)"
    option = getattr(error, "param", None)
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        return f"No such option: {error.option_name}{_right(error, context)} {help_}"
    if option is not None and getattr(option, "opts", [""])[0].startswith("-") and type(error).__name__ != _MISSING:
        return f"{_wrong_value(option, args)} {help_}"
    said = error.format_message().rstrip(".")
    if "extra argument" in said and context is not None and context.command.name in ARGUMENTS:
        return f"{ARGUMENTS[context.command.name]} {help_}"
    return f"{said} {help_}"


_MISSING = "MissingParameter"


def _right(error: Any, context: Any) -> str:
    """The option that a misspelt one was meant to be, or where it belongs."""
    commands = getattr(context and context.command, "commands", {})
    home = next((name for name, one in commands.items() if error.option_name in _options(one)), None)
    if home is not None:
        return f": write it after a command, as in askonce {home} {error.option_name}"
    known = _options(context.command) if context else []
    near = meant(error.option_name, known)
    right = [near] if near else sorted(error.possibilities or ())
    return f": write {' or '.join(right)}" if right else ""


def _options(command: Any) -> list[str]:
    return [name for option in command.params for name in option.opts if name.startswith("-")]


def _wrong_value(option: Any, args: Sequence[str]) -> str:
    """What an option takes instead."""
    name = option.opts[0]
    given = [word for before, word in pairwise(args) if before == name]
    given += [word.partition("=")[2] for word in args if word.startswith(f"{name}=")]
    value = f" {shown(given[-1])}" if given else ""
    return f"Invalid value{value} for '{name}': write {_wanted(option, given[-1:])}"


def _wanted(option: Any, given: Sequence[str]) -> str:
    words = _words(option)
    if words:
        right = meant(given[0], words) if given else None
        return right or f"one of {', '.join(words)}"
    least, most = (getattr(option, end, getattr(getattr(option, "type", None), end, None)) for end in ("min", "max"))
    bounds = f" from {least} to {most}" if most is not None else f", at least {least}" if least is not None else ""
    example = option.default if option.default is not None else least
    such = "" if example is None else f", such as {option.opts[0]} {example}"
    return f"{KINDS.get(option.metavar, 'another value')}{bounds}{such}"


def _words(option: Any) -> list[str]:
    """The words that an option takes, if it takes words."""
    kind = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    choices = getattr(getattr(option, "type", None), "choices", None) or _literal(kind)
    return [str(getattr(one, "value", one)) for one in choices]


def _literal(kind: Any) -> Iterable[Any]:
    for one in (kind, *getattr(kind, "__args__", ())):
        if words := getattr(one, "__args__", ()):
            if all(isinstance(word, str) for word in words):
                return list(words)
        elif isinstance(one, type) and hasattr(one, "__members__"):
            return list(one.__members__.values())
    return []
