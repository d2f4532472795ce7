"""`python -m bench.bars`: measure the whole table, one row after another, into docs/bars.md, missed bars included.

The table takes more than an hour, so each row's outcome is noted in bench/bars.json when it is known. An interrupted
run continues with `--missing`; after a change, the rows concerned are measured again by name. The page is written when
every row has a note: half a table would hide the other half.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.cli import WORDS, measure
from bench.row import ROWS, Outcome, Row
from bench.table import TABLE

NOTES = Path(__file__).with_name("bars.json")
PAGE = Path(__file__).parents[1] / "docs" / "bars.md"
HEAD = """\
# Bars

Each row has a bar (a limit that this project holds itself to), and what was measured. A missed bar stays on this page.
`make bars` writes the page. `python -m bench ROW` measures one row, and `python -m bench --list` names the rows. All
processes, files and servers are real, and run on one machine.

A comparison alternates between its two sides, call by call, in one process. Its ratio is the median of three separate
runs, shown with the lowest and the highest. Each row is measured on a clean commit. The load is the average of the last
minute. `python -m bench.against COMMIT` shows what a commit changed.
"""
EACH = ("date", "commit", "load before", "load after")  # facts of each row

Notes = dict[str, dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 if a bar was missed."""
    parser = argparse.ArgumentParser("python -m bench.bars", description="Measure all bars and write docs/bars.md.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="measure these again; default: all")
    parser.add_argument("--missing", action="store_true", help="measure the rows of which there is no note yet")
    parser.add_argument("--quick", action="store_true", help="every row at a small size; prints, notes nothing")
    said = parser.parse_args(arguments)
    if unknown := [name for name in said.rows if name not in ROWS]:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    missed = []
    for row in _chosen(said.rows, _noted() if said.missing else {}):
        facts = {} if said.quick else _clean(machine.facts())
        (outcome,) = measure([row], quick=said.quick)
        missed += [row.name] if outcome.passed is False else []
        if not said.quick:
            if _clean(machine.facts())["commit"] != facts["commit"]:
                raise SystemExit(f"{row.name}: the commit changed while it was measured; measure it again")
            _note(outcome, facts | {"load after": machine.load()})
    notes = _noted()
    if not said.quick and notes.keys() >= ROWS.keys():
        PAGE.write_text(page(notes), "utf-8")
    print(f"\nmissed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


def _clean(facts: dict[str, str]) -> dict[str, str]:
    """The same facts; SystemExit if they would not say what was measured."""
    if changed := machine.uncommitted():
        raise SystemExit(
            f"numbers belong to a commit, and this tree is in none:\n{changed}\n"
            "Commit it, or use --quick, or `python -m bench ROW`, which note nothing."
        )
    return facts


def _noted() -> Notes:
    try:
        found: Notes = json.loads(NOTES.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return {name: note for name, note in found.items() if name in ROWS and "dirty" not in note["facts"]["commit"]}


def _note(outcome: Outcome, facts: Mapping[str, str]) -> None:
    note = {
        "facts": facts,
        "passed": outcome.passed,
        "seconds": round(outcome.seconds),
        "readings": [[one.case, one.measured, one.passed] for one in outcome.readings],
    }
    # Read again, because rows that mostly wait may be measured at once, each by a run of its own.
    NOTES.write_text(json.dumps(_noted() | {outcome.row.name: note}, indent=1) + "\n", "utf-8")


def _chosen(names: Sequence[str], but: Mapping[str, object]) -> list[Row]:
    return [ROWS[name] for name in names] or [row for row in TABLE if row.name not in but]


def page(notes: Notes) -> str:
    """The whole page."""
    facts = max((note["facts"] for note in notes.values()), key=lambda facts: str(facts["date"]))
    rows = ["| row | what | bar | |", "|---|---|---|---|"]
    rows += [_line(row.name, row.what, row.bar, WORDS[notes[row.name]["passed"]]) for row in TABLE]
    loads = sorted(float(note["facts"]["load before"]) for note in notes.values())
    shared = [f"- {name}: {fact}" for name, fact in facts.items() if name not in EACH]
    shared.append(f"- load before a row: {loads[0]:.2f} to {loads[-1]:.2f}")
    sections = [_section(row, notes[row.name]) for row in TABLE]
    return "\n\n".join([part.rstrip() for part in (HEAD, "\n".join(shared), "\n".join(rows), *sections)]) + "\n"


def _section(row: Row, note: dict[str, Any]) -> str:
    facts = note["facts"]
    loads = f"load {facts['load before']} before and {facts.get('load after', 'not noted')} after"
    when = f"{facts['date']}, commit {facts['commit']}, {loads}, took {note['seconds']} s"
    head = f"## {row.name}\n\n{row.what}. Bar: {row.bar}. Measured {when}.\n"
    lines = [_line(case, measured, WORDS[passed]) for case, measured, passed in note["readings"]]
    return "\n".join([head, "| case | measured | |", "|---|---|---|", *lines])


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
