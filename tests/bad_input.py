"""What holds for every error of bad input: one line, which says what was wrong and what to do, and shows no secret."""

from __future__ import annotations

import re
from pathlib import Path

SECRET = "hunter2"
# What tells a user what to do: a verb in the imperative, or the command's help.
REMEDY = re.compile(
    r"\b(write|give|name|pass|leave|see|set|make|say|remove|delete|start|add|separate|did you mean|repeat|begin|put|check"
    r"|chmod|pip install|let|open|return|needs?|belongs|stop|quote)\b",
    re.IGNORECASE,
)
LONGEST = 700  # characters of a line


def well_told(line: str) -> None:
    """Assert that a line is an error as it should be."""
    assert "\n" not in line.strip(), line
    assert REMEDY.search(line), f"it does not say what to do: {line}"
    assert SECRET not in line, line
    assert len(line) < LONGEST, line


def files(*folders: Path) -> dict[str, tuple[int, int]]:
    """All that is in some folders: sizes and times of change."""
    found = [path for folder in folders for path in folder.rglob("*")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found if path.is_file()} | {
        str(path): (0, 0) for path in found if path.is_dir()
    }
