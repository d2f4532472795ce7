"""``askonce stats``: what is in the store. What happened is counted where it happens, by Cache.stats()."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from askonce.cache.totals import Group
from askonce.cli import say
from askonce.cli.columns import NARROWEST
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.gateway.results import Stats
from askonce.runtime.drive import drive

STATES = {
    "fresh": "answers a lookup",
    "stale": "no longer fresh, and still served while it is refreshed",
    "error": "served only when upstream fails",
    "over": "expired",
    "invalidated": "invalidated; no longer served",
}
LONGEST = 10  # rows of a list, unless --json


def stats(url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """Count the entries of the store.

    The command counts entries by state, scope and model, and adds up the time of their calls. It reads the headers of
    all entries in small steps. Each process counts its own hits and misses: Cache.stats().
    """
    with looking(url, prefix) as view, say.console(stderr=True).status("reading the store") as status:
        stats = drive(view.stats(lambda met: status.update(f"{met:,} entries so far")))
    if as_json:
        say.as_json(asdict(stats))
    else:
        _print(say.console(), stats)


def _print(console: Console, totals: Stats) -> None:
    named = f', prefix "{totals.prefix}"' if totals.prefix else ""
    console.print(Text.assemble((totals.store, "bold"), named), soft_wrap=True)
    all_of_it = totals.all
    console.print(f"{say.count(all_of_it.entries, 'entry', 'entries')}, {say.size(all_of_it.bytes)}")
    if not all_of_it.entries:
        return
    console.print(_states(totals))
    for title, groups in (("scope", totals.scopes), ("model", totals.models)):
        console.print(_groups(title, groups))


def _states(totals: Stats) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for number in range(3):
        grid.add_column(justify="right" if number == 0 else "left")
    for state, meaning in STATES.items():
        if entries := totals.states.get(state, 0):
            grid.add_row(f"{entries:,}", state, Text(meaning, "dim"))
    return grid


def _groups(title: str, groups: dict[str, Group]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    table.add_column(f"\n{title}", overflow="ellipsis", no_wrap=True, min_width=NARROWEST)
    for heading in ("\nentries", "\nsize", "calls took\ntogether"):
        table.add_column(heading, justify="right", no_wrap=True)
    several = sorted(groups.items(), key=lambda item: -item[1].entries)
    for name, group in several[:LONGEST]:
        table.add_row(say.text(name), f"{group.entries:,}", say.size(group.bytes), say.time(group.took))
    if len(several) > LONGEST:
        table.add_row(Text(f"and {len(several) - LONGEST} more (--json has all)", "dim"))
    return table
