"""What each command prints on terminals of 60, 80 and 200 columns, and in a pipe: kept, read by people, and lawful.

`make screens` writes the folder `screens` anew. Read the difference as its user would: it is the command's face.
"""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import typer

from askonce.cli import columns
from askonce.cli.app import app
from askonce.events import printable
from tests.cli import prepared
from tests.cli.running import ran
from tests.cli.screen import Line, Screen, width
from tests.cli.terminal import Job, Said

SCREENS = Path(__file__).parent / "screens"
WRITTEN = SCREENS / "written-with"
PIPE = 0
KEPT = (60, 80, 200, PIPE)
HELPS = (60, 80, PIPE)
TRIED = (40,)  # the laws hold at any width
AT = ["--url", prepared.URL]
INDENT = 24  # cells before a text that is too long for a line and begins in it
DATA = {"digest", "keys"}  # they print lines for files, which are what they are
HELP = "help"


class Case(NamedTuple):
    """A command line, its exit code, and what it reads."""

    words: tuple[str, ...]
    code: int = 0
    reads: str = ""

    def __str__(self) -> str:
        return " ".join(["askonce", *(f"'{word}'" if " " in word else word for word in self.words)])


REQUEST = json.dumps(prepared.asked("Hello", temperature=0.75))
CASES: dict[str, list[Case]] = {
    "serve": [Case(("serve", "--upstream", "nowhere"), 2)],
    "demo": [Case(("demo",))],
    "doctor": [Case(("doctor",), 1), Case(("doctor", "--url", ""), 2)],
    "stats": [Case(("stats", *AT)), Case(("stats", *AT, "--prefix", "nobody"))],
    "savings": [
        Case(("savings", *AT)),
        *(Case(("savings", *AT, "--by", by)) for by in ("model", "scope", "tenant", "day")),
        Case(("savings", *AT, "--prefix", "nobody")),
    ],
    "ls": [
        Case(("ls", *AT)),
        Case(("ls", *AT, "--dead", "--scope", "billing")),
        Case(("ls", *AT, "--limit", "2")),
        Case(("ls", *AT, "--scope", "nowhere")),
        Case(("ls", "--url", "sqlite:///nothing.db"), 1),
    ],
    "show": [
        Case(("show", "f2bc", *AT)),
        Case(("show", "9b91", *AT)),
        Case(("show", "93a0", *AT)),
        Case(("show", "ffff", *AT), 1),
    ],
    "top": [Case(("top", "--once", *AT))],
    "dashboard": [Case(("dashboard", *AT))],
    "why": [
        Case(("why", *AT)),
        Case(("why", "196e", *AT)),
        Case(("why", "b6a7", *AT)),
        Case(("why", "-", *AT), reads=REQUEST),
        Case(("why", "0" * 64, *AT), 1),
        Case(("why", *AT, "--prefix", "nobody")),
    ],
    "flights": [Case(("flights", *AT)), Case(("flights", *AT, "--prefix", "nobody"))],
    "invalidate": [
        Case(("invalidate", "--scope", "支持", "--scope", "support/triage", "--dry-run", *AT)),
        Case(("invalidate", "--key", "f2bc", *AT)),
        Case(("invalidate", *AT), 2),
    ],
    "sweep": [Case(("sweep", *AT)), Case(("sweep", *AT, "--old-prefix", "llm:v3"))],
    "digest": [Case(("digest", "--tenant", "red"), reads="a key\nanother\n")],
    "keys": [Case(("keys",)), Case(("keys", "--file", "askonce.keys"))],
}
LISTS = {"ls", "why", "flights"}  # a terminal has a line for each thing
TABLES = {"ls", "stats", "savings", "why", "flights", "top", "doctor"}  # a pipe has a heading and tab-separated lines
COMMANDS = sorted(cast("Any", typer.main.get_command(app)).commands)


def at_widths(name: str) -> list[tuple[Case, int]]:
    """The command lines of a command at each width. A help is never narrower than click's 50 columns, nor wider than 80."""
    return [(case, at) for case in cases(name) for at in (HELPS if helps(name, case) else (*KEPT, *TRIED))]


def kept(name: str) -> list[tuple[Case, int]]:
    """Those that are kept in the folder."""
    return [(case, at) for case, at in at_widths(name) if at in KEPT]


def helps(name: str, case: Case) -> bool:
    return name == HELP or "-h" in case.words


def cases(name: str) -> list[Case]:
    if name == HELP:
        return [Case(()), Case(("--version",))]
    return [Case((name, "-h")), *CASES[name]]


NAMES = [HELP, *COMMANDS]


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[tuple[str, int], Said]:
    """What everything printed, by command line and columns. One process runs all: see `terminal`."""
    jobs = [one for name in NAMES for one in at_widths(name)]
    found = ran([Job(case.words, at, case.reads) for case, at in jobs], tmp_path_factory.mktemp("home"))
    return {(str(case), at): one for (case, at), one in zip(jobs, found, strict=True)}


def lines(one: Said, at: int) -> list[Line]:
    """The lines of a terminal; those of a pipe are what they are."""
    if at == PIPE:
        return [Line(text, [text]) for text in one.out.splitlines()]
    screen = Screen(at)
    screen.write(one.out)
    return screen.lines()


def page(name: str, said: dict[tuple[str, int], Said]) -> str:
    """What is kept of a command. A tab is shown as an arrow, and standard error after a mark."""
    written: list[str] = []
    for case, at in kept(name):
        one = said[str(case), at]
        written += [f"$ {case}    # {f'{at} columns' if at else 'a pipe'}, exit code {one.code}"]
        written += [row for line in lines(one, at) for row in line.rows]
        written += [f"2> {line}" for line in one.err.splitlines()]
        written.append("")
    return "\n".join(written).replace("\t", "⇥")


def test_every_command_is_kept():
    assert set(COMMANDS) == CASES.keys(), "a new command needs a line in CASES; then: make screens"
    if "ASKONCE_SCREENS" not in os.environ:
        assert {path.stem for path in SCREENS.glob("*.txt")} == set(NAMES), "write them anew: make screens"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_was_read_and_kept(name, said):
    file, now = SCREENS / f"{name}.txt", page(name, said)
    here = " ".join(f"{one} {version(one)}" for one in ("typer", "rich"))
    if "ASKONCE_SCREENS" in os.environ:
        file.write_text(now, "utf-8")
        WRITTEN.write_text(here, "utf-8")
    if here != (there := WRITTEN.read_text("utf-8")):
        pytest.skip(f"this is {here}, which may lay out in another way than {there}")
    assert now == file.read_text("utf-8"), "make screens, and read the difference"


@pytest.mark.parametrize("name", NAMES)
def test_every_exit_code_is_as_said_and_nothing_breaks(name, said):
    for case, at in at_widths(name):
        one = said[str(case), at]
        assert one.code == case.code, (str(case), at, one)
        assert "Traceback" not in one.out + one.err
        assert not one.code or bool(one.out) != (one.err.count("\n") == 1), "an answer, or one line"


def told(line: Line, at: int) -> bool:
    """Whether a line fits, or is too long because of its last word alone: a path, a key, a URL."""
    if len(line.rows) == 1:
        return width(line.text) <= at
    before, _, last = line.text.rpartition(" ")
    return width(last) > at - INDENT and width(before) < INDENT


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DATA])
def test_no_line_is_wider_than_the_terminal(name, said):
    for case, at in at_widths(name):
        shown = lines(said[str(case), at], at) if at else []
        if name == "show" and Line("", [""]) in shown:
            shown = shown[: shown.index(Line("", [""]))]  # a body is shown as it is
        wrong = [line for line in shown if not told(line, at)]
        assert not wrong, (str(case), at)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_cell_is_cut_to_fewer_than_eight_columns(name, said):
    for case in CASES[name]:
        for at in (*KEPT[:-1], *TRIED):
            rows = [row for line in lines(said[str(case), at], at) for row in line.rows]
            cells = [cell for row in rows for cell in re.split(" {2,}", row) if cell.endswith("…")]
            assert all(width(cell) >= columns.NARROWEST for cell in cells), (str(case), at, cells)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_has_one_line_for_each_thing_at_any_width(name, said):
    case = CASES[name][0]
    things = len(said[str(case), PIPE].out.splitlines()) - 1
    assert things >= 2
    for at in (*KEPT[:-1], *TRIED):
        head, *rows = lines(said[str(case), at], at)
        assert head.text.startswith("key ")
        assert len(rows) == things
        assert all(re.match(r"[0-9a-f]{12} ", row.text) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_gets_plain_text(name, said):
    for case in cases(name):
        one = said[str(case), PIPE]
        assert "\x1b" not in one.out + one.err
        assert not re.search("[\u2500-\u259f…]", one.out), "no borders, and nothing is cut"
        assert all(char.isprintable() or char in "\t\n" for char in one.out + one.err)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_pipe_gets_all_columns_of_every_row_under_one_heading(name, said):
    for case in CASES[name]:
        one = said[str(case), PIPE]
        if not one.out:
            assert one.code
            continue
        head, *rows = one.out.splitlines()
        assert head == head.lower()
        assert len(set(head.split("\t"))) == head.count("\t") + 1 >= 3
        assert {row.count("\t") for row in rows} <= {head.count("\t")}, str(case)


@pytest.mark.parametrize("name", ["ls", "stats", "why"])
def test_a_pipe_gets_whole_values_and_hostile_ones_as_text(name, said):
    words = {word for row in said[str(CASES[name][0]), PIPE].out.splitlines() for word in row.split("\t")}
    names = {prepared.LONG_SCOPE, prepared.LONG_MODEL, prepared.WIDE_SCOPE, prepared.WIDE_MODEL, prepared.EMOJI_SCOPE}
    assert names | {printable(prepared.HOSTILE)} <= words


def test_columns_of_wide_and_joined_characters_begin_where_those_of_others_do(said):
    """The age and size of an entry stand under each other, whatever its scope is written in."""
    for at in (*KEPT[:-1], *TRIED):
        shown = lines(said[str(CASES["savings"][2]), at], at)
        first = next(number for number, line in enumerate(shown) if line.text.startswith("scope "))
        head, *rows = [line for line in shown[first:] if "saved" in line.text or "$" in line.text]
        ends = width(head.text.partition("saved")[0]) + len("saved")
        for row in rows:
            cells, reached = "", 0
            for char in row.text:
                if reached == ends:
                    break
                reached += width(char)
                cells += char
            assert re.search(r" -?\$[0-9.,]+$", cells), (at, row.text)
