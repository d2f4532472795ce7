"""A bar counts no time for which the machine was busy with others; and no test has a bar that does."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import took
from tests.took import Took

CLOCKS = {"monotonic", "perf_counter", "time"}


def pressed(at: Path, seconds: float) -> None:
    """Say that something has waited for a core for so long."""
    at.write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={seconds * 1e6:.0f}\nfull avg10=0.00 total=0\n")


@pytest.fixture
def pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    at = tmp_path / "cpu"
    pressed(at, 100.0)
    monkeypatch.setattr(took, "PRESSURE", at)
    return at


def test_time_counts_on_a_machine_that_has_nothing_else_to_do(pressure: Path):
    with Took() as watch:
        time.sleep(0.02)
    assert watch.seconds == watch.wall >= 0.02


def test_time_in_which_something_waited_for_a_core_does_not_count_up_to_a_patience(pressure: Path):
    with Took(patience=1.0) as watch:
        pressed(pressure, 100.5)
    assert watch.seconds == watch.wall - 0.5
    with Took(patience=1.0) as watch:
        pressed(pressure, 200.0)
    assert watch.seconds == watch.wall - 1.0


def test_where_the_system_does_not_tell_the_load_decides(pressure: Path, monkeypatch: pytest.MonkeyPatch):
    for text in ("", "some\n"):
        pressure.write_text(text)
        for load, counts in ((0.1, True), (9.0 * (os.cpu_count() or 1), False)):
            monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
            with Took() as watch:
                time.sleep(0.02)
            assert (watch.seconds >= 0.02) is counts
    pressure.unlink()
    assert took.stolen() > 0


def bars(source: str) -> Iterator[int]:
    """The lines on which a test asserts that the difference of two times of day is small."""
    for node in ast.walk(ast.parse(source)):
        for compared in ast.walk(node) if isinstance(node, ast.Assert) else ():
            if isinstance(compared, ast.Compare):
                sides = [compared.left, *compared.comparators]
                small = [isinstance(op, ast.Lt | ast.LtE) for op in compared.ops]
                if any(less and passed(side) for side, less in zip(sides, small, strict=False)):
                    yield compared.lineno


def passed(side: ast.expr) -> bool:
    """Whether it is the time that passed: a clock's reading, less an earlier one."""
    return (
        isinstance(side, ast.BinOp)
        and isinstance(side.op, ast.Sub)
        and isinstance(side.left, ast.Call)
        and isinstance(side.left.func, ast.Attribute)
        and side.left.func.attr in CLOCKS
    )


def test_no_bar_of_a_test_counts_how_busy_the_machine_was():
    here = Path(__file__).parent
    found = {
        f"{file.relative_to(here)}:{line}"
        for file in here.rglob("*.py")
        if file.name != Path(__file__).name and "() - " in (source := file.read_text())
        for line in bars(source)
    }
    assert not found, "tests.took.Took is what to compare with a bar"
    assert list(bars("assert 0 < time.monotonic() - began < 2")) == [1]
