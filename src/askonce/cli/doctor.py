"""``askonce doctor``: the checks, a line each, printed as they come."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from askonce.cli import place, say
from askonce.cli.check import Check
from askonce.cli.checks import checks
from askonce.cli.place import AsJson, Prefix, Url

STYLES = {"ok": "green", "hint": "yellow", "bad": "bold red"}


def doctor(url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> int:
    """Check the store that askonce uses.

    The checks say what named the store, whether it answers, how fast it answers, what it is, what it can do, what is
    lost without the rest, and what could be better.
    The doctor tries everything that askonce does, under a separate prefix, and cleans up. The exit code is 1 if a check
    is bad.
    """
    console = say.console()
    found = []
    for check in checks(place.find(url, prefix)):
        found.append(check)
        if not as_json:
            _print(console, check)
    well = all(check.state != "bad" for check in found)
    if as_json:
        say.as_json({"ok": well, "checks": [check._asdict() for check in found]})
    return 0 if well else 1


def _print(console: Console, check: Check) -> None:
    line = Text.assemble((f"{check.state:4}", STYLES[check.state]), f"  {check.name:8}  {check.said}")
    console.print(line, soft_wrap=True)
    if check.remedy:
        console.print(Text(f"{'':14}  -> {check.remedy}"), soft_wrap=True)
