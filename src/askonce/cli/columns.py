"""A list of things in columns: a table that fits a terminal, or tab-separated lines for a pipe.

A terminal shows each thing in one line. What is too long is cut, and shows that it is. If the columns are still too
wide, the least important ones are left out. A pipe gets all columns, whole: a program reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from askonce.events import printable

NARROWEST = 8  # cells of a column that may be cut; below that, a word tells nobody anything
GAP = 2


class Column(NamedTuple):
    """A column: its heading, whether it may be cut, and on which side its words stand."""

    heading: str
    cut: bool = False
    right: bool = False


Rows = Sequence[Sequence[str]]


def fitted(columns: Sequence[Column], rows: Rows, width: int) -> list[tuple[int, int]]:
    """The columns that fit `width` cells, as (number, width). Columns are given by importance: the last goes first."""
    wanted = [max(cell_len(word) for word in words) for words in zip(_headings(columns), *rows, strict=True)]
    least = [min(wide, NARROWEST) if one.cut else wide for one, wide in zip(columns, wanted, strict=True)]
    kept = len(columns)
    while kept > 1 and sum(least[:kept]) + GAP * (kept - 1) > width:
        kept -= 1
    left = width - sum(least[:kept]) - GAP * (kept - 1)
    given = list(least[:kept])
    needy = sorted(range(kept), key=lambda one: wanted[one] - least[one])
    for others, number in zip(reversed(range(kept)), needy, strict=True):
        more = max(0, min(wanted[number] - given[number], left // (others + 1)))
        given[number] += more
        left -= more
    return list(enumerate(given))


def table(columns: Sequence[Column], rows: Rows, width: int) -> Table:
    """The columns that fit, in the order of their headings."""
    made = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    shown = fitted(columns, rows, width)
    for number, wide in shown:
        one = columns[number]
        made.add_column(
            one.heading, width=wide, no_wrap=True, overflow="ellipsis", justify="right" if one.right else "left"
        )
    for row in rows:
        made.add_row(*(Text(row[number]) for number, _wide in shown))
    return made


def lines(columns: Sequence[Column], rows: Rows) -> str:
    """Tab-separated lines, the first with the headings. What does not print, as a tab in a word, is shown as text."""
    return "".join("\t".join(map(printable, row)) + "\n" for row in (_headings(columns), *rows))


def _headings(columns: Sequence[Column]) -> list[str]:
    return [one.heading for one in columns]
