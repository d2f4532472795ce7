"""A command's output where nobody reads it, no disk has room for it, no locale has its letters, no terminal has colours."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from tests.cli import prepared
from tests.cli.running import ran
from tests.cli.screen import width
from tests.cli.terminal import Job, Said

AT = ["--url", prepared.URL]
COMMANDS = {
    "ls": ["ls", *AT],
    "json": ["ls", "--json", *AT],
    "stats": ["stats", *AT],
    "savings": ["savings", *AT],
    "why": ["why", *AT],
    "flights": ["flights", *AT],
    "show": ["show", "f49a", *AT],
    "raw": ["show", "f49a", "--raw", *AT],
    "top": ["top", "--once", *AT],
    "watched": ["top", "--every", "0.2", *AT],  # without an end of its own
    "doctor": ["doctor"],
    "demo": ["demo"],
    "sweep": ["sweep", *AT],
    "keys": ["keys"],
    "help": ["-h"],
    "help of a command": ["serve", "-h"],
    "version": ["--version"],
    "nothing": [],
}
ENDLESS = {"watched"}
OUTPUTS = {
    "left": {"OUT": "left"},
    "full": {"OUT": "full"},
    "closed": {"OUT": "closed"},
    "ascii": {"ENCODING": "ascii"},
    "dumb": {"TERM": "dumb"},
    "no colours": {"NO_COLOR": "1"},
}
TERMINALS = {"dumb": 60, "no colours": 60}
JOBS = {
    (name, output): Job(words, TERMINALS.get(output, 0), "", around)
    for output, around in OUTPUTS.items()
    for name, words in COMMANDS.items()
    if name not in ENDLESS or output in {"left", "full"}
}
NONE = ["ls", "--tag", "no such", *AT]
LOUD = COMMANDS | {"none": NONE, "invalidate": ["invalidate", "--scope", "a scope of several words " * 4, *AT]}
QUIET = {"left", "raw", "demo", "keys", "help", "help of a command", "version", "nothing", "doctor"} | ENDLESS
WIDTHS = {"no width": "0", "a width": "9", "nonsense": "wide"}  # $COLUMNS of a pipe
JOBS |= {
    (name, output): Job(words, 0, "", {"COLUMNS": columns})
    for output, columns in WIDTHS.items()
    for name, words in LOUD.items()
    if name not in QUIET
}
JOBS |= {("why", "ascii terminal"): Job(COMMANDS["why"], 60, "", {"ENCODING": "ascii"})}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[tuple[str, str], Said]:
    found: Sequence[Said] = ran(list(JOBS.values()), tmp_path_factory.mktemp("home"))
    return dict(zip(JOBS, found, strict=True))


def of(said: dict[tuple[str, str], Said], output: str) -> dict[str, Said]:
    return {name: one for (name, where), one in said.items() if where == output}


def test_a_reader_that_has_left_is_no_failure_and_nothing_is_said_of_it(said):
    assert {name: (one.code, one.err) for name, one in of(said, "left").items()} == dict.fromkeys(COMMANDS, (0, ""))


def test_a_full_disk_is_one_line_and_a_failure(said):
    wrong = (1, "askonce: standard output: no space is left: write to another file, or make room\n")
    assert {name: (one.code, one.err) for name, one in of(said, "full").items()} == dict.fromkeys(COMMANDS, wrong)


def test_a_service_without_a_standard_output_does_its_work(said):
    assert {name: (one.code, one.err) for name, one in of(said, "closed").items()} == {
        name: (name == "doctor", "") for name in COMMANDS.keys() - ENDLESS
    }


def test_letters_that_a_locale_lacks_are_shown_by_their_numbers(said):
    found = of(said, "ascii")
    assert {name: one.err for name, one in found.items()} == dict.fromkeys(found, "")
    wide = prepared.WIDE_MODEL.encode("ascii", "backslashreplace").decode()
    for name in ("ls", "stats", "why", "show"):
        assert wide in found[name].out
    assert {one["model"] for one in json.loads(found["json"].out)} >= {prepared.WIDE_MODEL}
    assert "退款" in found["raw"].out, "the bytes of an answer are what they are"


def test_a_pipe_has_no_width_whatever_the_environment_says(said):
    none, nine, nonsense = (of(said, output) for output in WIDTHS)
    assert none == nine == nonsense
    assert all(one.out for one in none.values())
    assert none["none"].err == "no such entries\n"
    assert none["invalidate"].out.count("\n") == 1


def test_a_word_that_is_cut_fits_a_terminal_without_the_mark_of_it(said):
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said["why", "ascii terminal"].out).splitlines()
    assert any("~  " in line for line in lines)
    assert all(width(line) <= 60 for line in lines if "\\" not in line)


def test_a_terminal_that_knows_no_sequences_gets_none_and_lines_that_fit_it(said):
    for name, one in of(said, "dumb").items():
        assert "\x1b" not in one.out, name
        lines = one.out.splitlines()
        assert all(width(line) <= 60 or re.search(r"\S{37}", line) or name in {"raw", "json"} for line in lines), name


def test_no_color_leaves_weight_and_takes_colours(said):
    for name, one in of(said, "no colours").items():
        assert not re.search(r"\x1b\[[0-9;]*(3[0-79]|4[0-79]|9[0-7]|[34]8;)[0-9;]*m", one.out), name
    assert "\x1b[1m" in of(said, "no colours")["ls"].out
