"""Help fits a terminal of any width, and says the same in each."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
import typer
from rich.cells import cell_len

from askonce.cli.app import app
from askonce.cli.parsing import LEAST

COMMANDS = ["", *cast("Any", typer.main.get_command(app)).commands]
WIDTHS = (LEAST + 2, 37, 45, 51, 52, 60, 80, 200)


def letters(text: str) -> list[str]:
    """What a help says, without its spaces and ends of lines."""
    return sorted(re.sub(r"\s", "", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_fits_a_terminal_of_any_width_and_loses_nothing(askonce, monkeypatch, command):
    said = {}
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        shown = askonce(*command.split(), "-h")
        assert (shown.code, shown.err) == (0, "")
        assert max(map(cell_len, shown.out.splitlines())) <= width, shown.out
        said[width] = letters(shown.out)
    assert len(set(map(tuple, said.values()))) == 1
