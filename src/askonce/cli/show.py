"""``askonce show``: one answer, with its details and its body."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from askonce.cli import say
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.core.why import moment
from askonce.errors import UsageError
from askonce.gateway.results import Answer, plain
from askonce.runtime.drive import drive

DATES = ("created", "fresh", "stale", "error")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="An answer's key, or the digits that it begins with.")]
Raw = Annotated[bool, typer.Option("--raw", help="Only the body, byte for byte, also what a terminal would obey.")]


def show(key: KeyArgument, url: Url = None, prefix: Prefix = None, raw: Raw = False, as_json: AsJson = False) -> None:
    """Show one answer: its details and its body.

    The beginning of a key is enough if no other key begins in the same way. Characters that do not print are shown as
    text. A pipe gets a line for each detail, its name and a tab before it, with times in seconds since 1970; then an
    empty line and the body.
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
        return
    for number, one in enumerate(told):
        say.raw("\n" if number else "")
        _print(one, answers.now)


def _told(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = plain(answer)
    unreadable = told.pop("unreadable")
    return {**told, "why": unreadable} if unreadable else told


def _print(told: dict[str, Any], now: float) -> None:
    say.details(_for_people(told, now) if say.console().is_terminal else _for_programs(told))
    say.raw("\n")
    body = told.get("why", told["body"])
    say.prose(body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False))


def _labels(told: dict[str, Any]) -> list[tuple[str, str]]:
    said = [(name, str(told[name])) for name in ("key", "form", "state", "scope", "model")]
    return [*said, ("tags", ",".join(told["tags"]))]


def _for_people(told: dict[str, Any], now: float) -> list[tuple[str, str]]:
    dates = [(name if name == "created" else f"{name} until", _date(told[name], now)) for name in DATES]
    call = [("call took", say.time(told["took"])), ("size", say.size(told["size"]))]
    cipher = told["cipher"] and f"AES-256-GCM, key {told['cipher']}"
    stored = [(name, one) for name, one in (("codec", told["codec"]), ("cipher", cipher)) if one]
    return [*_labels(told), *dates, *call, *stored]


def _date(at: float, now: float) -> str:
    ago = f"{say.span(now - at)} ago" if at <= now else f"in {say.span(at - now)}"
    return f"{moment(int(at * 1000))}, {ago}"


def _for_programs(told: dict[str, Any]) -> list[tuple[str, str]]:
    dates = [(name, f"{told[name]:.3f}") for name in DATES]
    call = [("took_s", f"{told['took']:.3f}"), ("size_bytes", str(told["size"]))]
    return [*_labels(told), *dates, *call, ("codec", told["codec"]), ("cipher", told["cipher"])]
