"""``askonce flights``: the upstream calls under way, in every process."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from askonce.cli import say
from askonce.cli.columns import Column
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.gateway.results import FLIGHTS, Flight, plain
from askonce.gateway.short_keys import SHORT
from askonce.runtime.drive import drive

Full = Annotated[bool, typer.Option("--full", help="All columns, as in a pipe; nothing is cut.")]

SCREEN = (Column("key"), Column("for", right=True), Column("waiting", right=True), Column("model", cut=True))
ALL = tuple(
    Column(one)
    for one in ("key", "form", "since", "for_s", "left_s", "here", "followers", "wanted", "processes", "scope", "model")
)


def flights(url: Url = None, prefix: Prefix = None, full: Full = False, as_json: AsJson = False) -> None:
    """List the calls under way, in every process.

    A terminal shows one line for each call, the longest first: the beginning of its key, for how long it has run, and
    who waits for it. A store counts waiting processes, and SQLite only knows whether there are any; a gateway also
    counts its own callers.
    """
    with looking(url, prefix) as view:
        found = drive(view.flights())
    if as_json:
        say.as_json(plain(found))
        return
    say.listed(found, (ALL, _whole), (SCREEN, short), full=full)
    if not found:
        say.sentence("no calls are under way", stderr=True)
    elif len(found) >= FLIGHTS:
        say.sentence(Text(f"only the {FLIGHTS:,} longest; there may be more", "dim"), stderr=True)


def short(one: Flight) -> list[str]:
    """The words of a line for a terminal."""
    return [one.key[:SHORT], say.span(one.seconds), _waiting(one), say.word(one.model) or "-"]


def _waiting(one: Flight) -> str:
    callers = say.count(one.followers, "caller") if one.followers else ""
    if one.processes:
        return ", ".join(filter(None, (callers, say.count(one.processes, "process", "processes"))))
    return callers or ("others" if one.wanted else "-")


def _whole(one: Flight) -> list[str]:
    left = one.deadline - one.since - one.seconds
    numbers = (f"{one.since:.3f}", f"{one.seconds:.1f}", f"{left:.1f}", _flag(one.here), str(one.followers))
    known = "" if one.processes is None else str(one.processes)
    return [one.key, one.form, *numbers, _flag(one.wanted), known, say.word(one.scope), say.word(one.model)]


def _flag(value: bool) -> str:
    return "yes" if value else "no"
