"""How commands speak: JSON for programs, rich for a terminal, plain text for a pipe; errors are the frame's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from askonce.cli.columns import Column, lines, table
from askonce.events import printable, readable
from askonce.gateway import amounts

T = TypeVar("T")
Columns = tuple[Sequence[Column], Callable[[T], Sequence[str]]]  # and the words of one thing in them


class _Safe(Console):
    """A console that shows what does not print by its escape, whatever is given to it, and from wherever it came.

    The last step, where styles and text are still apart. What stands in a table is escaped before, by `text`: here its
    columns have their widths already.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is to be shown."""
        for segment in super().render(renderable, options):
            shown = segment.control or segment.text.isprintable()
            yield segment if shown else segment._replace(text=printable(segment.text, "\n"))


def console(*, stderr: bool = False) -> Console:
    """Standard output, or error. Without guessing at numbers and paths: the colours here mean something."""
    return _Safe(highlight=False, markup=False, stderr=stderr)


def text(word: str) -> Text:
    """A word from a store, for a table."""
    return Text(printable(word) or "-")


def word(told: str) -> str:
    """A word from a store, for a line of columns: a tab, an end of a line and what does not print are shown as text."""
    return printable(told)


def raw(lines: str) -> None:
    """Lines that are ready: each of their words was made printable."""
    sys.stdout.write(lines)


def listed(things: Sequence[T], whole: Columns[T], short: Columns[T], *, full: bool) -> None:
    """A list: in a terminal `short`, in a table that fits it, unless it is to be `full`; else `whole`, in lines."""
    shown = console()
    if full or not shown.is_terminal:
        raw(lines(whole[0], [whole[1](one) for one in things]))
    elif things:
        shown.print(table(short[0], [short[1](one) for one in things], shown.width))


def prose(body: str) -> None:
    """A text of several lines, as it is but for what does not print."""
    sys.stdout.write(readable(body) + "\n")


def as_json(told: Any) -> None:
    """One JSON document; what does not print is escaped in it, as all that is not ASCII is."""
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def error(what: object) -> None:
    """One line on standard error."""
    sys.stderr.write(f"askonce: {printable(' '.join(str(what).split()))}\n")


def count(number: int, what: str, several: str = "") -> str:
    """A number of things: ``1 call``, ``2,100 calls``."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def time(seconds: float) -> str:
    """A duration, with the digits that matter."""
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    if seconds >= 0.01:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1_000_000:.0f} us"


def span(seconds: float) -> str:
    """A span for people, in two of days, hours, minutes and seconds."""
    if seconds < 0:
        return "-" + span(-seconds)
    for unit, name, small, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{name} {int(seconds % unit // small)}{less}"
    return f"{seconds:.0f}s"


def size(octets: int) -> str:
    """A size in bytes, for people."""
    return " ".join(amounts.size(octets))
