"""``askonce stats``: what is in the store. What happened is counted where it happens, by Cache.stats()."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from askonce.cache.totals import Group
from askonce.cli import say
from askonce.cli.columns import Column, lines, table
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
LONGEST = 10  # rows of a list in a terminal
NUMBERS = (Column("entries", right=True), Column("size", right=True), Column("calls took", right=True))
ALL = tuple(Column(one) for one in ("kind", "name", "entries", "size_bytes", "took_s"))


def stats(url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """Count the entries of the store.

    The command counts entries by state, scope and model, and adds up the time of their calls. It reads the headers of
    all entries in small steps. A pipe gets tab-separated lines, one for all entries and one for each state, scope and
    model. Each process counts its own hits and misses: Cache.stats().
    """
    with looking(url, prefix) as view, say.console(stderr=True).status("reading the store") as status:
        stats = drive(view.stats(lambda met: status.update(f"{met:,} entries so far")))
    console = say.console()
    if as_json:
        say.as_json(asdict(stats))
    elif console.is_terminal:
        _print(console, stats)
    else:
        say.raw(lines(ALL, list(_lines(stats))))


def _lines(totals: Stats) -> Iterator[list[str]]:
    yield ["all", "", *_numbers(totals.all)]
    for state in STATES:
        yield ["state", state, str(totals.states.get(state, 0)), "", ""]
    for kind, groups in (("scope", totals.scopes), ("model", totals.models)):
        for name, group in _most_first(groups):
            yield [kind, say.word(name), *_numbers(group)]


def _numbers(group: Group) -> list[str]:
    return [str(group.entries), str(group.bytes), f"{group.took:.3f}"]


def _most_first(groups: dict[str, Group]) -> list[tuple[str, Group]]:
    return sorted(groups.items(), key=lambda item: (-item[1].entries, item[0]))


def _print(console: Console, totals: Stats) -> None:
    named = f', prefix "{totals.prefix}"' if totals.prefix else ""
    say.sentence(Text.assemble((totals.store, "bold"), named))
    all_of_it = totals.all
    say.sentence(f"{say.count(all_of_it.entries, 'entry', 'entries')}, {say.size(all_of_it.bytes)}")
    if not all_of_it.entries:
        return
    console.print(_states(totals))
    for title, groups in (("scope", totals.scopes), ("model", totals.models)):
        say.raw("\n")
        _print_groups(console, title, groups)


def _states(totals: Stats) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for number in range(3):
        grid.add_column(justify="right" if number == 0 else "left")
    for state, meaning in STATES.items():
        if entries := totals.states.get(state, 0):
            grid.add_row(f"{entries:,}", state, Text(meaning, "dim"))
    return grid


def _print_groups(console: Console, title: str, groups: dict[str, Group]) -> None:
    several = _most_first(groups)
    rows = [
        [say.word(name) or "-", f"{group.entries:,}", say.size(group.bytes), say.time(group.took)]
        for name, group in several[:LONGEST]
    ]
    console.print(table((Column(title, cut=True), *NUMBERS), rows, console.width))
    if len(several) > LONGEST:
        say.sentence(Text(f"and {len(several) - LONGEST} more (--json has all)", "dim"))
