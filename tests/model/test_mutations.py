"""The test of the tests: if any one check of core.lease is removed, a law or a walk must notice.

A mutant is the source with one piece replaced, compiled separately; the code of its functions is put into the real
module's functions for the time of one test. So every importer of any of them runs on the mutant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from hypothesis import Phase

from askonce.core import lease
from askonce.testing import trial
from tests.laws import test_stores as stores
from tests.model import test_walks as walks
from tests.model.mutants import MUTANTS
from tests.model.places import MemoryPlace, closing

WALKS = 150
SOURCE = Path(lease.__file__).read_text("utf-8")


@contextlib.contextmanager
def mutated(old: str, new: str) -> Iterator[None]:
    """The module with one piece of its source replaced."""
    assert SOURCE.count(old) == 1, f"{SOURCE.count(old)} times in core/lease.py: {old!r}"
    mutant = ModuleType("mutant")
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), mutant.__dict__)
    kept = {
        function: function.__code__
        for function in vars(lease).values()
        if isinstance(function, FunctionType) and function.__module__ == lease.__name__
    }
    for function in kept:
        function.__code__ = getattr(mutant, function.__name__).__code__
    try:
        yield
    finally:
        for function, code in kept.items():
            function.__code__ = code


def broken_law() -> str:
    """The first law that a memory breaks; "" when it keeps them all."""
    for name in sorted(dir(stores.TestMemory)):
        if name.startswith("test_"):
            law = stores.TestMemory()
            law.setup_method()
            try:
                getattr(law, name)()
            except Exception:
                return name
            finally:
                law.teardown_method()
    return ""


def broken_walk() -> str:
    """The promise that a walk through a memory breaks, soon; "" when all of them keep all."""
    with closing(MemoryPlace()) as place:
        try:
            walks.walk(place, WALKS, phases=(Phase.generate,))
        except Exception as broken:
            return str(broken).partition("\n")[0] or type(broken).__name__
    return ""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(trial, "PATIENCE", 0.5)


@pytest.mark.parametrize(("old", "new"), MUTANTS.values(), ids=MUTANTS.keys())
def test_a_dropped_check_is_noticed(old, new):
    with mutated(old, new):
        assert broken_law() or broken_walk()


def test_nothing_is_noticed_where_nothing_was_dropped():
    with mutated("from __future__", "from __future__"):
        assert (broken_law(), broken_walk()) == ("", "")


def report() -> None:
    """Which of the two notices what: `python -m tests.model.test_mutations`."""
    trial.PATIENCE = 0.5
    for name, (old, new) in MUTANTS.items():
        with mutated(old, new):
            print(f"{name} | {broken_law() or '-'} | {broken_walk() or '-'}", flush=True)


if __name__ == "__main__":
    report()
