"""What `ls` and `show` print to a terminal of 60, 80 and 200 columns, and to a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from unittest import mock

import pytest

from askonce import Cache
from askonce.cli import main
from askonce.testing import answer


def asked(number: int) -> dict[str, object]:
    return {"model": "gpt-4.1-mini-2025-04-14", "messages": [{"role": "user", "content": f"Question {number}"}]}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    made = f"sqlite:///{tmp_path_factory.mktemp('lists')}/lists.db"
    with Cache(made) as cache:
        for number in range(3):
            scope = "support/triage/v3/answers-to-customers" if number else ""
            cache.fetch(asked(number), lambda number=number: answer(asked(number)), scope=scope, tags=[f"doc:{number}"])
    return made


class Terminal(io.StringIO):
    """Takes what is printed, and says that somebody sees it. Real ones are in `terminal`, whose commands are forks."""

    def isatty(self) -> bool:
        return True


def in_a_terminal(columns: int, *words: str) -> list[str]:
    """The lines that a command prints to a terminal of so many columns."""
    around = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color", "NO_COLOR": "1"}
    said = Terminal()
    with mock.patch.dict(os.environ, around), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        assert main(list(words)) == 0, said.getvalue()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.getvalue()).splitlines()


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (60, ["key", "left", "age", "size", "scope", "model"]),
        (80, ["key", "left", "age", "size", "scope", "model"]),
        (200, ["key", "left", "age", "size", "scope", "model"]),
    ],
)
def test_a_terminal_shows_one_line_for_each_entry(url, columns, headings):
    head, *lines = in_a_terminal(columns, "ls", "--url", url)
    assert head.split() == headings
    assert len(lines) == 3
    assert max(map(len, [head, *lines])) <= columns
    assert all(re.match(r"[0-9a-f]{12}  ", line) for line in lines)
    if columns == 200:
        assert sum("support/triage/v3/answers-to-customers" in line for line in lines) == 2
        assert all("gpt-4.1-mini-2025-04-14" in line for line in lines)
    else:
        assert sum("…" in line for line in lines) >= 2


def test_a_pipe_gets_tab_separated_lines_with_whole_keys_and_all_columns(url, askonce):
    said = askonce("ls", "--url", url)
    head, *lines = [line.split("\t") for line in said.out.splitlines()]
    assert head == ["key", "form", "state", "left_s", "age_s", "size_bytes", "scope", "model", "tags"]
    for line in lines:
        one = dict(zip(head, line, strict=True))
        assert re.fullmatch("[0-9a-f]{64}", one["key"])
        assert (one["state"], one["model"]) == ("fresh", "gpt-4.1-mini-2025-04-14")
        assert int(one["left_s"]) > 80_000
        assert int(one["size_bytes"]) > 100
    assert {line[-1] for line in lines} == {"doc:0", "doc:1", "doc:2"}
    assert askonce("ls", "--url", url, "--full").out.splitlines()[0] == "\t".join(head)


def test_a_pipe_is_not_told_in_its_lines_that_there_are_more_or_none(url, askonce):
    first = askonce("ls", "--url", url, "--limit", "2")
    assert (len(first.out.splitlines()), "--limit" in first.err) == (3, True)
    none = askonce("ls", "--url", url, "--scope", "nowhere")
    assert (len(none.out.splitlines()), none.err) == (1, "no such entries\n")


@pytest.mark.parametrize("digits", [64, 12, 6])
def test_show_takes_any_beginning_of_a_key_that_no_other_key_has(url, askonce, digits):
    for line in askonce("ls", "--url", url).out.splitlines()[1:]:
        key = line.split("\t")[0]
        (shown,) = json.loads(askonce("show", key[:digits].upper(), "--url", url, "--json").out)
        assert shown["key"] == key


def test_a_beginning_of_several_keys_or_of_none_says_what_to_do(tmp_path, askonce):
    url = f"sqlite:///{tmp_path}/many.db"
    with Cache(url) as cache:
        made = [cache.fetch({"n": number}, lambda: {"a": 1}).key for number in range(40)]
    firsts = [key[0] for key in made]
    twice = next(one for one in firsts if firsts.count(one) > 1)
    several = askonce("show", twice, "--url", url)
    assert (several.code, "give more digits" in several.err) == (2, True)
    longest = next(key for key in made)
    none = askonce("show", longest[:-1] + ("0" if longest[-1] != "0" else "1"), "--url", url)
    assert (none.code, "no entry has the key" in none.err) == (1, True)
    assert askonce("show", "f" * 40, "--url", url).err.startswith("askonce: no key begins with")


def test_invalidate_takes_a_beginning_too_and_reaches_that_one_alone(tmp_path, askonce):
    url = f"sqlite:///{tmp_path}/one.db"
    with Cache(url) as cache:
        made = [cache.fetch({"n": number}, lambda: {"a": 1}).key for number in range(3)]
        assert askonce("invalidate", "--url", url, "--key", made[1][:16]).code == 0
        assert [cache.fetch({"n": number}, lambda: {"a": 1}).status.hit for number in range(3)] == [True, False, True]


def test_show_raw_prints_the_bytes_and_nothing_else(tmp_path, capsysbinary):
    from askonce.cli import main

    url = f"sqlite:///{tmp_path}/raw.db"
    with Cache(url) as cache:
        key = cache.fetch({"n": 1}, lambda: {"a": "\x1b[31mé"}).key
    assert main(["show", key[:20], "--url", url]) == 0
    assert b"\x1b" not in capsysbinary.readouterr().out
    assert main(["show", key[:20], "--url", url, "--raw"]) == 0
    assert json.loads(capsysbinary.readouterr().out) == {"a": "\x1b[31mé"}
    assert main(["show", key[:20], "--url", url, "--raw", "--json"]) == 2


@pytest.mark.parametrize("command", ["stats", "ls", "show", "invalidate", "sweep", "doctor"])
@pytest.mark.parametrize("place", ["given", "default"])
def test_no_command_makes_a_store_that_was_not_there(tmp_path, askonce, command, place):
    where = ["--url", f"sqlite:///{tmp_path}/folder/none.db"] if place == "given" else []
    more = {"show": ["abc"], "invalidate": ["--scope", "s"]}.get(command, [])
    before = sorted(tmp_path.rglob("*"))
    said = askonce(command, *more, *where)
    assert sorted(tmp_path.rglob("*")) == before
    if command == "doctor":
        assert (said.code, "is not there yet" in said.out) == (0, True)
    else:
        assert said.code == 1
        assert said.err.startswith("askonce: nothing is stored yet: sqlite:///")
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["stats", "ls", "doctor", "sweep", "demo"])
def test_an_empty_url_is_an_error(askonce, command):
    said = askonce(command, "--url", "")
    assert (said.code, "--url ''" in said.err) == (2, True)


def test_help_has_a_short_name_and_the_package_is_a_program(askonce):
    done = subprocess.run([sys.executable, "-m", "askonce", "-h"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Usage: askonce" in done.stdout) == (0, True)
    said = askonce("ls", "-h")
    assert (said.code, "Usage: askonce ls" in said.out) == (0, True)


def test_a_shell_can_complete_commands_and_options():
    environment = {**os.environ, "_ASKONCE_COMPLETE": "complete_bash", "COMP_WORDS": "askonce in", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "askonce"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split() == ["invalidate"]
