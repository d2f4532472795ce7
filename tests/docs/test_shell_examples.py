"""Every command line of askonce in README, pages and recipes is one: its command, its options and their values exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from askonce.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(?:console|bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:python -m )?askonce (\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`askonce ([a-z][^`\n]*)`")
REST = re.compile(r"\s(?:[|<&;#]|\d?>).*$")  # a pipe, a redirection, a remark
COMMANDS = cast("Any", typer.main.get_command(app)).commands


def lines() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in FENCED.findall(page.read_text("utf-8")):
            told = block.replace("\\\n", " ")
            found += [(page.relative_to(ROOT).as_posix(), REST.sub("", line)) for line in LINE.findall(told)]
    return found


def parsed(line: str) -> str:
    """What is wrong with a command line, "" if nothing is."""
    name, *words = shlex.split(line)
    if name not in COMMANDS:
        return f"no command {name}"
    try:
        COMMANDS[name].make_context(name, words)
    except Exception as wrong:  # of click, or ours
        return str(wrong)
    return ""


def test_every_command_line_in_a_block_can_be_parsed():
    assert len(lines()) > 25
    assert {(page, line): wrong for page, line in lines() if (wrong := parsed(line))} == {}


def test_every_command_named_in_a_sentence_is_there_with_its_options():
    told = [(page, line) for page in PAGES for line in INLINE.findall(page.read_text("utf-8"))]
    known = {name: {option for one in command.params for option in one.opts} for name, command in COMMANDS.items()}

    def is_one(line: str) -> bool:
        name, *words = line.split()
        options = {re.split(r"[=\[,.]", word)[0] for word in words if word.startswith("--")}
        return name in known and options <= known[name] | {"--help"}

    assert len(told) > 30
    assert [(page.name, line) for page, line in told if not is_one(line)] == []


@pytest.mark.parametrize("line", ["lss --full", "ls --ful", "savings --by colour", "top --every 0", "why --limit x"])
def test_a_line_that_is_none_is_found(line):
    assert parsed(line)
