"""``askonce doctor``: the checks, a line each, printed as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.text import Text

from askonce.cli import place, say
from askonce.cli.check import Check
from askonce.cli.columns import Column, lines
from askonce.cli.place import AsJson, Prefix, Url

COLUMNS = tuple(Column(one) for one in ("state", "check", "said", "remedy"))
STYLES = {"ok": "green", "hint": "yellow", "bad": "bold red"}


def doctor(url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> int:
    """Check the store that askonce uses.

    The checks say what named the store, whether it answers, how fast it answers, what it is, what it can do, what is
    lost without the rest, and what could be better.
    The doctor tries everything that askonce does, under a separate prefix, and cleans up. The exit code is 1 if a check
    is bad. A pipe gets tab-separated lines: state, check, what it says, what to do.
    """
    from askonce.cli.checks import checks  # late: they import redis, and every command would wait for it

    found = []
    walk = checks(place.find(url, prefix))  # before anything is printed: what is wrong with the place is an error
    shown = _shown(as_json=as_json)
    for check in walk:
        found.append(check)
        shown(check)
    well = all(check.state != "bad" for check in found)
    if as_json:
        say.as_json({"ok": well, "checks": [check._asdict() for check in found]})
    return 0 if well else 1


def _shown(*, as_json: bool) -> Callable[[Check], None]:
    """Shows each check as it comes."""
    console = say.console()
    if as_json:
        return lambda _: None
    if console.is_terminal:
        return partial(_print, console)
    say.raw(lines(COLUMNS, []))
    return _write


def _write(check: Check) -> None:
    say.raw("\t".join(map(say.word, (check.state, check.name, check.said, check.remedy))) + "\n")
    sys.stdout.flush()


def _print(console: Console, check: Check) -> None:
    first = Text.assemble((f"{check.state:4}", STYLES[check.state]), f"  {check.name:8}  ")
    say.hanging(console, first, check.said)
    if check.remedy:
        say.hanging(console, Text(" " * first.cell_len + "-> "), check.remedy)
