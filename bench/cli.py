"""`python -m bench`: which rows, how large, printed how. Ctrl-C and SIGTERM end what a row started, then the run."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.row import ROWS, Outcome, Reading, Row, run
from bench.table import TABLE

WORDS = {True: "pass", False: "FAIL", None: "-"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; 1 if a bar was missed."""
    parser = argparse.ArgumentParser("python -m bench", description="Measure rows of the table of bars.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="which ones; default: the light ones")
    parser.add_argument("--list", action="store_true", help="the rows there are")
    parser.add_argument("--quick", action="store_true", help="a small size: does it work, not how well")
    parser.add_argument("--json", action="store_true", help="one JSON object a reading")
    said = parser.parse_args(arguments)
    if said.list:
        for row in TABLE:
            print(f"{row.name:15} {'heavy' if row.heavy else '     '}  {row.what}")
        return 0
    if unknown := [name for name in said.rows if name not in ROWS]:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    chosen = [ROWS[name] for name in said.rows] or [row for row in TABLE if not row.heavy]
    outcomes = measure(chosen, quick=said.quick, as_json=said.json)
    return 1 if any(outcome.passed is False for outcome in outcomes) else 0


def measure(rows: Sequence[Row], *, quick: bool, as_json: bool = False) -> list[Outcome]:
    """Run rows one after another, and print each reading as it comes."""
    outcomes = []
    with _measuring():
        for row in rows:
            if not as_json:
                print(f"\n{row.name}: {row.what}\n    bar: {row.bar}", flush=True)
            outcomes.append(run(row, quick=quick, tell=lambda reading, row=row: _print(row, reading, as_json)))  # type: ignore[misc]
    return outcomes


@contextmanager
def _measuring() -> Iterator[None]:
    """Let SIGTERM unwind, and silence askonce's warnings, which belong to the scenario; restore both afterwards."""
    log = logging.getLogger("askonce")
    level, handler = log.level, signal.signal(signal.SIGTERM, _end)
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        signal.signal(signal.SIGTERM, handler)


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # unwinds: the blocks of a row end what it started


def _print(row: Row, reading: Reading, as_json: bool) -> None:
    if as_json:
        line: dict[str, Any] = {"row": row.name, "bar": row.bar, **reading._asdict(), "numbers": dict(reading.numbers)}
        print(json.dumps(line), flush=True)
    else:
        print(f"    {WORDS[reading.passed]:4}  {reading.case}: {reading.measured}", flush=True)
