"""What commands print: JSON for programs, rich text for a terminal, plain text for a pipe. `cli.app` prints errors."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from askonce.cli.columns import Column, lines, table
from askonce.events import printable, readable
from askonce.gateway import amounts
from askonce.gateway.sections import SeveralProblems

T = TypeVar("T")
GAP = 2  # cells between a name and what it is
Columns = tuple[Sequence[Column], Callable[[T], Sequence[str]]]  # and the words of one thing in them


class _Safe(Console):
    """A console that shows what does not print by its escape, whatever is given to it, and from wherever it came.

    The last step, where styles and text are still apart. What stands in a table is escaped before, by `text`: here its
    columns have their widths already.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is to be shown."""
        for segment in super().render(renderable, options):
            if "…" in segment.text and not self.encoding.startswith("utf"):  # its escape would need six cells
                segment = segment._replace(text=segment.text.replace("…", "~"))  # noqa: PLW2901
            shown = segment.control or segment.text.isprintable()
            yield segment if shown else segment._replace(text=printable(segment.text, "\n"))

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, as every other output does: `output.reading` ends the command."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Standard output, or error. Without guessing at numbers and paths: the colours here mean something.

    A pipe is a pipe, also where $FORCE_COLOR is set, as it is in many builds: a program reads it.
    """
    stream = sys.stderr if stderr else sys.stdout
    made = _Safe(highlight=False, markup=False, stderr=stderr, force_terminal=stream.isatty())
    if made.is_dumb_terminal or not made.width:  # rich takes the first to have 80 columns, and believes COLUMNS=0
        made.size = ConsoleDimensions(*shutil.get_terminal_size())
    return made


def text(word: str) -> Text:
    """A word from a store, for a table."""
    return Text(printable(word) or "-")


def word(told: str) -> str:
    """A word from a store, for a line of columns: a tab, an end of a line and what does not print are shown as text."""
    return printable(told)


def raw(lines: str) -> None:
    """Lines that are ready: each of their words is printable (`columns.lines`)."""
    sys.stdout.write(lines)


def listed(things: Sequence[T], whole: Columns[T], short: Columns[T], *, full: bool) -> None:
    """A list: in a terminal `short`, in a table that fits it, unless it is to be `full`; else `whole`, in lines."""
    shown = console()
    if full or not shown.is_terminal:
        raw(lines(whole[0], [whole[1](one) for one in things]))
    elif things:
        shown.print(table(short[0], [short[1](one) for one in things], shown.width))


def sentence(told: str | Text, *, stderr: bool = False) -> None:
    """A sentence, or several lines: in a terminal they end between words; a pipe gets them as they are."""
    hanging(console(stderr=stderr), Text(), told)


def details(rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, a line each: side by side in a terminal, a tab between in a pipe; nothing is cut."""
    shown = console()
    if not shown.is_terminal:
        raw("".join(f"{name}\t{word(told)}\n" for name, told in rows))
        return
    wide = max(cell_len(name) for name, _ in rows) + GAP
    for name, told in rows:
        hanging(shown, Text(name.ljust(wide)), text(told))


def hanging(shown: Console, first: Text, told: str | Text) -> None:
    """A text after the words that begin its first line; further lines begin below it."""
    # A word that is longer than a line, such as a path, a URL or a key, stays whole: the terminal itself breaks it, and
    # a copy of it has no break.
    safe = Text(printable(told, "\n")) if isinstance(told, str) else told
    for number, part in enumerate(_folded(safe, shown.width - first.cell_len) if shown.is_terminal else [safe]):
        shown.print(Text(" " * first.cell_len) + part if number else first + part, soft_wrap=True)


def _folded(told: Text, room: int) -> Iterator[Text]:
    for line in told.split("\n", allow_blank=True):
        for part in line.divide(_breaks(line.plain, room)):
            part.rstrip()
            yield part


def _breaks(line: str, room: int) -> list[int]:
    """Where a line ends and another begins: before the words for which it has no room."""
    found, used = [], 0
    for one in re.finditer(r"\S+\s*", line):
        if used and used + cell_len(one[0].rstrip()) > room:
            found.append(one.start())
            used = 0
        used += cell_len(one[0])
    return found


def prose(body: str) -> None:
    """A text of several lines, as it is but for what does not print."""
    sys.stdout.write(readable(body) + "\n")


def as_json(told: Any) -> None:
    """One JSON document; what does not print is escaped in it, as all that is not ASCII is."""
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def error(what: object) -> None:
    """One line on standard error; one for each problem, if several were found together."""
    for line in str(what).splitlines() if isinstance(what, SeveralProblems) else [str(what)]:
        sys.stderr.write(f"askonce: {printable(' '.join(line.split()))}\n")


def count(number: int, what: str, several: str = "") -> str:
    """A number of things: ``1 call``, ``2,100 calls``."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def time(seconds: float) -> str:
    """A duration, with the digits that matter."""
    if not seconds:
        return "0 s"
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


def short_size(octets: int) -> str:
    """The same in 8 cells at most, for a table: ``365 B``."""
    return size(octets).replace("bytes", "B")
