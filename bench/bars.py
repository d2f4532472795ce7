"""`python -m bench.bars`: the whole table, one row after another, into docs/bars.md: as measured, missed bars too.

Written only when every row was run: half a table would hide the other half. `--quick` prints, and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import machine
from bench.cli import WORDS, measure
from bench.row import Outcome
from bench.table import TABLE

PAGE = Path(__file__).parents[1] / "docs" / "bars.md"
HEAD = """\
# Bars

What this project holds itself to, and what was measured. Written by `make bars`, never by hand; one row alone:
`python -m bench ROW` (`python -m bench --list` names them). Processes, files and servers are real, and on one machine.
Comparisons are made in turn, call by call, in one process; a ratio is the median of its runs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 when a bar was missed."""
    parser = argparse.ArgumentParser("python -m bench.bars", description="Measure all bars and write docs/bars.md.")
    parser.add_argument("--quick", action="store_true", help="every row at a small size; prints, writes nothing")
    said = parser.parse_args(arguments)
    facts = machine.facts()
    outcomes = measure(TABLE, quick=said.quick)
    if not said.quick:
        PAGE.write_text(page(facts, outcomes), "utf-8")
    missed = [outcome.row.name for outcome in outcomes if outcome.passed is False]
    print(
        f"\n{len(outcomes) - len(missed)} of {len(outcomes)} rows missed no bar; missed: {', '.join(missed) or 'none'}"
    )
    return 1 if missed else 0


def page(facts: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    rows = ["| row | what | bar | |", "|---|---|---|---|"]
    rows += [_line(one.row.name, one.row.what, one.row.bar, WORDS[one.passed]) for one in outcomes]
    parts = [HEAD, "\n".join(f"- {name}: {fact}" for name, fact in facts.items()), "\n".join(rows)]
    return "\n\n".join([*(part.rstrip() for part in parts), *map(_section, outcomes)]) + "\n"


def _section(outcome: Outcome) -> str:
    lines = [_line(one.case, one.measured, WORDS[one.passed]) for one in outcome.readings]
    head = f"## {outcome.row.name}\n\n{outcome.row.what}. Bar: {outcome.row.bar}. Took {outcome.seconds:.0f} s.\n"
    return "\n".join([head, "| case | measured | |", "|---|---|---|", *lines])


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
