"""What the parser does differently here: empty values, help in narrow terminals, and readers that leave."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from typer.core import TyperCommand, TyperGroup

from askonce.cli.output import reading
from askonce.errors import UsageError

BLANK = {"prefix", "old_prefix"}  # what may be empty: the prefix of a cache that has none
NARROWEST = 50  # columns: the parser writes no narrower help by itself
LEAST = 29  # columns that a help takes in any terminal: the longest option


class StrictCommand(TyperCommand):
    """A command that refuses an option with an empty value: a variable of a script that is not set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse them; UsageError for an empty value."""
        fit(ctx)
        for name in _blank(args):
            if any(name in option.opts and _must_say(option) for option in self.params):
                raise UsageError(f"{name} '' is empty: leave {name} out, or write its value after it")
        for name, word in _swallowed(self.get_params(ctx), args):
            raise UsageError(f"{name} has no value, but the option {word}: write its value after it, or {name}={word}")
        for option in self.params:
            if name := _again(option, args):
                raise UsageError(f"{name} is given twice: write it once")
        rest: list[str] = super().parse_args(ctx, args)
        return rest


class StrictGroup(TyperGroup):
    """All commands. A reader that leaves is told as such: the parser would end with 1 for its own output."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of a command line, with what options such as --version print."""
        with reading():
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command."""
        fit(ctx)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command, which may be its help."""
        with reading():
            return super().invoke(ctx)


def _must_say(option: Any) -> bool:
    # Callbacks say more about their own option.
    return not option.is_flag and option.callback is None and option.name not in BLANK


def _blank(args: Sequence[str]) -> Iterable[str]:
    """The options that are given an empty value."""
    for before, word in pairwise(["", *args]):
        if not word.strip() and before.startswith("-"):
            yield before
        elif word.startswith("--") and word.endswith("="):
            yield word[:-1]


def _swallowed(options: Sequence[Any], args: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each option whose value would be the next option, such as the --dry-run of ``--tag --dry-run``."""
    names = {name for option in options for name in option.opts if name.startswith("-")} | {"--"}
    valued = {name for option in options if not getattr(option, "is_flag", True) for name in option.opts}
    for before, word in pairwise(args):
        if before == "--":
            return
        if before in valued and word.partition("=")[0] in names:
            yield before, word


def _again(option: Any, args: Sequence[str]) -> str:
    """The name of an option that is given twice, of which the parser would take the last one."""
    if getattr(option, "multiple", True) or getattr(option, "is_flag", True):  # an argument has neither
        return ""
    said = [word.partition("=")[0] for before, word in pairwise(["", *args]) if before not in option.opts]
    given = [word for word in said[: said.index("--") if "--" in said else None] if word in option.opts]
    return given[1] if len(given) > 1 else ""


def fit(ctx: Any) -> None:
    """Let a help fit a terminal that is narrower than the parser's narrowest."""
    room = shutil.get_terminal_size().columns - 2
    if room < NARROWEST:
        ctx.terminal_width = max(room, LEAST)
        ctx.formatter_class = type("Narrow", (_Narrow, type(ctx).formatter_class), {})


class _Narrow:
    """A formatter whose first column leaves at least half of the room to the second one."""

    width: int

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of options, or of commands: a longer first column has a line of its own."""
        super().write_dl(rows, min(col_max, self.width // 4), col_spacing)  # type: ignore[misc]
