"""``askonce demo``: how the Report of a run is shown, while it fills and when it is full."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.table import Table
from rich.text import Text

from askonce.cache import config
from askonce.cli import say
from askonce.cli.place import AsJson, Prefix, named
from askonce.demo.load import SCOPE, Scale
from askonce.flight.background import HEARTBEAT

if TYPE_CHECKING:
    from askonce.demo.scenes import Measured, Promise, Report, Row

ROOM = 56  # columns that the table needs with the times
TITLE = 38  # columns of what was asked, where there is room
WIDTH = 88  # columns: a paragraph is read more easily when it does not run across a wide screen

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        callback=named,
        help="The store to use, cleaned up afterwards; without it: an SQLite file.",
    ),
]
Processes = Annotated[int, typer.Option(metavar="N", min=2, max=32, help="Processes on each side.")]
Callers = Annotated[int, typer.Option(metavar="N", min=1, max=200, help="Callers in each process.")]
Questions = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Questions of each caller in a day.")]


def demo(
    url: Url = None,
    prefix: Prefix = None,
    processes: Processes = Scale.processes,
    callers: Callers = Scale.callers,
    questions: Questions = Scale.questions,
    as_json: AsJson = False,
) -> int:
    """Watch several processes ask, with and without a cache.

    Each process has many callers, which ask a scripted provider. The demo takes about ten seconds and needs no network.
    It shows what is asked, what is paid, what a hit costs, an invalidation and a crash. The exit code is 0 if all
    promises were kept.
    """
    return run(url, prefix, Scale(processes=processes, callers=callers, questions=questions), as_json=as_json)


def run(url: str | None, prefix: str | None, scale: Scale, *, as_json: bool = False) -> int:
    """The demo at a scale; its exit code."""
    import asyncio  # late, as what is played: every command waits for its imports

    from askonce.demo.scenes import run as play

    with _shown(say.console(), quiet=as_json) as look:
        report = asyncio.run(play(url, config.find_prefix(prefix), scale, look))
    if as_json:
        say.as_json({**asdict(report), "promises": [asdict(one) for one in report.promises], "kept": report.kept})
    return 0 if report.kept else 1


class Screen:
    """Where reports are shown: what is complete is printed once, and below it changes what is not.

    Not one page that is drawn over and over: it would be longer than many terminals are high.
    """

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._printed = 0

    def look(self, report: Report) -> None:
        """Show what is new."""
        complete = parts(report)
        for part in complete[self._printed :]:
            self._console.print(Constrain(part, WIDTH))
        self._printed = len(complete)
        if self._live is not None:
            self._live.update(Constrain(_unfinished(report), WIDTH), refresh=True)


@contextlib.contextmanager
def _shown(console: Console, *, quiet: bool) -> Iterator[Callable[[Report], None]]:
    """Where reports go: to a screen, in a pipe to one on which nothing moves, or nowhere."""
    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield Screen(console, None).look
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield Screen(console, live).look


def parts(report: Report) -> list[RenderableType]:
    """What of a report is complete, in the order in which it is told; it only grows."""
    found = [_opening(report)]
    if report.hit is not None:
        found += [_Rows(report), *(_paragraph(title, text) for title, text in _scenes(report))]
    if report.seconds:
        found.append(_ending(report))
    return found


def _unfinished(report: Report) -> RenderableType:
    if report.hit is None:
        return _Rows(report)
    if report.seconds:
        return ""
    return Text("\nThe prompt changes ..." if report.invalidation is None else "\nA process dies ...", "dim")


def _ending(report: Report) -> RenderableType:
    title = Text("\nPromises, measured in this run:", "bold")
    return Group(title, _promises(report.promises), Text(f"\n{say.time(report.seconds)} in all", "dim"))


def _opening(report: Report) -> RenderableType:
    scale = report.scale
    return Text.assemble(
        ("askonce demo\n\n", "bold"),
        f"{scale.everybody} callers in {scale.processes} processes ({scale.callers} in each) ask an LLM the questions"
        " of a support desk. Half of the processes use threads, half use asyncio. A scripted provider replaces the LLM."
        f" It answers after about {say.time(scale.median)} and counts the paid calls. Store: {report.store}.\n",
    )


class _Rows:
    """What was asked and paid, and, where there is room, how long it took."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self._report) if options.max_width >= ROOM else _narrow(self._report)


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("", max_width=TITLE)  # it wraps in a narrow terminal, and the numbers never do
    # Two columns each, read as one heading: "without | a cache".
    for heading, style in (("\nasked", ""), ("without\npaid", "red"), ("a cache\ntime", "red")):
        table.add_column(heading, justify="right", style=style, no_wrap=True)
    for heading in ("with\npaid", "askonce\ntime"):
        table.add_column(heading, justify="right", style="green", no_wrap=True)
    for row in report.rows:
        table.add_row(_title(row), f"{row.asked:,}", *_measure(row.plain), *_measure(row.cached))
    if len(report.rows) > 1:
        table.add_row(*_sum(report.rows), style="bold")
    return table


def _narrow(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading, style in (("\nasked", ""), ("paid\nwithout", "red"), ("\nwith", "green")):
        table.add_column(heading, justify="right", style=style, no_wrap=True)
    for row in report.rows:
        table.add_row(_title(row), f"{row.asked:,}", f"{row.plain.paid:,}", f"{row.cached.paid:,}")
    if len(report.rows) > 1:
        title, asked, plain, _, cached, _ = _sum(report.rows)
        table.add_row(title, asked, plain, cached, style="bold")
    return table


def _title(row: Row) -> Text:
    measured = row.cached
    told = [
        (measured.hits, say.count(measured.hits, "hit")),
        (measured.collapsed, f"{measured.collapsed:,} shared a call"),
    ]
    served = ", ".join(text for number, text in told if number) if measured.seconds is not None else "..."
    return Text.assemble(f"{row.title}\n", (f"  {served}", "dim"))


def _measure(measured: Measured) -> tuple[str, str]:
    return f"{measured.paid:,}", "..." if measured.seconds is None else say.time(measured.seconds)


def _sum(rows: list[Row]) -> list[str]:
    told = ["in all", f"{sum(row.asked for row in rows):,}"]
    for both in ([row.plain for row in rows], [row.cached for row in rows]):
        told.append(f"{sum(measured.paid for measured in both):,}")
        told.append(say.time(sum(measured.seconds or 0.0 for measured in both)))
    return told


def _scenes(report: Report) -> Iterator[tuple[str, str]]:
    if (hit := report.hit) is not None:
        text = f"(median of {hit.hits:,} hits; p99: {hit.p99:.0f} us), from question to answer."
        yield f"A hit costs {hit.p50:.0f} us", text
    if (fresh := report.invalidation) is not None:
        text = (
            f'invalidate(scope="{SCOPE}") takes {say.time(fresh.seconds)}. All {fresh.asked} callers ask one of its'
            f" questions again. They make {say.count(fresh.paid, 'paid call')}. {fresh.old or 'None'} of them"
            f" {'gets' if fresh.old == 1 else 'get'} an older answer."
        )
        yield "The prompt changes:", text
    if (crash := report.crash) is not None:
        text = (
            f"it is killed {say.time(crash.into_call)} after its call began. {crash.waiting} callers in other processes"
            f" wait for this call. Its lease expires ({crash.lease:g} s here, {HEARTBEAT:g} s by default). One caller"
            f" calls again {say.time(crash.takeover)} after the kill. All callers are served {say.time(crash.served)}"
            f" after the kill: {say.count(crash.paid, 'paid call')}."
        )
        yield "A process dies:", text


def _paragraph(title: str, text: str) -> RenderableType:
    return Text.assemble("\n", (title, "bold"), " ", text)


def _promises(promises: list[Promise]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for promise in promises:
        grid.add_row(Text("kept", "green") if promise.kept else Text("BROKEN", "bold red"), promise.text)
    return grid
