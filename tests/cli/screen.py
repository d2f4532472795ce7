"""What a terminal shows of the bytes that a program wrote to it: enough of one for what rich writes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

PART = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])", re.DOTALL)
COLOURS = "m"
MODES = "hl"


class Line(NamedTuple):
    """A line as the program wrote it, and the rows in which the terminal shows it, for it breaks what is too long."""

    text: str
    rows: list[str]


def width(text: str) -> int:
    """The cells of a text. Not rich's own count: this is what that is held to."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class Screen:
    """A terminal of so many columns, and as many rows as are needed."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[str]] = [[]]
        self._begins = [True]  # whether a row begins a line
        self._row = self._column = 0

    def write(self, told: str) -> None:
        """Show what a program wrote; ValueError for a sequence that nothing here should write."""
        at = 0
        for part in PART.finditer(told):
            if part.start() != at:
                break
            at = part.end()
            self._do(*part.groups())
        if at != len(told):
            raise ValueError(f"no such sequence: {told[at : at + 20]!r}")

    def lines(self) -> list[Line]:
        """What it shows at the end, without the spaces at the ends of lines, and without empty lines at the end."""
        found: list[Line] = []
        for begins, row in zip(self._begins, self._rows, strict=True):
            text = "".join(row)
            if begins:
                found.append(Line(text, [text]))
            else:
                found[-1] = Line(found[-1].text + text, [*found[-1].rows, text])
        shown = [Line(line.text.rstrip(), [row.rstrip() for row in line.rows]) for line in found]
        while shown and not shown[-1].text:
            shown.pop()
        return shown

    def _do(self, numbers: str, command: str, back: str, down: str, char: str) -> None:
        if char:
            self._put(char)
        elif back:
            self._column = 0
        elif down:
            self._to(self._row + 1, begins=True)
        elif command not in COLOURS + MODES:
            self._moves()[command](int(numbers or 1))

    def _moves(self) -> dict[str, Callable[[int], None]]:
        def up(rows: int) -> None:
            self._row = max(0, self._row - rows)

        def clear(_: int) -> None:
            self._rows[self._row] = []

        return {"A": up, "K": clear}

    def _put(self, char: str) -> None:
        cells = _cells(char)
        if self._column + cells > self._columns:
            self._to(self._row + 1, begins=False)
            self._column = 0
        row = self._rows[self._row]
        row.extend(" " * (self._column - len(row)))
        if not cells:
            row[self._column - 1] += char
        else:
            row[self._column : self._column + cells] = [char, *[""] * (cells - 1)]
        self._column += cells

    def _to(self, row: int, *, begins: bool) -> None:
        while len(self._rows) <= row:
            self._rows.append([])
            self._begins.append(begins)
        self._row = row
