"""The lines of a TOML file: in which line each table and each key stands, for messages about them.

`tomllib` says nothing about lines once a file is valid. This module walks over the text of a valid file and notes where
its tables, keys and the keys of its inline tables begin. A text that `tomllib` refuses is not given to it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

Path = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''  # texts, of many lines and of one
    r"|#[^\n]*|\[\[|\]\]|[\[\]{}=,.\n]|[^\S\n]+|[^\s\[\]{}=,.#\"']+",
    re.DOTALL,
)


def positions(text: str) -> dict[Path, int]:
    """The line, from 1, of every table and key of a valid TOML text, by its path: ``("rule", 0, "ttl")``."""
    return _Walk(text).found


class _Walk:
    """One walk over a text."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._tokens = list(_tokens(text))
        self._at = 0
        self._table: Path = ()
        while self._at < len(self._tokens):
            self._statement()

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _statement(self) -> None:
        piece = self._peek()
        if piece == "\n":
            self._next()
        elif piece in {"[", "[["}:
            self._header()
        else:
            self._pair(self._table)

    def _header(self) -> None:
        opening, line = self._next()
        name = self._resolved(self._dotted())
        self._next()
        if opening == "[[":
            number = self._counts.get(name, 0)
            self._counts[name] = number + 1
            name = (*name, number)
        self._table = name
        self.found.setdefault(name, line)

    def _resolved(self, name: Path) -> Path:
        """A table's path, where names of arrays of tables mean their last table."""
        path: Path = ()
        for step in name[:-1]:
            path = (*path, step)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return (*path, name[-1])

    def _dotted(self) -> Path:
        steps: list[str] = []
        while self._peek() not in {"=", "]", "]]", ""}:
            piece, _ = self._next()
            if piece != ".":
                steps.append(_name(piece))
        return tuple(steps)

    def _pair(self, table: Path) -> None:
        line = self._tokens[self._at][1]
        path = (*table, *self._dotted())
        for depth in range(len(table) + 1, len(path) + 1):
            self.found.setdefault(path[:depth], line)
        self._next()
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._peek()
        if opening in {"[", "[["}:
            self._array(path)
        elif opening == "{":
            self._inline(path)
        else:
            # A bare number has dots in it, and a date has none of its colons split.
            while self._peek() not in {",", "\n", "]", "]]", "}", ""}:
                self._next()

    def _array(self, path: Path) -> None:
        if self._peek() == "[[":  # two arrays that begin together, not the header of a table
            self._tokens[self._at : self._at + 1] = [("[", self._tokens[self._at][1])] * 2
        self._next()
        number = 0
        while self._peek() not in {"]", "]]", ""}:
            if self._peek() in {",", "\n"}:
                self._next()
                continue
            self.found.setdefault((*path, number), self._tokens[self._at][1])
            self._value((*path, number))
            number += 1
        self._closed()

    def _closed(self) -> None:
        """Take one closing bracket, of which two may stand together."""
        if self._peek() == "]]":
            self._tokens[self._at] = ("]", self._tokens[self._at][1])
        elif self._peek():
            self._next()

    def _inline(self, path: Path) -> None:
        self._next()
        while self._peek() not in {"}", ""}:
            if self._peek() in {",", "\n"}:
                self._next()
            else:
                self._pair(path)
        if self._peek():
            self._next()


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """The tokens that matter, each with its line; a newline is one."""
    line, at = 1, 0
    for found in _TOKEN.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        piece = found[0]
        if piece == "\n" or not (piece.isspace() or piece.startswith("#")):
            yield piece, line


def _name(piece: str) -> str:
    """A bare or quoted key as the parser reads it."""
    return next(iter(tomllib.loads(f"{piece} = 0"))) if piece[0] in "\"'" else piece
