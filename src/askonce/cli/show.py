"""``askonce show``: one answer, with its details and its body."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from askonce.cli import say
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.core.why import moment
from askonce.errors import UsageError
from askonce.gateway.results import Answer, plain
from askonce.runtime.drive import drive

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="An answer's key, or the digits that it begins with.")]
Raw = Annotated[bool, typer.Option("--raw", help="Only the body, byte for byte, also what a terminal would obey.")]


def show(key: KeyArgument, url: Url = None, prefix: Prefix = None, raw: Raw = False, as_json: AsJson = False) -> None:
    """Show one answer: its details and its body.

    The beginning of a key is enough if no other key begins in the same way. Characters that do not print are shown as
    text.
    """
    if raw and as_json:
        raise UsageError("--raw prints bytes and --json prints JSON: give one of them")
    with looking(url, prefix) as view:
        if raw:
            sys.stdout.buffer.write(drive(view.raw(key)))
            return
        answers = drive(view.entry(key, body=True))
    told = [_told(one) for one in answers.forms]
    if as_json:
        say.as_json(told)
    else:
        for one in told:
            _print(one, answers.now)


def _told(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = plain(answer)
    unreadable = told.pop("unreadable")
    return {**told, "why": unreadable} if unreadable else told


def _print(told: dict[str, Any], now: float) -> None:
    console = say.console()
    grid = Table.grid(padding=(0, 2, 0, 0))
    dates = {name: told[name] for name in ("created", "fresh", "stale", "error")}
    for name in ("key", "form", "state", "scope", "model"):
        grid.add_row(name, say.text(str(told[name])))
    grid.add_row("tags", say.text(", ".join(told["tags"])))
    for name, at in dates.items():
        when = moment(int(at * 1000))
        ago = f"{say.span(now - at)} ago" if at <= now else f"in {say.span(at - now)}"
        grid.add_row(name if name == "created" else f"{name} until", f"{when}, {ago}")
    grid.add_row("call took", say.time(told["took"]))
    grid.add_row("size", say.size(told["size"]))
    for name, stored in (("codec", told["codec"]), ("cipher", told["cipher"] and f"AES-256-GCM, key {told['cipher']}")):
        if stored:
            grid.add_row(name, say.text(stored))
    console.print(grid)
    body = told.get("why", told["body"])
    say.prose(body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False))
