"""``askonce top``: what all processes ask, pay and save, as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from askonce.cli import say
from askonce.cli.columns import Column, lines, table
from askonce.cli.flights import SCREEN, short
from askonce.cli.looking import Viewed, looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.core.why import moment
from askonce.errors import AskonceError
from askonce.gateway import amounts
from askonce.gateway.results import FLIGHTS, Pulse, plain
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble

EVERY = 2.0  # s: each process pushes its counts once a second
ROWS = {
    "lookups": "lookups",
    "hits": "answered from the store",
    "stale": "answered with an old answer",
    "joined": "answered by another caller's call",
    "led": "answered by a call of their own",
    "calls": "calls upstream, refreshes too",
    "passed": "requests that were not looked up",
    "unstored": "answers that were not stored",
}
COLUMNS = tuple(Column(one) for one in ("at", *ROWS, "flights", "saved_usd"))
LEAST = 4  # lines for flights, however low the terminal is

Every = Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.2, max=86400, help="How often to look.")]
Once = Annotated[bool, typer.Option("--once", help="Look once, and end.")]


def top(
    url: Url = None, prefix: Prefix = None, every: Every = EVERY, once: Once = False, as_json: AsJson = False
) -> None:
    """Watch what all processes ask, pay and save.

    A terminal shows the counts of today (UTC) and of the last seconds, and the calls under way, until Ctrl-C. A pipe
    gets one tab-separated line each time, with the counts of today. The numbers are those of every process that uses
    the store; each pushes its own once a second. --json looks once.
    """
    with looking(url, prefix) as view:
        console = say.console()
        if as_json:
            say.as_json(plain(drive(view.pulse())))
        elif not console.is_terminal:
            _write(view, every, once=once)
        elif once:
            console.print(screen(drive(view.pulse()), None, console))
        else:
            _show(view, every, console)


def _write(view: Viewed, every: float, *, once: bool) -> None:
    heading = lines(COLUMNS, [])
    for pulse in _pulses(view, every):
        say.raw(heading)  # not before: a store that cannot be read has no numbers
        heading = ""
        say.raw("\t".join(_line(pulse)) + "\n")
        sys.stdout.flush()
        if once:
            return


def _pulses(view: Viewed, every: float) -> Iterator[Pulse]:
    due = time.monotonic()
    while True:
        yield drive(view.pulse())
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _line(pulse: Pulse) -> list[str]:
    numbers = [str(getattr(pulse, name)) for name in ROWS]
    return [f"{pulse.at:.3f}", *numbers, str(len(pulse.flights)), f"{pulse.usd:.6f}"]


def _show(view: Viewed, every: float, console: Console) -> None:
    before: Pulse | None = None
    with Live(console=console, screen=False, auto_refresh=False, transient=False) as live:
        while True:
            try:
                pulse = drive(view.pulse())
                live.update(screen(pulse, before, console), refresh=True)
                before = pulse
            except (AskonceError, StoreTrouble) as trouble:
                if before is None:
                    raise
                failed = Text(f"not read: {trouble}", "yellow")
                live.update(Group(screen(before, None, console), failed), refresh=True)
            time.sleep(every)


def screen(pulse: Pulse, before: Pulse | None, console: Console) -> RenderableType:
    """What a terminal shows of a reading, and of what changed since the one before."""
    parts: list[RenderableType] = [Text(_heading(pulse)), _counts(pulse, before), Text(), Text(_flights(pulse))]
    left = max(LEAST, console.height - len(ROWS) - 8)
    if pulse.flights:
        parts.append(table(SCREEN, [short(one) for one in pulse.flights[:left]], console.width))
    return Group(*parts)


def _heading(pulse: Pulse) -> str:
    when = moment(int(pulse.at * 1000))
    share = amounts.percent(1 - pulse.led / pulse.lookups) if pulse.lookups else ""
    ratio = f", {share}% answered without a call of their own" if share else ""
    return f"{when}: {say.count(pulse.lookups, 'lookup')} today{ratio}\n${pulse.usd:,.2f} saved today"


def _counts(pulse: Pulse, before: Pulse | None) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("today", "a second"):
        grid.add_column(heading, justify="right")
    grid.add_column("")
    for name, meaning in ROWS.items():
        grid.add_row(f"{getattr(pulse, name):,}", _rate(name, pulse, before), Text(meaning, "dim"))
    return grid


def _rate(name: str, pulse: Pulse, before: Pulse | None) -> str:
    if before is None or pulse.at <= before.at:
        return "-"
    # A new day begins at nothing: the first reading of one has no rate.
    return f"{max(0, getattr(pulse, name) - getattr(before, name)) / (pulse.at - before.at):,.1f}"


def _flights(pulse: Pulse) -> str:
    more = " or more" if len(pulse.flights) >= FLIGHTS else ""
    return f"{say.count(len(pulse.flights), 'call')}{more} under way" if pulse.flights else "no calls are under way"
